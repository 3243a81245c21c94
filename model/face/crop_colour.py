"""The colours of a drawn crop: the photograph's light on its skin, or none at all in a grey photograph."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.landmarks import OUTER_LIPS
from model.face.mouth_light import LUMA

Picture = NDArray[np.float32]

_LIGHT_SCALE: Final = 0.06
"""Standard deviation of the smoothing that tells light from texture, crop units."""
_LIPS_MARGIN: Final = 0.02
"""Skin so close to the lips is not compared, crop units."""
_MOST_OFFSET: Final = 32.0
"""Greatest difference of a pixel that counts as light, of 255."""
_GREY_SPREAD: Final = 4
"""Greatest difference of a grey photograph's channels, of 255."""
_COLOURED_SHARE: Final = 0.01
"""Share of its pixels in which JPEG may make it greater."""


def match_colour(
    crop: Picture,
    warped: NDArray[np.uint8],
    target: NDArray[np.float32],
    part: tuple[slice, slice] = (slice(None), slice(None)),
) -> Picture:
    """`crop` with the source's light on its skin.

    The portrait engine's picture has the source's own colours, moved; around what was generated it is
    the source itself. The two may differ in what they draw, but not in the light: their difference,
    smoothed, is taken away. Lips and inner mouth are the crop's own; they get the offset of the skin
    around them.

    Args:
        crop: `(S, S, 3)`, 0 to 255.
        warped: `(S, S, 3)` uint8, the portrait engine's picture of the same face.
        target: That face `(68, 2)`, crop units.
        part: Rows and columns that were drawn: the rest is neither looked at nor changed.
    """
    size = crop.shape[0]
    reach = max(1, round(_LIPS_MARGIN * size))
    lips = _fill(target[list(OUTER_LIPS)], size)[part]
    drawn = crop[part]
    weight = cv2.erode(1 - lips, np.ones((2 * reach + 1,) * 2, np.uint8)).astype(np.float32)
    # Where a chin stands elsewhere, skin would be measured against wall: no light differs so much.
    offset = np.clip(warped[part].astype(np.float32) - drawn, -_MOST_OFFSET, _MOST_OFFSET)
    sigma = _LIGHT_SCALE * size
    total = cv2.GaussianBlur(offset * weight[..., None], (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    matched = crop.copy()
    matched[part] = drawn + total / np.maximum(share, 1e-3)[..., None]
    return matched


def _fill(points: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """Hull of `points` `(N, 2)`, crop units: `(size, size)`, 1 within, 0 elsewhere."""
    filled = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull((points * size).astype(np.float32))[:, 0]
    cv2.fillConvexPoly(filled, np.round(hull).astype(np.int32), 1)
    return filled


def is_grey(picture: NDArray[np.uint8]) -> bool:
    """Whether a photograph `(H, W, 3)` has no colours, but for what JPEG adds."""
    spread = picture.max(axis=2) - picture.min(axis=2)
    return bool((spread > _GREY_SPREAD).mean() <= _COLOURED_SHARE)


def without_colour(picture: Picture) -> Picture:
    """The luminance of `(H, W, 3)` in all three channels."""
    luminance = picture @ LUMA
    return np.repeat(luminance[..., None], 3, axis=2)
