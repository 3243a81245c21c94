"""Brows that rise a little: with the skin above them, up to the hairline, and softly down to the lids.

Spectacles hide where skin ends and frame begins: behind them brows stay.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, invert_affine, warp_points
from model.face.small_shift import SmallShift, box_around, pixel_middles
from model.face.spectacles import wears_spectacles
from model.face.thin_plate import smoothstep

_WAY: Final = 0.014
"""At strength 1, crop units: an eighth of an eye's width."""
_ABOVE: Final = 0.13
"""From the brows to the skin under the hairline that stays, crop units."""
_BESIDE: Final = 0.07
"""From a brow's end to what stays beside it."""
_LASHES: Final = 0.03
"""Above the upper lids, and still."""
_BROWS: Final = tuple(range(17, 27))
_UPPER_LIDS: Final = (36, 37, 38, 39, 42, 43, 44, 45)


class BrowLift:
    """The brows of one photograph.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        landmarks: Of its face `(68, 2)`, pixels.
    Raises:
        ShapeError: `landmarks` has another shape.
    """

    def __init__(self, picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
        affine = crop_affine(landmarks)
        back = invert_affine(affine)
        face = warp_points(affine, landmarks)
        brows, lids = face[list(_BROWS)], face[list(_UPPER_LIDS)]
        low = (brows[0, 0] - _BESIDE, brows[:, 1].min() - _ABOVE)
        high = (brows[-1, 0] + _BESIDE, lids[:, 1].max())
        corners = [(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]
        box = warp_points(back, np.array(corners, np.float32))
        rows, columns = box_around(box.min(axis=0), box.max(axis=0), picture.shape)

        points = warp_points(affine, pixel_middles(rows, columns))
        x, y = points[..., 0], points[..., 1]
        edge = np.interp(x, brows[:, 0], brows[:, 1]).astype(np.float32)  # the brows' upper
        rest = np.interp(x, lids[:, 0], lids[:, 1]).astype(np.float32) - np.float32(_LASHES)
        middle = edge + np.float32(0.4) * (rest - edge)  # their lower
        above = (y - edge) / np.float32(_ABOVE) + 1
        below = (rest - y) / np.maximum(rest - middle, np.float32(0.02))
        beside = np.minimum(x - low[0], high[0] - x) / np.float32(2 * _BESIDE)
        share = smoothstep(np.minimum(above, below)) * smoothstep(beside)
        if wears_spectacles(picture, landmarks):
            share = np.zeros_like(share)
        upwards = back[:, :2] @ np.array((0, -_WAY), np.float32)
        self._shift = SmallShift(rows, columns, share[..., None] * upwards)

    def lift(self, frame: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
        """Lift both brows.

        Args:
            frame: The photograph, or what was drawn into it below the brows, `(H, W, 3)` uint8 RGB.
            amount: 0 to 1; 0 is `frame` itself.
        """
        return self._shift.apply(frame, amount)
