from __future__ import annotations

import cv2
import numpy as np

from model.face.thin_plate import GRID, Field, grid_points, invert


def bump(height: float, width: float) -> Field:
    """Content around the middle of the grid goes down, below it comes back up, crop units."""
    grid = grid_points()
    y = (grid[..., 1] - 0.72) / width
    x = (grid[..., 0] - 0.5) / 0.1
    field = np.zeros_like(grid)
    field[..., 1] = height * y * np.exp(0.5 - 0.5 * y**2 - 0.5 * x**2)
    return field


def residual(forward: Field, backward: Field) -> float:
    """How far d(q) is from F(q - d(q)) at worst, crop units."""
    rows, columns = np.indices(forward.shape[:2], np.float32)
    seen = cv2.remap(
        forward,
        columns - GRID * backward[..., 0],
        rows - GRID * backward[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return float(np.abs(seen - backward).max())


def test_the_inverse_meets_the_field_where_a_lip_thickens_threefold() -> None:
    forward = bump(0.04, 0.03)  # stretched 3.2 times in the middle: a plain fixed point diverges
    assert np.gradient(forward[..., 1], axis=0).max() * GRID > 1.8
    assert residual(forward, invert(forward)) < 0.3 / 256


def test_the_inverse_meets_the_field_where_a_lip_thins() -> None:
    forward = bump(-0.012, 0.03)
    assert residual(forward, invert(forward)) < 0.3 / 256


def test_nothing_moves_where_the_field_is_zero() -> None:
    forward = bump(0.04, 0.03)
    forward[:20] = 0.0
    assert np.abs(invert(forward)[:15]).max() == 0.0
    np.testing.assert_array_equal(invert(np.zeros_like(forward)), 0.0)
