"""Landmark maps: true coverages, and differentiable with respect to the points."""

from __future__ import annotations

import pytest
import torch

from model.face.landmarks import CONTOUR, INNER_LIPS, OUTER_LIPS
from model.networks.landmark_maps import NUM_MAPS, landmark_maps

INNER, LIPS, FACE, JAW_RIDGE = 0, 1, 2, 3
UPPER_INNER, LOWER_INNER = [61, 62, 63], [67, 66, 65]


def ellipse(count: int, centre: tuple[float, float], radii: tuple[float, float]) -> torch.Tensor:
    angles = torch.arange(count) * (2 * torch.pi / count) + torch.pi
    unit = torch.stack([angles.cos(), angles.sin()], dim=-1)
    return torch.tensor(centre) + unit * torch.tensor(radii)


def face(gap: float) -> torch.Tensor:
    """`(1, 68, 2)`: an oval face whose inner lips are `gap` apart in the middle."""
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.35
    angles = torch.linspace(torch.pi, 0, 17)
    points[list(CONTOUR)] = torch.stack(
        [0.5 + 0.3 * angles.cos(), 0.35 + 0.5 * angles.sin()], dim=-1
    )
    points[list(OUTER_LIPS)] = ellipse(12, (0.5, 0.62), (0.14, 0.05 + gap / 2))
    points[list(INNER_LIPS)] = ellipse(8, (0.5, 0.62), (0.11, gap / 2))
    return points[None]


def polygon_area(points: torch.Tensor) -> float:
    x, y = points.unbind(-1)
    return float((x * y.roll(-1) - x.roll(-1) * y).sum().abs() / 2)


def test_shape_and_range() -> None:
    maps = landmark_maps(face(0.06).expand(3, -1, -1), 32)
    assert maps.shape == (3, NUM_MAPS, 32, 32)
    assert maps.dtype == torch.float32
    assert float(maps.min()) >= 0 and float(maps.max()) <= 1


@pytest.mark.parametrize("size", [32, 64])
def test_coverage_of_a_rectangle_is_its_area(size: int) -> None:
    points = face(0.1)
    left, top, right, bottom = 0.31, 0.44, 0.72, 0.81
    corners = [(left, top), (0.5, top), (right, top), (right, 0.6)]
    corners += [(right, bottom), (0.5, bottom), (left, bottom), (left, 0.6)]
    points[0, list(INNER_LIPS)] = torch.tensor(corners)
    coverage = landmark_maps(points, size)[0, INNER]
    assert float(coverage.mean()) == pytest.approx((right - left) * (bottom - top), rel=0.02)
    centres = (torch.arange(size) + 0.5) / size
    margin = 2 / size
    deep_x = (centres > left + margin) & (centres < right - margin)
    deep_y = (centres > top + margin) & (centres < bottom - margin)
    assert float(coverage[deep_y][:, deep_x].min()) > 0.99
    far = (centres < left - margin) | (centres > right + margin)
    assert float(coverage[:, far].max()) < 0.01


@pytest.mark.parametrize(
    ("index", "polygon"), [(INNER, INNER_LIPS), (LIPS, OUTER_LIPS), (FACE, CONTOUR)]
)
def test_coverage_is_the_polygons_area(index: int, polygon: tuple[int, ...]) -> None:
    points = face(0.1)
    coverage = landmark_maps(points, 64)[0, index]
    assert float(coverage.mean()) == pytest.approx(
        polygon_area(points[0, list(polygon)]), rel=0.04, abs=0.0005
    )


def test_an_open_mouth_covers_more_than_a_closed_one() -> None:
    coverage = [
        float(landmark_maps(face(gap), 32)[0, INNER].sum()) for gap in (0, 0.02, 0.06, 0.12)
    ]
    assert coverage == sorted(coverage)
    assert coverage[0] < 0.5 * coverage[2] < 0.5 * coverage[3]


def test_the_jaw_ridge_lies_on_the_jaw() -> None:
    points = face(0.04)
    ridge = landmark_maps(points, 64)[0, JAW_RIDGE]
    row, column = divmod(int(ridge[:, 31].argmax()) * 64 + 31, 64)
    assert (row + 0.5) / 64 == pytest.approx(float(points[0, 8, 1]), abs=1 / 64)
    assert float(ridge[row, column]) > 0.8
    assert float(ridge[row - 10, column]) < 1e-3


@pytest.mark.parametrize("gap", [0.0, 0.003, 0.08])
def test_gradient_is_finite_and_reaches_lips_and_contour(gap: float) -> None:
    points = face(gap).requires_grad_()
    maps = landmark_maps(points, 32)
    weights = torch.rand(maps.shape, generator=torch.Generator().manual_seed(1))
    (maps * weights).sum().backward()
    assert points.grad is not None
    assert bool(points.grad.isfinite().all())
    moved = points.grad[0].abs().sum(dim=-1)
    assert bool((moved[[*range(3, 14), *range(48, 68)]] > 0).all())
    assert float(moved[17:48].max()) == 0  # brows, nose and eyes are in no map


def test_gradient_is_the_slope() -> None:
    points = face(0.08)
    weights = torch.rand(1, NUM_MAPS, 32, 32, generator=torch.Generator().manual_seed(2))

    def value(at: torch.Tensor) -> torch.Tensor:
        return (landmark_maps(at, 32) * weights).double().sum()

    leaf = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(leaf), leaf)
    direction = torch.randn(points.shape, generator=torch.Generator().manual_seed(3))
    step = 1e-4
    measured = (value(points + step * direction) - value(points - step * direction)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(float(measured), rel=0.02)


def test_lowering_the_lower_lip_opens_the_mouth() -> None:
    points = face(0.05).requires_grad_()
    landmark_maps(points, 32)[:, INNER].sum().backward()
    assert points.grad is not None
    vertical = points.grad[0, :, 1]
    # the ellipse starts at the left corner and runs along the upper lip: y grows downwards
    assert bool((vertical[LOWER_INNER] > 0).all())
    assert bool((vertical[UPPER_INNER] < 0).all())


def test_a_shift_by_whole_cells_shifts_the_maps() -> None:
    points = face(0.06)
    moved = landmark_maps(points + torch.tensor([2 / 32, -1 / 32]), 32)
    torch.testing.assert_close(
        moved[..., :-1, 2:], landmark_maps(points, 32)[..., 1:, :-2], atol=1e-3, rtol=0
    )


def test_half_precision_landmarks_are_drawn_in_float32() -> None:
    points = face(0.06)
    maps = landmark_maps(points.half(), 32)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, landmark_maps(points, 32), atol=0.05, rtol=0)
