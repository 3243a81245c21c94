"""Breath: shoulders and chest rise and sink a little, where they are in the picture."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, invert_affine, warp_points
from model.face.landmarks import CHIN_TIP
from model.face.small_shift import SmallShift, box_around, pixel_middles
from model.face.thin_plate import smoothstep

_WAY: Final = 0.012
"""Upwards at strength 1, crop units."""
_NECK: Final = (0.08, 0.60)
"""Below the chin: down to the first nothing moves, from the second on all does."""
_LEAST_BODY: Final = 0.30
"""So much must be seen below the chin."""
_WIDTH: Final = (0.9, 1.6)
"""Beside the chin: up to the first all moves, from the second on nothing."""


class Breathing:
    """The shoulders of one photograph.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        landmarks: Of its face `(68, 2)`, pixels.
    Raises:
        ShapeError: `landmarks` has another shape.
    """

    def __init__(self, picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
        affine = crop_affine(landmarks)
        back = invert_affine(affine)
        chin = warp_points(affine, landmarks)[CHIN_TIP]
        corners = [(chin[0] + x, chin[1] + y) for x in (-_WIDTH[1], _WIDTH[1]) for y in (0.0, 9.0)]
        box = warp_points(back, np.array(corners, np.float32))
        rows, columns = box_around(box.min(axis=0), box.max(axis=0), picture.shape)

        points = warp_points(affine, pixel_middles(rows, columns)) - chin
        beside = (_WIDTH[1] - np.abs(points[..., 0])) / np.float32(_WIDTH[1] - _WIDTH[0])
        below = (points[..., 1] - _NECK[0]) / np.float32(_NECK[1] - _NECK[0])
        share = smoothstep(below) * smoothstep(beside)
        if float(points[..., 1].max()) < _LEAST_BODY:
            share = np.zeros_like(share)
        upwards = back[:, :2] @ np.array((0, -_WAY), np.float32)
        self._shift = SmallShift(rows, columns, share[..., None] * upwards)

    def breathe(self, frame: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
        """Lift the shoulders.

        Args:
            frame: The photograph, or what was drawn into its face, `(H, W, 3)` uint8 RGB.
            amount: 0 breathed out, which is `frame` itself, to 1.
        """
        return self._shift.apply(frame, amount)
