"""Parts of a picture: the box around something, its pixels, and how near they are to the edge."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import Affine, invert_affine, source_pixels, warp_points
from model.face.thin_plate import smoothstep

_EDGE_PX: Final = 2.0
"""Nearer to the picture's edge nothing moves."""


def box_around(
    low: NDArray[np.float32], high: NDArray[np.float32], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Rows and columns from `low` to `high` `(2,)`, x first, pixels, within a picture of `shape`; never empty."""
    size = np.array((shape[1], shape[0]))
    first = np.clip(np.floor(low), 0, size - 1).astype(int)
    last = np.clip(np.ceil(high), first + 1, size).astype(int)
    return slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))


def pixel_middles(rows: slice, columns: slice) -> NDArray[np.float32]:
    """Middles of a box's pixels `(h, w, 2)`, x first, in the landmarks' frame."""
    y, x = np.mgrid[rows, columns].astype(np.float32)
    return np.stack([x, y], axis=-1) + np.float32(0.5)


def edge_distance(
    affine: Affine, shape: tuple[int, ...], points: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How far points are from where nothing moves any more.

    Args:
        affine: Picture pixels to crop units.
        shape: Of the picture, rows first.
        points: `(..., 2)`, crop units.
    Returns:
        `(...)`, crop units; 0 just inside the picture's nearest edge, negative beyond.
    """
    x, y = warp_points(invert_affine(affine), points.reshape(-1, 2)).T
    nearest = np.minimum.reduce([x, y, shape[1] - x, shape[0] - y]) - _EDGE_PX
    return np.asarray(nearest / source_pixels(affine), np.float32).reshape(points.shape[:-1])


def edge_share(
    affine: Affine, shape: tuple[int, ...], points: NDArray[np.float32], margin: float
) -> NDArray[np.float32]:
    """A motion's share at points: 0 at the picture's edges, whole from `margin` crop units on.

    The arguments are those of `edge_distance`; `(..., 2)` -> `(..., 1)`.
    """
    return smoothstep(edge_distance(affine, shape, points)[..., None] / np.float32(margin))
