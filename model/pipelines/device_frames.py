"""Frames finished on the networks' device: `Compositor.paste_mouth` and `MovedPicture.move` with tensors.

    fields, mouths ─▶ photograph carried ─▶ mouths pasted ─▶ eyes ─▶ head moved ─▶ frames
      (small, from the CPU)                                             (to the CPU, once a batch)

NumPy and OpenCV need twelve milliseconds of a core a frame for what a GPU does in a fraction of one. The geometry is
the compositor's and the moved picture's own; only what is done to pixels is written twice, and a test holds the two
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.face.compositing import BOX_FEATHER, REGAIN, RESHARPEN, Compositor
from model.face.head_motion import MovedPicture
from model.face.thin_plate import Field
from model.pipelines.device_head import DeviceHead
from model.pipelines.tensor_pictures import blur_3, double, grid_places, read, upload

_MOST_PIXELS: Final = 8_000_000
"""Of the frames that are finished at once: the doubled pictures take 48 bytes for each."""


@dataclass(frozen=True)
class FramePart:
    """What the CPU has prepared of one frame; the first four as `Compositor.paste_mouth` takes them.

    Attributes:
        mouth: Drawn pixels `(h, w, 3)`, 0 to 255; empty where there are none.
        part: Their rows and columns in the face's crop.
        size: Side of that crop.
        backward: Where carried pixels come from.
        motion_index: Frame of the head's motion; looked at where there is one.
    """

    mouth: NDArray[np.uint8] | NDArray[np.float32]
    part: tuple[slice, slice]
    size: int
    backward: Field
    motion_index: int = 0


class DeviceFrames:
    """Finishes the frames of one still photograph; safe to call from several threads.

    Args:
        compositor: Of the photograph.
        head: What moves it, or None.
        device: Where.
    """

    def __init__(
        self, compositor: Compositor, head: MovedPicture | None, device: torch.device
    ) -> None:
        self._compositor, self._device = compositor, device
        self._head = None if head is None else (head, DeviceHead(head.field, device))
        self._region = (compositor.rows, compositor.columns)
        self._picture = upload(compositor.image, device)
        self._planes = self._picture.permute(2, 0, 1).float()[None]
        self._known = self._planes[:, :, *self._region]
        self._share = upload(compositor.share, device).permute(2, 0, 1)
        height, width = compositor.share.shape[:2]
        own = np.array(
            [(1, 0, compositor.columns.start), (0, 1, compositor.rows.start)], np.float32
        )
        self._places = grid_places(height, width, own, device)[None]
        self._nodes = grid_places(height, width, compositor.to_nodes, device)[None]

    @staticmethod
    def fits(compositor: Compositor, head: MovedPicture | None) -> bool:
        """Whether eyes and pasted mouth keep apart: they are drawn beside each other, not one upon the other."""
        boxes = [] if head is None else head.eye_boxes
        alpha = compositor.alpha
        return not any(alpha[box].any() for box in boxes)

    def draw(self, frames: Sequence[FramePart]) -> NDArray[np.uint8]:
        """Finish frames.

        Args:
            frames: N of them.
        Returns:
            `(N, H, W, 3)` uint8; where neither mask nor motion reaches, the photograph's own values.
        """
        drawn = np.empty((len(frames), *self._picture.shape), np.uint8)
        most = max(1, _MOST_PIXELS // self._picture[..., 0].numel())
        for first in range(0, len(frames), most):
            part = slice(first, first + most)
            torch.from_numpy(drawn[part]).copy_(self.draw_part(frames[part]))
        return drawn

    @torch.inference_mode()
    def draw_part(self, frames: Sequence[FramePart]) -> torch.Tensor:
        """`draw` of few frames, on the device."""
        # 1. the photograph's own pixels, carried
        region = self._carry(np.stack([frame.backward for frame in frames]))
        # 2. the drawn mouths on top, then all of it into the frame by the soft mask
        self._paste(region, frames)
        mixed = self._known + self._share * (region - self._known)
        finished = self._picture.repeat(len(frames), 1, 1, 1)
        finished[:, *self._region] = _to_bytes(mixed.add_(0.5))
        # 3. eyes, then the whole head
        if self._head is not None:
            self._move(finished, *self._head, [frame.motion_index for frame in frames])
        return finished

    def _carry(self, backward: Field) -> torch.Tensor:
        """See `Compositor`: the mask's region through B fields `(B, 3, h, w)`."""
        fields = upload(backward @ self._compositor.to_pixels, self._device).permute(0, 3, 1, 2)
        ways = read(fields, self._nodes, "bilinear").permute(0, 2, 3, 1)
        carried = read(self._planes, self._places - ways, "bicubic").round_().clamp_(0, 255)
        between = ways - ways.floor()
        lost = (between * (1 - between)).sum(dim=-1)[:, None]
        return carried + float(REGAIN) * lost * (carried - blur_3(carried).round_())

    def _paste(self, region: torch.Tensor, frames: Sequence[FramePart]) -> None:
        """See `Compositor`: drawn mouths into the mask's regions `(B, 3, h, w)`, in place."""
        compositor = self._compositor
        drawn = [number for number, frame in enumerate(frames) if frame.mouth.size]
        if not drawn:
            return
        # 1. one box of the picture for all; boxes of the crop differ from frame to frame
        parts = [frames[n].part for n in drawn]
        size = frames[drawn[0]].size
        whole = tuple(
            slice(min(part[k].start for part in parts), max(part[k].stop for part in parts))
            for k in range(2)
        )
        _, rows, columns = compositor.part_pixels((whole[0], whole[1]), size)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if height <= 0 or width <= 0:
            return
        # 2. the mouths as the picture's pixels
        mouths = stack_pictures([self._soft(frames[n]) for n in drawn])
        to_crop = grid_places(
            height, width, compositor.affine_from(rows, columns, size), self._device
        )
        corners = np.array([(x.start, y.start) for y, x in parts], np.float32)[:, None, None]
        places = to_crop - upload(corners, self._device)
        placed = read(upload(mouths, self._device).permute(0, 3, 1, 2).float(), places, "bicubic")
        placed = placed + float(RESHARPEN) * (placed - blur_3(placed))
        # 3. each within its own box, softly
        ends = np.array([(x.stop, y.stop) for y, x in parts], np.float32)[:, None, None]
        in_crop = to_crop + 0.5  # from pixel middles to edges
        depth = torch.minimum(
            in_crop - upload(corners, self._device), upload(ends, self._device) - in_crop
        ).amin(dim=-1)[:, None]
        share = (depth / (size * BOX_FEATHER)).clamp_(0, 1)
        share = share * share * (3 - 2 * share)
        there = (
            slice(rows.start - compositor.rows.start, rows.stop - compositor.rows.start),
            slice(
                columns.start - compositor.columns.start, columns.stop - compositor.columns.start
            ),
        )
        before = region[drawn][:, :, *there]
        region[drawn, :, *there] = before + share * (placed - before)

    def _soft(self, frame: FramePart) -> NDArray[np.uint8] | NDArray[np.float32]:
        """A mouth as blurred as the picture's pixels want it."""
        sigma = self._compositor.blur_px(frame.size)
        if sigma is None:
            return frame.mouth
        return cv2.GaussianBlur(frame.mouth, (0, 0), sigma)

    def _move(
        self, frames: torch.Tensor, head: MovedPicture, field: DeviceHead, indices: Sequence[int]
    ) -> None:
        """See `MovedPicture.move`: frames `(B, H, W, 3)`, in place."""
        image = self._compositor.image
        for frame, index in zip(frames, indices, strict=True):
            seen = head.with_eyes(image, index)
            if seen is not image:
                for box in head.eye_boxes:
                    frame[box] = upload(np.ascontiguousarray(seen[box]), self._device)
        ground = frames[:, *head.region].permute(0, 3, 1, 2).float()
        height, width = ground.shape[-2:]
        # Ways are those of the middles of cells, with one more around; between them they change evenly.
        ways, cell = field.ways([head.pose(index) for index in indices]), head.cell
        corner = -0.5 * (cell + 1)
        down, across = ways.shape[1:3]
        to_pixels = np.array([(cell, 0, corner), (0, cell, corner)], np.float32)
        middles = grid_places(down, across, to_pixels, self._device)
        coarse = (2 * (middles - ways)).permute(0, 3, 1, 2)
        fine = F.interpolate(coarse, scale_factor=cell, mode="bilinear").permute(0, 2, 3, 1)
        places = fine[:, cell : cell + height, cell : cell + width]
        moved = read(double(ground), places, "bilinear")
        frames[:, *head.region] = _to_bytes(moved.round_())


def stack_pictures(
    pictures: Sequence[NDArray[np.uint8] | NDArray[np.float32]],
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Pictures `(h, w, 3)` of several sizes as one array, each continued by its own edge."""
    height, width = (max(picture.shape[k] for picture in pictures) for k in range(2))
    padded = [
        np.pad(x, ((0, height - x.shape[0]), (0, width - x.shape[1]), (0, 0)), mode="edge")
        for x in pictures
    ]
    return np.stack(padded)


def _to_bytes(planes: torch.Tensor) -> torch.Tensor:
    """`(B, 3, h, w)` -> `(B, h, w, 3)` uint8; what is beyond a whole number is cut off."""
    return planes.clamp_(0, 255).permute(0, 2, 3, 1).to(torch.uint8)
