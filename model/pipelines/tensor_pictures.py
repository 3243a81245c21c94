"""What OpenCV does to pictures, done to tensors `(B, C, h, w)` on any device.

Places are pixels, x first, pixel middles at whole numbers. OpenCV rounds them to 1/32 pixel, this does not: the two
differ by a level here and there.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.face.alignment import Affine
from model.face.resampling import HALF


def upload(array: NDArray, device: torch.device) -> torch.Tensor:  # type: ignore[type-arg]
    """An array on the device; nobody waits for it."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def grid_places(height: int, width: int, affine: Affine, device: torch.device) -> torch.Tensor:
    """Where pixels lie by an affine map `(2, 3)`: `(height, width, 2)`."""
    x = torch.arange(width, dtype=torch.float32, device=device)
    y = torch.arange(height, dtype=torch.float32, device=device)[:, None]
    return torch.stack([a * x + b * y + c for a, b, c in affine.tolist()], dim=-1)


def read(
    pictures: torch.Tensor, places: torch.Tensor, mode: Literal["bilinear", "bicubic"]
) -> torch.Tensor:
    """`cv2.remap`, the border repeated.

    Args:
        pictures: `(B or 1, C, h, w)`.
        places: `(B or 1, H, W, 2)`.
        mode: Of the interpolation.
    Returns:
        `(B, C, H, W)`.
    """
    height, width = pictures.shape[-2:]
    batch = max(len(pictures), len(places))
    # torch counts -1 to 1 between the middles of the outermost pixels.
    scale = places.new_tensor((2 / max(width - 1, 1), 2 / max(height - 1, 1)))
    return F.grid_sample(
        pictures.expand(batch, -1, -1, -1),
        (places * scale - 1).expand(batch, -1, -1, -1),
        mode=mode,
        padding_mode="border",
        align_corners=True,
    )


def blur_3(pictures: torch.Tensor) -> torch.Tensor:
    """`cv2.GaussianBlur` with a kernel of 3 x 3."""
    row = (0.25, 0.5, 0.25)
    return _filter(_filter(pictures, row, -1), row, -2)


def double(pictures: torch.Tensor) -> torch.Tensor:
    """`model.face.resampling`'s doubled pictures `(B, C, 2 h, 2 w)`, whole levels."""
    half = tuple(HALF[0].tolist())

    def between(pixels: torch.Tensor, dim: int) -> torch.Tensor:
        return _filter(pixels, half, dim).round_().clamp_(0, 255)

    right, below = between(pictures, -1), between(pictures, -2)
    even = torch.stack([pictures, right], dim=-1).flatten(-2)
    odd = torch.stack([below, between(right, -2)], dim=-1).flatten(-2)
    return torch.stack([even, odd], dim=-2).flatten(-3, -2)


def _filter(pictures: torch.Tensor, weights: tuple[float, ...], dim: int) -> torch.Tensor:
    """`cv2.filter2D` with 3 or 4 weights along one side, from one pixel before; the edge is mirrored.

    Written out: a convolution would be done in TF32, whose ten bits are too few for levels.
    """
    after = len(weights) - 2
    padded = F.pad(pictures, (1, after, 0, 0) if dim == -1 else (0, 0, 1, after), mode="reflect")
    length = pictures.shape[dim]
    filtered = weights[0] * padded.narrow(dim, 0, length)
    for first, weight in enumerate(weights[1:], 1):
        filtered.add_(padded.narrow(dim, first, length), alpha=weight)
    return filtered
