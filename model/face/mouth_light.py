"""The light of a photograph, as far as a mouth that is drawn into it needs to know.

Skin alone does not tell light from tone, so the whites of the eyes are asked as well. Constants are
least-squares fits to 488 portraits that show their own teeth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.landmarks import LEFT_EYE, RIGHT_EYE

LUMA: Final = np.array((0.299, 0.587, 0.114), np.float32)
"""Weights of red, green and blue in brightness (BT.601)."""

_USUAL_SKIN: Final = np.array((1.302, 0.902, 0.738), np.float32)
_USUAL_EYE: Final = np.array((1.161, 0.945, 0.872), np.float32)
USUAL_TOOTH: Final = np.array((1.104, 0.971, 0.883), np.float32)
"""Median hue (colour / brightness) of skin, whites of the eyes and teeth."""
_OPEN_MOUTH: Final = 0.90
"""Teeth in an open mouth against teeth in a smile."""
_KNEE: Final = 0.8
"""Share of the greatest brightness from which teeth are dimmed, gently, so that none is a flat spot."""
CHEEKS: Final = ((3, 48), (13, 54), (2, 31), (14, 35))
"""Pairs of landmarks with clear skin half-way."""


@dataclass(frozen=True)
class MouthLight:
    """What a photograph's light makes of a mouth.

    Attributes:
        tooth: `(3,)` RGB of a tooth, 0 to 255.
        dark: `(3,)` RGB of a mouth without teeth, 0 to 255.
        brightest: Brightness that no tooth exceeds: the whites' of the eyes, or the skin's where those
            are hidden.
        chroma: 1 in a colour photograph, 0 in a grey one.
    """

    tooth: NDArray[np.float32]
    dark: NDArray[np.float32]
    brightest: float
    chroma: float

    @classmethod
    def from_crop(cls, crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> MouthLight:
        """Measure a crop.

        Args:
            crop: `(S, S, 3)` uint8 RGB.
            landmarks: `(68, 2)`, crop units.
        """
        skin = _skin(crop, landmarks)
        skin_luma = max(float(skin @ LUMA), 1.0)
        eye, eye_luma = _eye_white(crop, landmarks)
        # Brightness: residual 20, against 25 without the fit; hue: 0.04, against 0.07 in blue.
        brightness = _OPEN_MOUTH * (78.0 + 0.47 * skin_luma + 0.26 * eye_luma)
        brightest = max(eye_luma, skin_luma)
        skin_hue = skin / skin_luma
        hue = USUAL_TOOTH + 0.15 * (skin_hue - _USUAL_SKIN) + 0.45 * (eye - _USUAL_EYE)
        chroma = float(np.clip(np.abs(skin_hue - 1.0).max() / 0.12, 0.0, 1.0))
        tint = 1.0 + chroma * (np.array((1.3, 0.8, 0.78), np.float32) - 1.0)
        return cls(
            np.clip(min(brightness, brightest) * hue, 0, 255).astype(np.float32),
            (0.2 * skin_luma * tint).astype(np.float32),
            brightest,
            chroma,
        )


def no_brighter(picture: NDArray[np.float32], brightest: float) -> NDArray[np.float32]:
    """Colours `(..., 3)`, 0 to 255, brought below a brightness; what lies well below it stays as it is."""
    luma = picture @ LUMA
    knee = np.float32(_KNEE * brightest)
    room = np.float32(max(brightest - float(knee), 1e-3))
    excess = np.maximum(luma - knee, 0) / room
    share = (knee + room * excess / (1 + excess)) / np.maximum(luma, knee)
    return np.asarray(picture * share[..., None], np.float32)


def _skin(crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median colour of the cheeks `(3,)`."""
    size = crop.shape[0]
    radius = max(1, int(0.015 * size))
    samples = []
    for first, second in CHEEKS:
        centre = (landmarks[first] + landmarks[second]) / 2
        column, row = np.clip((centre * size).astype(int), radius, size - radius - 1)
        patch = crop[row - radius : row + radius + 1, column - radius : column + radius + 1]
        samples.append(patch.reshape(-1, 3))
    return np.median(np.concatenate(samples), axis=0).astype(np.float32)


def _eye_white(
    crop: NDArray[np.uint8], landmarks: NDArray[np.float32]
) -> tuple[NDArray[np.float32], float]:
    """Hue `(3,)` of the brightest fifth of both eyes, and their 95th percentile of brightness."""
    size = crop.shape[0]
    canvas = np.zeros((size, size), np.uint8)
    for eye in (LEFT_EYE, RIGHT_EYE):
        cv2.fillPoly(canvas, [np.round(landmarks[list(eye)] * size - 0.5).astype(np.int32)], 1)
    seen = crop[canvas > 0].astype(np.float32)
    if not len(seen):  # eyes outside the picture
        return _USUAL_EYE, 154.0
    luma = seen @ LUMA
    colour = seen[luma >= np.percentile(luma, 80)].mean(axis=0)
    hue = colour / max(float(colour @ LUMA), 1.0)
    return hue.astype(np.float32), float(np.percentile(luma, 95))
