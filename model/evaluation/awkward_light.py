"""Is a drawn mouth in the light of its photograph: colour, brightness, noise and sharpness against the face's."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.landmarks import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from model.face.mouth_light import LUMA

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]

_MAD_TO_SD: Final = 1.4826
_CHEEKS: Final = ((3, 48), (13, 54), (2, 31), (14, 35))


def measure_light(
    frame: Picture, face: Points, photograph: Picture, own: Points
) -> dict[str, float]:
    """Figures of one frame.

    Args:
        frame: `(H, W, 3)` uint8 RGB, with an open mouth.
        face: The face that was drawn `(68, 2)`, pixels.
        photograph: What it was drawn into.
        own: Its face `(68, 2)`, pixels.
    Returns:
        `chroma`: mean spread of the channels in the inner mouth; `skin_chroma` of the cheeks. `tint`: greatest
        difference between the channels' shares in the inner mouth's brighter half and in the lips'. `noise`:
        standard deviation of what is finer than 1.5 px in the inner mouth over the same in the cheeks.
        `light`: the inner mouth's 95th percentile of brightness over the eyes'.
    """
    inner = _inside(frame, face[list(INNER_LIPS)])
    cheeks = np.zeros_like(inner)
    size = float(np.ptp(own, axis=0).max())
    for first, second in _CHEEKS:
        x, y = np.round((own[first] + own[second]) / 2).astype(int)
        half = max(2, round(0.045 * size))
        cheeks[max(0, y - half) : y + half, max(0, x - half) : x + half] = True
    lips = _inside(photograph, own[list(OUTER_LIPS)]) & ~_inside(photograph, own[list(INNER_LIPS)])
    eyes = _inside(photograph, own[list(LEFT_EYE)]) | _inside(photograph, own[list(RIGHT_EYE)])
    seen = frame[inner].astype(np.float32)
    luma = seen @ LUMA
    bright = seen[luma >= np.median(luma)].mean(axis=0)
    lip = photograph[lips].astype(np.float32).mean(axis=0)
    white = float(np.percentile(photograph[eyes].astype(np.float32) @ LUMA, 95))
    spread = np.ptp(frame.astype(np.int16), axis=2)
    # A mouth's edges are no noise: only its inside counts.
    deep = cv2.erode(inner.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return {
        "chroma": round(float(spread[inner].mean()), 2),
        "skin_chroma": round(float(spread[cheeks].mean()), 2),
        "tint": round(float(np.abs(bright / bright.sum() - lip / lip.sum()).max()), 3),
        "noise": round(_noise(frame, deep) / max(_noise(frame, cheeks), 1e-3), 2),
        "light": round(float(np.percentile(luma, 95)) / max(white, 1.0), 2),
    }


def _inside(picture: Picture, points: Points) -> NDArray[np.bool_]:
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask > 0


def _noise(picture: Picture, mask: NDArray[np.bool_]) -> float:
    """Standard deviation of brightness beyond a Gaussian of 1.5 px, by its median: edges hardly count."""
    luma = picture.astype(np.float32) @ LUMA
    fine = (luma - cv2.GaussianBlur(luma, (0, 0), 1.5))[mask]
    return float(_MAD_TO_SD * np.median(np.abs(fine))) if fine.size else float("nan")
