"""Breath: shoulders and chest rise and sink a little, where they are in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import Affine, crop_affine, invert_affine, warp_points
from model.face.landmarks import CHIN_TIP
from model.face.picture_parts import box_around, edge_share
from model.face.thin_plate import smoothstep

_WAY: Final = np.array((0.0, -0.012), np.float32)
"""At strength 1, crop units."""
_NECK: Final = (0.08, 0.60)
"""Below the chin: down to the first nothing moves, from the second on all does."""
_LEAST_BODY: Final = 0.30
"""So much must be seen below the chin."""
_EDGE: Final = 0.10
"""Towards the picture's edges the way fades over so many crop units."""
_WIDTH: Final = (0.9, 1.6)
"""Beside the chin: up to the first all moves, from the second on nothing."""


@dataclass(frozen=True, eq=False)
class Breath:
    """The shoulders of one photograph.

    Attributes:
        affine: Picture pixels to crop units.
        chin: Its tip `(2,)`, crop units.
        shape: Of the photograph, rows first.
        rows: That can move.
        columns: That can move.
    """

    affine: Affine
    chin: NDArray[np.float32]
    shape: tuple[int, ...]
    rows: slice
    columns: slice

    @classmethod
    def of(cls, shape: tuple[int, ...], landmarks: NDArray[np.float32]) -> Breath | None:
        """Find the shoulders; None where they are not seen.

        Args:
            shape: Of the photograph, rows first.
            landmarks: Of its face `(68, 2)`, pixels.
        Raises:
            ShapeError: `landmarks` has another shape.
        """
        affine = crop_affine(landmarks)
        chin = warp_points(affine, landmarks)[CHIN_TIP]
        corners = [(chin[0] + x, chin[1] + y) for x in (-_WIDTH[1], _WIDTH[1]) for y in (0.0, 9.0)]
        box = warp_points(invert_affine(affine), np.array(corners, np.float32))
        rows, columns = box_around(box.min(axis=0), box.max(axis=0), shape)
        ends = np.array([(x, rows.stop) for x in (columns.start, columns.stop)], np.float32)
        if float((warp_points(affine, ends) - chin)[:, 1].max()) < _LEAST_BODY:
            return None
        return cls(affine, chin, shape, rows, columns)

    def ways(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where points `(..., 2)` go when all breath is in `(..., 2)`; both in crop units."""
        from_chin = points - self.chin
        beside = (_WIDTH[1] - np.abs(from_chin[..., :1])) / np.float32(_WIDTH[1] - _WIDTH[0])
        below = (from_chin[..., 1:] - _NECK[0]) / np.float32(_NECK[1] - _NECK[0])
        share = smoothstep(below) * smoothstep(beside)
        return share * edge_share(self.affine, self.shape, points, _EDGE) * _WAY
