"""Spectacles: whether a face wears them, and where a frame's upper rim runs over an eye.

A bridge between the lenses crosses the nose as a sharp line, dark or shining. Bare skin has none there.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, invert_affine, warp_points

_NOSE: Final = np.stack(
    np.meshgrid(np.linspace(0.455, 0.545, 19), np.linspace(0.20, 0.42, 89)), axis=-1
).astype(np.float32)
"""Nose bridge from the brows down, crop units `(89, 19, 2)`."""
_SHARP: Final = 0.15
"""Contrast, natural logarithm of the light, that skin between the eyes does not have."""
_CANDLE: Final = 16.0
"""Added to the light, of 255, before its logarithm: noise in black is no contrast."""


def log_light(picture: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural logarithm of the light of `picture` `(H, W, 3)` at pixels `(h, w, 2)` -> `(h, w)`."""
    low = np.maximum(np.floor(points.min(axis=(0, 1))).astype(int) - 2, 0)
    high = np.maximum(np.ceil(points.max(axis=(0, 1))).astype(int) + 3, low + 1)
    grey = cv2.cvtColor(picture[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    where = points - np.float32(0.5) - low.astype(np.float32)
    seen = cv2.remap(
        grey.astype(np.float32),
        where[..., 0],
        where[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    light: NDArray[np.float32] = np.log(seen + np.float32(_CANDLE))
    return light


def line_contrast(light: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """How much a line across stands out of `rows` rows around it, `(h, w)` -> `(h, w)`, not negative."""
    contrast: NDArray[np.float32] = np.abs(light - cv2.blur(light, (1, rows)))
    return contrast


def wears_spectacles(picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> bool:
    """Whether a bridge crosses the nose.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        landmarks: Of the face `(68, 2)`, pixels.
    """
    light = log_light(picture, warp_points(invert_affine(crop_affine(landmarks)), _NOSE))
    columns = cv2.blur(light, (5, 1))[:, ::3]
    return bool(np.median(line_contrast(columns, 17).max(axis=0)) > _SHARP)
