"""Where the pixels of a photograph come from when its head has a pose.

    lids, brows ─▶ turn in depth ─▶ way in the picture's plane ─▶ fades beside the head ─▶ inverse ─▶ ways of cells

All but a pose is prepared once. `model.pipelines.device_head` does the same with tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import Affine, invert_affine, warp_points
from model.face.head_depth import turn_in_depth
from model.face.thin_plate import Field, invert

GRID: Final = 64
"""Nodes of the field in a crop unit: a head bends less than a mouth."""
INVERSION_STEPS: Final = 4


@dataclass(frozen=True)
class HeadPose:
    """What a head does in one frame.

    Attributes:
        offsets: Ways of lids and brows `(68, 2)`, crop units, before the head's own.
        similarity: Crop units to crop units `(2, 3)`.
        yaw: Radians, towards the picture's right.
        pitch: Radians, downwards.
        breath: 0 breathed out to 1.
    """

    offsets: NDArray[np.float32]
    similarity: Affine
    yaw: float
    pitch: float
    breath: np.float32


class HeadField:
    """The field of one photograph.

    Args:
        grid: Its nodes `(h, w, 2)`, crop units, `1 / GRID` apart.
        weight: The field's share at them `(h, w, 1)`.
        depth: Theirs `(h, w)`, or None where no head turns in depth.
        upper_face: From the ways of 68 points to those of the nodes `(h * w, 68)`.
        breath: From points in crop units to their ways when all breath is in, or None.
        affine: Picture pixels to crop units.
        corner: Left and top of what can move, pixels.
        size: Its width and height.
        cell: Side of the cells that go one way, pixels.
    Attributes:
        grid, weight, depth, upper_face: As given.
        breath_ways: Of the cells when all breath is in `(ceil(H / cell) + 2, ceil(W / cell) + 2, 2)`, crop units.
        to_nodes: Cells to nodes `(2, 3)`; cell 0 lies just outside of what can move.
        to_pixels: Ways `(..., 2)` in crop units @ this `(2, 2)` = ways in pixels.
        num_cells: Columns and rows of cells.
    """

    def __init__(
        self,
        *,
        grid: Field,
        weight: Field,
        depth: NDArray[np.float32] | None,
        upper_face: NDArray[np.float32],
        breath: Callable[[Field], Field] | None,
        affine: Affine,
        corner: tuple[int, int],
        size: tuple[int, int],
        cell: int,
    ) -> None:
        self.grid, self.weight, self.depth, self.upper_face = grid, weight, depth, upper_face
        cells = affine.copy()
        cells[:, 2] = warp_points(affine, np.array(corner, np.float32) - cell / 2)
        cells[:, :2] *= cell
        across, down = (-(-side // cell) + 2 for side in size)
        self.num_cells = (across, down)
        self.to_nodes: Affine = cells * np.float32(GRID)
        self.to_nodes[:, 2] -= GRID * grid[0, 0]
        self.to_pixels: NDArray[np.float32] = invert_affine(affine)[:, :2].T
        self.breath_ways: Field | None = None
        if breath is not None:
            y, x = np.mgrid[:down, :across].astype(np.float32)
            self.breath_ways = breath(warp_points(cells, np.stack([x, y], axis=-1)))

    def ways(self, pose: HeadPose) -> Field:
        """Ways of the cells, pixels: what `DoubledPicture.read` wants."""
        # 1. where nodes go: lids and brows, the turn in depth, then all of the head
        offsets = (self.upper_face @ pose.offsets).reshape(self.grid.shape)
        if self.depth is not None:
            offsets = offsets + turn_in_depth(self.grid, self.depth, pose.yaw, pose.pitch)
        moved = warp_points(pose.similarity, self.grid + offsets)
        forward = np.ascontiguousarray(self.weight * (moved - self.grid), np.float32)
        # 2. where cells come from
        ways = cv2.warpAffine(
            invert(forward, INVERSION_STEPS, GRID),
            self.to_nodes,
            self.num_cells,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(0, 0),
        )
        if self.breath_ways is not None:
            ways = ways + pose.breath * self.breath_ways
        return np.asarray(ways @ self.to_pixels, np.float32)
