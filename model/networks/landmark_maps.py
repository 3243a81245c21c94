"""Landmarks as eight soft maps beside the noisy latents: differentiable with respect to the points.

So end-to-end gradients flow through them too. Our addition to the paper, which keeps landmarks as
tokens; at a small training budget the maps decide how exactly the mouth follows (docs/adr/0006).
"""

from __future__ import annotations

from typing import Final

import torch

from model.face.landmarks import CONTOUR, INNER_LIPS, OUTER_LIPS

NUM_MAPS: Final = 8
_POLYGONS: Final = (INNER_LIPS, OUTER_LIPS, CONTOUR)
_CURVES: Final = (
    tuple(range(3, 14)),  # jaw
    (60, 61, 62, 63, 64),  # inner edge of the upper lip
    (64, 65, 66, 67, 60),  # inner edge of the lower lip
    tuple(range(48, 55)),  # outer edge of the upper lip
    (54, 55, 56, 57, 58, 59, 48),  # outer edge of the lower lip
)
_EDGE_CELLS: Final = 0.35  # width of a coverage's soft edge
_CURVE_CELLS: Final = 0.8  # width of a curve's ridge


def landmark_maps(landmarks: torch.Tensor, size: int) -> torch.Tensor:
    """Draw inner mouth, lips and face as soft coverages, jaw and lip edges as soft ridges.

    Args:
        landmarks: `(B, 68, 2)`, crop units.
        size: Side of the maps in cells.
    Returns:
        `(B, 8, size, size)`, float32, 0 to 1.
    """
    landmarks = landmarks.float()
    centres = (torch.arange(size, device=landmarks.device) + 0.5) / size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    cells = torch.stack([x, y], dim=-1).view(1, size * size, 1, 2)
    maps = []
    for polygon in _POLYGONS:
        points = landmarks[:, list(polygon)]
        following = points.roll(-1, dims=1)
        distance = _segment_distance(cells, points, following).amin(dim=-1) * size
        signed = torch.where(_inside(cells, points, following), distance, -distance)
        maps.append(torch.sigmoid(signed / _EDGE_CELLS))
    for curve in _CURVES:
        points = landmarks[:, list(curve)]
        distance = _segment_distance(cells, points[:, :-1], points[:, 1:]).amin(dim=-1) * size
        maps.append(torch.exp(-0.5 * (distance / _CURVE_CELLS) ** 2))
    return torch.stack(maps, dim=1).unflatten(-1, (size, size))


def _segment_distance(cells: torch.Tensor, start: torch.Tensor, stop: torch.Tensor) -> torch.Tensor:
    """Distance of each cell `(1, N, 1, 2)` to each segment `(B, S, 2)` -> `(B, N, S)`."""
    start, along = start[:, None], (stop - start)[:, None]
    to_cell = cells - start
    share = (to_cell * along).sum(-1) / (along**2).sum(-1).clamp_min(1e-10)
    nearest = to_cell - share.clamp(0, 1)[..., None] * along
    return ((nearest**2).sum(-1) + 1e-12).sqrt()


@torch.no_grad()
def _inside(cells: torch.Tensor, start: torch.Tensor, stop: torch.Tensor) -> torch.Tensor:
    """Even-odd rule: whether a ray to each cell's right crosses the polygon an odd number of times.

    Args:
        cells: `(1, N, 1, 2)`.
        start: First ends of the polygon's edges `(B, S, 2)`.
        stop: Second ends `(B, S, 2)`.
    Returns:
        `(B, N)`, bool.
    """
    x0, y0 = start[:, None, :, 0], start[:, None, :, 1]
    x1, y1 = stop[:, None, :, 0], stop[:, None, :, 1]
    x, y = cells[..., 0], cells[..., 1]
    spans = (y0 > y) != (y1 > y)
    crossing = x0 + (y - y0) / torch.where(y1 == y0, torch.ones_like(y1), y1 - y0) * (x1 - x0)
    return (spans & (x < crossing)).sum(dim=-1) % 2 == 1
