"""What the stages do to pictures and measure on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from model.errors import ConfigError
from model.face.landmarks import OUTER_LIPS
from model.networks.pixels import to_tensor


def check_side(arrays: Path, side: int, expected: int) -> None:
    """Refuse prepared pictures that the networks' crops do not have the size of.

    Raises:
        ConfigError: `arrays` holds pictures of `side` pixels, not of `expected`.
    """
    if side != expected:
        raise ConfigError(
            f"prepared: {arrays} has pictures of {side} px; expected {expected} px, the crop's "
            "size: make it again with crop= and variant= as here"
        )


def augment_colour(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random exposure, contrast, channel gains and, for one picture in twelve, grey; `(B, 3, H, W)`."""
    batch = len(tensor)
    gain = 1.0 + 0.12 * torch.randn(batch, 1, 1, 1, generator=generator)
    tint = 1.0 + 0.06 * torch.randn(batch, 3, 1, 1, generator=generator)
    shift = 0.10 * torch.randn(batch, 1, 1, 1, generator=generator)
    grey = (torch.rand(batch, 1, 1, 1, generator=generator) < 1 / 12).float()
    mixed = grey * tensor.mean(dim=1, keepdim=True) + (1 - grey) * tensor
    lit = ((mixed + 1) * gain * tint - 1 + shift).clamp(-1, 1)
    return lit.contiguous(memory_format=torch.channels_last)


def augment_pictures(
    images: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    mouth_weight: float,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures in any light, mirrored half of the time, and the weights of their pixels.

    Args:
        images: Square ones `(B, S, S, 3)`.
        landmarks: Their faces `(B, 68, 2)`.
        mouth_weight: Extra weight around the lips.
        rng: Of the mirror, for all of them.
        generator: Of the light.
    Returns:
        `(B, 3, S, S)` in [-1, 1] and `(B, 1, S, S)`.
    """
    target = augment_colour(to_tensor(images), generator)
    weight = 1.0 + mouth_weight * mouth_boxes(torch.from_numpy(landmarks), images.shape[1])
    if rng.random() < 0.5:
        target, weight = target.flip(-1), weight.flip(-1)
    return target, weight


def even_shares(kind: NDArray[np.int32]) -> NDArray[np.float64]:
    """Weights `(N,)` by which clips (0) and photographs (1) are drawn half and half: clips are many pictures of few."""
    clips, photographs = ((kind == one).sum() for one in (0, 1))
    shares: NDArray[np.float64] = np.where(kind == 0, 1 / max(1, clips), 1 / max(1, photographs))
    return shares


def mouth_boxes(landmarks: torch.Tensor, size: int) -> torch.Tensor:
    """1 inside the lips' box widened by 30 %, 0 elsewhere; `(B, 68, 2)` -> `(B, 1, size, size)`."""
    lips = landmarks[:, OUTER_LIPS[0] : OUTER_LIPS[-1] + 1].float()
    low, high = lips.amin(dim=1), lips.amax(dim=1)
    margin = 0.3 * (high - low)
    centres = (torch.arange(size, dtype=torch.float32, device=lips.device) + 0.5) / size
    columns, rows = (
        (centres > (low - margin)[:, axis, None]) & (centres < (high + margin)[:, axis, None])
        for axis in (0, 1)
    )
    return (rows[:, :, None] & columns[:, None, :]).float()[:, None]


def generated_weight(mask: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """The diffusion loss's weight `(B, 1, h, w)`: 3 near the lips, 1 in the mask, 0.1 outside."""
    lips = mouth_boxes(landmarks, mask.shape[-1])
    return 0.1 + 0.9 * mask + 2.0 * lips * mask


def edge_loss(scales: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """L1 of first differences, summed over scales: output, target `(B, C, H, W)`, weight `(B, 1, H, W)`."""
    terms = [
        ((output.diff(dim=axis) - target.diff(dim=axis)).abs() * side).mean()
        for output, target, weight in scales
        for axis, side in ((2, weight[:, :, 1:]), (3, weight[:, :, :, 1:]))
    ]
    return sum(terms, torch.zeros_like(terms[0]))


def reconstruction_loss(
    output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """L1 of pixels and, at two scales, of edges: what keeps lips and teeth crisp without a GAN.

    Args:
        output: Pictures `(B, 3, H, W)`, float32.
        target: What they should be, of the same shape.
        weight: Of their pixels `(B, 1, H, W)`.
    """
    as_they_are = (output, target, weight)
    half = (F.avg_pool2d(output, 2), F.avg_pool2d(target, 2), F.avg_pool2d(weight, 2))
    return ((output - target).abs() * weight).mean(), edge_loss([as_they_are, half])


def laplacian(images: torch.Tensor) -> torch.Tensor:
    """Second differences of every channel `(B, C, H, W)`."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=images.device)
    channels = images.shape[1]
    return F.conv2d(images, kernel.expand(channels, 1, 3, 3), groups=channels, padding=1)


def sharpness(images: torch.Tensor, weight: torch.Tensor) -> float:
    """Weighted variance of the Laplacian of the grey picture: falls as it blurs."""
    response = laplacian(images.float().mean(dim=1, keepdim=True))
    return float((response**2 * weight).sum() / weight.sum())


def psnr_db(
    output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> float:
    """Of pictures `(B, 3, H, W)` in [-1, 1], where `weight` `(B, 1, H, W)` says."""
    error = (output - target) ** 2 / 4
    if weight is None:
        return -10 * float(np.log10(float(error.mean())))
    return -10 * float(((error * weight).sum() / (3 * weight.sum())).log10())


def save_strips(
    path: Path, strips: Sequence[NDArray[np.uint8] | Sequence[NDArray[np.uint8]]]
) -> None:
    """Write pictures as PNG: the pictures of a strip `(N, H, W, 3)` side by side, strips below each other."""
    Image.fromarray(np.concatenate([np.concatenate(list(s), axis=1) for s in strips])).save(path)
