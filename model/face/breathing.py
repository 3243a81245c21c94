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
_EDGE: Final = 0.10
_EDGE_PX: Final = 2.0
"""Towards the picture's edges the way fades over so many crop units, and is nothing at so many pixels."""
_WIDTH: Final = (0.9, 1.6)
"""Beside the chin: up to the first all moves, from the second on nothing."""


def breath_shift(shape: tuple[int, ...], landmarks: NDArray[np.float32]) -> SmallShift | None:
    """How the shoulders of one photograph rise when it breathes in; None where they are not seen.

    Args:
        shape: Of the photograph, rows first.
        landmarks: Of its face `(68, 2)`, pixels.
    Raises:
        ShapeError: `landmarks` has another shape.
    """
    affine = crop_affine(landmarks)
    back = invert_affine(affine)
    chin = warp_points(affine, landmarks)[CHIN_TIP]
    corners = [(chin[0] + x, chin[1] + y) for x in (-_WIDTH[1], _WIDTH[1]) for y in (0.0, 9.0)]
    box = warp_points(back, np.array(corners, np.float32))
    rows, columns = box_around(box.min(axis=0), box.max(axis=0), shape)

    middles = pixel_middles(rows, columns)
    points = warp_points(affine, middles) - chin
    beside = (_WIDTH[1] - np.abs(points[..., 0])) / np.float32(_WIDTH[1] - _WIDTH[0])
    below = (points[..., 1] - _NECK[0]) / np.float32(_NECK[1] - _NECK[0])
    if float(points[..., 1].max()) < _LEAST_BODY:
        return None
    # the picture's edges stay
    x, y = middles[..., 0], middles[..., 1]
    nearest = np.minimum.reduce([x, shape[1] - x, shape[0] - y]) - np.float32(_EDGE_PX)
    unit_px = float(np.hypot(back[0, 0], back[1, 0]))
    share = (
        smoothstep(below) * smoothstep(beside) * smoothstep(nearest / np.float32(_EDGE * unit_px))
    )
    upwards = back[:, :2] @ np.array((0, -_WAY), np.float32)
    return SmallShift(rows, columns, share[..., None] * upwards)
