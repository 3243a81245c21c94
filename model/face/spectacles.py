"""Spectacles: whether a face wears them, and where a frame's upper rim runs over an eye.

A bridge between the lenses crosses the nose as a sharp line, dark or shining. Bare skin has none there.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, invert_affine, warp_points
from model.face.eye_outline import (
    ACROSS,
    SAMPLE,
    Curve,
    EyeOutline,
    log_light,
    make_parabolas,
    score_curves,
)

_NOSE: Final = np.stack(
    np.meshgrid(np.linspace(0.47, 0.53, 19), np.linspace(0.235, 0.42, 75)), axis=-1
).astype(np.float32)
"""Nose bridge from the brows down, crop units `(75, 19, 2)`."""
_SHARP: Final = 0.165
"""Contrast, natural logarithm of the light, that skin between the eyes does not have."""
_ROWS: Final = 17
"""Rows that a line must stand out of."""

_RIM_SHARP: Final = 0.10
_MOST_SHARP: Final = 0.3
"""More in one place does not make a line."""
_SURELY: Final = 0.155
"""Contrast along a rim that may be one, and that surely is."""
_THICKEST: Final = 0.15
_NEAR: Final = 0.13
_HIGHEST: Final = -1.3
"""Where the search for a rim begins, `down` units."""
_ABOVE_LASHES: Final = 0.12
_ABOVE_CORNERS: Final = -0.06
_BELOW: Final = 0.04
"""From a rim's lower edge to where the skin begins."""
_HEIGHTS: Final = np.arange(-1.2, -0.15, 0.02)
_SLOPES: Final = np.linspace(-0.3, 0.3, 13)
_BENDS: Final = np.linspace(-0.05, 0.27, 9)


def line_contrast(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much lighter each pixel is than the rows around it, `(h, w)` -> `(h, w)`."""
    return np.asarray(light - cv2.blur(light, (1, _ROWS)), np.float32)


def wears_spectacles(picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> bool:
    """Whether a bridge crosses the nose.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        landmarks: Of the face `(68, 2)`, pixels.
    """
    light = log_light(picture, warp_points(invert_affine(crop_affine(landmarks)), _NOSE))
    columns = cv2.blur(light, (5, 1))[:, ::3]
    return bool(np.median(np.abs(line_contrast(columns)).max(axis=0)) > _SHARP)


def find_rim(picture: NDArray[np.uint8], eye: EyeOutline) -> Curve | None:
    """Lower edge of a frame's upper rim, or None where no line above `eye` is sharp enough.

    A rim is a parabola over the eye, flat or with its ends down. A weak line near the lashes may be
    a rim or a crease: then all above the lashes counts as rim.
    """
    inside = np.abs(ACROSS) < 1.1
    x = ACROSS[inside]
    down = np.arange(_HIGHEST, 0.1, SAMPLE, dtype=np.float32)[:, None] + np.zeros_like(x)
    light = log_light(picture, eye.pixels(np.broadcast_to(x, down.shape), down))
    contrast = line_contrast(cv2.blur(light, (3, 1)))

    parabolas = make_parabolas(ACROSS, _HEIGHTS, _SLOPES, _BENDS)
    sharp = np.asarray(_MOST_SHARP * np.tanh(np.abs(contrast) / _MOST_SHARP), np.float32)
    scores = score_curves(sharp, _HIGHEST, parabolas[:, inside])
    middle = np.abs(ACROSS) < 0.8
    free = (parabolas < eye.upper - _ABOVE_LASHES)[:, middle].all(axis=1)
    free &= (parabolas < _ABOVE_CORNERS)[:, inside].all(axis=1)  # a crease ends at the corners
    scores[~free] = 0.0
    best = float(scores.max())
    if best < _RIM_SHARP:
        return None
    line = parabolas[scores.argmax()]
    # The frame may be thick: it ends where its light changes most.
    lower = line[inside] + np.arange(0, _THICKEST, SAMPLE, dtype=np.float32)[:, None]
    rows = np.clip(np.rint((lower - _HIGHEST) / SAMPLE).astype(int), 0, len(light) - 1)
    columns = np.arange(len(x))
    dark = float(np.median(contrast[rows[0], columns])) < 0
    change = np.gradient(np.median(light[rows, columns], axis=1))
    edge = int((change if dark else -change).argmax())
    rim: Curve = line + np.float32(edge * SAMPLE + _BELOW)
    clearance = float(np.median((eye.upper - rim)[inside]))
    return eye.upper if best < _SURELY and clearance < _NEAR else rim
