"""The denoiser's residual block, and how wide each is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ResBlock(nn.Module):
    """Two convolutions that hear the time; begins as the identity, or as its projection.

    Args:
        channels_in: Of the state that enters.
        channels: Of the one that leaves.
        time_dim: Width of the time embedding.
        groups: Of the normalisations; divides both widths.
        time_scales: Whether the time scales and shifts the normalised state; else it is added
            before the normalisation, as in Stable Diffusion.
    """

    def __init__(
        self, channels_in: int, channels: int, time_dim: int, *, groups: int, time_scales: bool
    ) -> None:
        super().__init__()
        self.time_scales = time_scales
        self.norm_1 = nn.GroupNorm(groups, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.time = nn.Linear(time_dim, (1 + time_scales) * channels)
        self.norm_2 = nn.GroupNorm(groups, channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = (
            nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        )
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(self, hidden: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """One block: `(B, channels_in, h, w)` and activated time `(B, time_dim)` -> `(B, channels, h, w)`."""
        inner = self.conv_1(F.silu(self.norm_1(hidden)))
        told = self.time(time)[:, :, None, None]
        if self.time_scales:
            scale, shift = told.chunk(2, dim=1)
            inner = self.norm_2(inner) * (1 + scale) + shift
        else:
            inner = self.norm_2(inner + told)
        inner = self.conv_2(F.silu(inner))
        skipped: torch.Tensor = self.skip(hidden)
        return skipped + inner


def res_widths(
    channels: tuple[int, ...], layers: int, every_stage: bool
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Channels that enter and leave the residual blocks on the way down and up.

    Args:
        channels: At each scale.
        layers: Blocks at each scale on the way down.
        every_stage: Whether the first convolution and the downsampled states are skips too.
    Returns:
        Of each block on the way down, then up; scale by scale, finest first.
    """
    skips = [channels[0]] if every_stage else []
    down: list[tuple[int, int]] = []
    for scale, width in enumerate(channels):
        hidden = channels[max(scale - 1, 0)] if every_stage else width
        if scale and every_stage:
            skips.append(hidden)
        for _ in range(layers):
            down.append((hidden, width))
            skips.append(width)
            hidden = width
    up: list[tuple[int, int]] = []
    for scale in reversed(range(len(channels))):
        width = channels[scale]
        hidden = channels[min(scale + 1, len(channels) - 1)] if every_stage else width
        blocks = []
        for _ in range(layers + every_stage):
            blocks.append((hidden + skips.pop(), width))
            hidden = width
        up = blocks + up
    return down, up
