"""Smooth displacement fields over the crop: thin-plate splines, their inverse, on one coarse grid.

A thin-plate spline is linear in the displacements of its centres. With the centres fixed, its
values on a grid are one matrix product, and the matrix is made once.

A field lives on `grid_points()`: nodes `1 / GRID` apart, columns from 0 to 1, rows from just above
the nose base to 1. Displacements are in crop units.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import MASK_TOP

Field = NDArray[np.float32]
FloatsT = TypeVar("FloatsT", bound=NDArray[np.floating[Any]])

GRID: Final = 96
"""Cells across the crop; 2.7 px at 256 px."""
FIRST_ROW: Final = int(MASK_TOP * GRID) - 2
_SMOOTHING: Final = 2e-5
"""Added to the kernel's diagonal: neighbours told different things compromise and do not fold."""
_STEPS: Final = 6
SLOPES: Final = (0.7, 4.0)
"""Bounds of the stretch that a step of the inversion reckons with."""


def grid_points() -> Field:
    """Nodes `(h, w, 2)`, crop units."""
    y, x = np.mgrid[FIRST_ROW : GRID + 1, 0 : GRID + 1].astype(np.float32) / GRID
    return np.stack([x, y], axis=-1)


def smoothstep(value: FloatsT) -> FloatsT:
    """0 below 0, 1 above 1, smooth between; of an array's own precision."""
    t = np.clip(value, 0.0, 1.0)
    return cast(FloatsT, t * t * (3.0 - 2.0 * t))


def ramp(value: float) -> float:
    """`smoothstep` of one number."""
    t = min(max(value, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def grid_kernel(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Thin-plate kernel between all grid nodes and `points` `(N, 2)`: `(h * w, N)`."""
    nodes = grid_points().reshape(-1, 2).astype(np.float64)
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    return _kernel((nodes[:, :1] - x) ** 2 + (nodes[:, 1:] - y) ** 2)


class ThinPlate:
    """Thin-plate interpolation from displacements at fixed centres to the grid.

    Args:
        points: `(N, 2)`, crop units.
        kernel: `grid_kernel(points)`, which several splines over the same points share.
        still: Points that never move and only hold the field.
        moving: Points whose displacements are given.
    """

    def __init__(
        self,
        points: NDArray[np.float32],
        kernel: NDArray[np.float64],
        still: tuple[int, ...],
        moving: tuple[int, ...],
    ) -> None:
        chosen = [*still, *moving]
        centres = points[chosen].astype(np.float64)
        count = len(centres)
        system = np.zeros((count + 3, count + 3))
        system[:count, :count] = _kernel(((centres[:, None] - centres[None]) ** 2).sum(axis=-1))
        system[:count, :count] += _SMOOTHING * np.eye(count)
        system[:count, count:] = np.concatenate([np.ones((count, 1)), centres], axis=1)
        system[count:, :count] = system[:count, count:].T
        weights = np.linalg.inv(system)[:, len(still) : count]
        grid = grid_points()
        affine = weights[count] + grid.reshape(-1, 2) @ weights[count + 1 :]
        matrix = kernel[:, chosen] @ weights[:count] + affine
        self._matrix = np.ascontiguousarray(matrix.astype(np.float32))
        self._moving = list(moving)
        self._shape = grid.shape

    def __call__(self, offsets: NDArray[np.float32]) -> Field:
        """Field `(h, w, 2)` for the displacements `(N, 2)` of all points."""
        return (self._matrix @ offsets[self._moving]).reshape(self._shape)


def _kernel(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """r^2 log r, zero at zero, for squared distances."""
    return np.asarray(0.5 * squared * cv2.log(np.maximum(squared, 1e-20)), np.float64)


def invert(forward: Field, steps: int = _STEPS, grid: int = GRID) -> Field:
    """Backward displacement d with d(q) = F(q - d(q)), by Newton's method with a diagonal Jacobian.

    A plain fixed point diverges where F stretches to more than double: at a thin lip that thickens.

    Args:
        forward: F `(h, w, 2)`: where a node's content goes, minus the node.
        steps: Of the method; fields without steep places need fewer.
        grid: Nodes a crop unit.
    Returns:
        `(h, w, 2)`: a node, minus where its content comes from. Zero wherever F is zero around it.
    """
    height, width = forward.shape[:2]
    columns = np.arange(width, dtype=np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    stretch = np.empty_like(forward)
    stretch[..., 0] = np.gradient(forward[..., 0], axis=1)
    stretch[..., 1] = np.gradient(forward[..., 1], axis=0)
    known = np.concatenate([forward, 1.0 / np.clip(1.0 + grid * stretch, *SLOPES)], axis=-1)
    backward = forward.copy()
    for _ in range(steps):
        seen = cv2.remap(
            known,
            columns - grid * backward[..., 0],
            rows - grid * backward[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        backward += seen[..., 2:] * (seen[..., :2] - backward)
    return backward
