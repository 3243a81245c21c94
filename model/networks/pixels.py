"""Pixels as the networks see them: [-1, 1], channels first in shape and last in memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def to_signed(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels of 0 to 255, any dtype -> float32 in [-1, 1]."""
    return pixels.float().div(127.5).sub(1.0)


def from_signed(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in [-1, 1] -> float32 of 0 to 255, neither rounded nor clipped."""
    return pictures.float().add(1.0).mul(127.5)


def to_tensor(images: NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
    """`(B, H, W, 3)` uint8 -> `(B, 3, H, W)` float32 in [-1, 1], channels last."""
    pixels = images if isinstance(images, torch.Tensor) else torch.from_numpy(images)
    return to_signed(pixels.permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)


def to_images(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """`(B, 3, H, W)` in [-1, 1] -> `(B, H, W, 3)` uint8."""
    scaled = from_signed(tensor).round().clamp(0, 255).to(torch.uint8)
    images: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return images
