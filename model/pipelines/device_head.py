"""`model.face.head_field` with tensors: where a moved head's pixels come from, for many frames at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.face.head_depth import EYES
from model.face.head_field import GRID, INVERSION_STEPS, HeadField, HeadPose
from model.face.thin_plate import SLOPES
from model.pipelines.tensor_pictures import grid_places, read, upload


class DeviceHead:
    """The field of one photograph on a device.

    Args:
        field: The same for NumPy.
        device: Where.
    """

    def __init__(self, field: HeadField, device: torch.device) -> None:
        self._device = device
        self._grid = upload(field.grid, device)
        self._weight = upload(field.weight, device)
        self._depth = None if field.depth is None else upload(field.depth, device)
        self._upper_face = upload(field.upper_face, device)
        self._breath = None if field.breath_ways is None else upload(field.breath_ways, device)
        self._to_pixels = upload(np.ascontiguousarray(field.to_pixels), device)
        across, down = field.num_cells
        self._cells = grid_places(down, across, field.to_nodes, device)[None]
        height, width = field.grid.shape[:2]
        self._nodes = grid_places(height, width, np.eye(2, 3, dtype=np.float32), device)
        # beyond the grid nothing moves
        last = self._nodes.new_tensor((width - 1, height - 1))
        self._inside = ((self._cells >= 0) & (self._cells <= last)).all(dim=-1, keepdim=True)

    def ways(self, poses: Sequence[HeadPose]) -> torch.Tensor:
        """`HeadField.ways` of B poses `(B, h, w, 2)`."""
        # 1. where nodes go
        height, width = self._grid.shape[:2]
        lids = self._upload(np.stack([pose.offsets for pose in poses]))
        offsets = (self._upper_face @ lids).view(len(poses), height, width, 2)
        if self._depth is not None:
            turns = np.array([(pose.yaw, pose.pitch) for pose in poses])
            cosine, sine = (self._upload(x)[:, None, None] for x in (np.cos(turns), np.sin(turns)))
            from_eyes = self._grid - self._upload(EYES)
            offsets = offsets + from_eyes * (cosine - 1) + self._depth[..., None] * sine
        way = self._upload(np.stack([pose.similarity for pose in poses]))
        linear, shift = way[:, :, :2], way[:, None, None, :, 2]
        placed = self._grid + offsets
        moved = (placed.flatten(1, 2) @ linear.transpose(1, 2)).view_as(placed) + shift
        # 2. where cells come from
        backward = _invert(self._weight * (moved - self._grid), self._nodes)
        cells = read(backward.permute(0, 3, 1, 2), self._cells, "bilinear").permute(0, 2, 3, 1)
        cells = cells * self._inside
        if self._breath is not None:
            breath = self._upload(np.array([pose.breath for pose in poses]))
            cells = cells + breath[:, None, None, None] * self._breath
        return cells @ self._to_pixels

    def _upload(self, array: NDArray[np.float32] | NDArray[np.float64]) -> torch.Tensor:
        return upload(array.astype(np.float32), self._device)


def _invert(forward: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """`model.face.thin_plate.invert` of B fields `(B, h, w, 2)`; `nodes` are their own places `(h, w, 2)`."""
    across = torch.gradient(forward[..., 0], dim=2)[0]
    down = torch.gradient(forward[..., 1], dim=1)[0]
    slopes = (1 + GRID * torch.stack([across, down], dim=-1)).clamp(*SLOPES)
    known = torch.cat([forward, 1 / slopes], dim=-1).permute(0, 3, 1, 2)
    backward = forward.clone()
    for _ in range(INVERSION_STEPS):
        seen = read(known, nodes - GRID * backward, "bilinear").permute(0, 2, 3, 1)
        backward = backward + seen[..., 2:] * (seen[..., :2] - backward)
    return backward
