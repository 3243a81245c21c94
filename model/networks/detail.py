"""The detail network: a drawn crop, and the photograph moved by the portrait engine, to a crop twice as fine.

    drawn (128) ──────────────┐
                              ├▶ small U-Net ─▶ + drawn, enlarged ─▶ crop (256)
    warped photograph (256) ──┘

The diffusion decides what is there; the warp knows what this person's lips, beard and pores look like.
No normalisation and no time: what a pixel becomes depends on its neighbourhood alone, so that a window
gives what the whole gives, and equal inputs give equal frames. Ours, not the paper's (docs/adr/0012).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.errors import ShapeError

SCALE: Final = 2
"""How much finer the result is than what was drawn."""


class _Block(nn.Module):
    """Two convolutions; begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner = self.conv_1(F.silu(hidden))
        # in training its own values are needed again
        answer: torch.Tensor = hidden + self.conv_2(F.silu(inner, inplace=not self.training))
        return answer


class DetailNetwork(ModelMixin, ConfigMixin):
    """Brings drawn crops to twice their size with the warped photograph's detail.

    Args:
        channels: Width at each scale, finest first; the finest has the drawn crop's pixels.
        layers: Blocks at each scale, on the way down and up alike.
    """

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (32, 64, 96), layers: int = 2) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3 + 3 * SCALE**2, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(_blocks(width, layers) for width in channels)
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(channels)
        )
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.up_blocks = nn.ModuleList(_blocks(width, layers) for width in channels[:-1])
        self.conv_out = nn.Conv2d(channels[0], 3 * SCALE**2, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, drawn: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
        """Add detail.

        Args:
            drawn: `(B, 3, h, w)`, -1 to 1; sides divisible by 2 to the number of scales less one.
            warped: `(B, 3, 2h, 2w)`, -1 to 1: the photograph moved to the face that was drawn.
        Returns:
            `(B, 3, 2h, 2w)`, not clipped.
        Raises:
            ShapeError: The sizes do not fit.
        """
        height, width = drawn.shape[-2:]
        if warped.shape[-2:] != (SCALE * height, SCALE * width):
            raise ShapeError(
                f"warped is {tuple(warped.shape[-2:])}; expected twice drawn's {(height, width)}"
            )
        cell = 2 ** len(self.downs)
        if height % cell or width % cell:
            raise ShapeError(f"drawn is {(height, width)}; expected multiples of {cell}")
        hidden = self.conv_in(torch.cat([drawn, F.pixel_unshuffle(warped, SCALE)], dim=1))
        skips: list[torch.Tensor] = []
        for scale, blocks in enumerate(self.down_blocks):
            if scale:
                hidden = self.downs[scale - 1](hidden)
            hidden = blocks(hidden)
            skips.append(hidden)
        skips.pop()
        for scale in reversed(range(len(self.up_blocks))):
            coarse = self.ups[scale](hidden)
            hidden = skips.pop() + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
            hidden = self.up_blocks[scale](hidden)
        detail = F.pixel_shuffle(self.conv_out(hidden), SCALE)
        return detail + enlarge(drawn)


def enlarge(drawn: torch.Tensor) -> torch.Tensor:
    """`(B, 3, h, w)` -> `(B, 3, 2h, 2w)`, bicubic."""
    return F.interpolate(drawn, scale_factor=float(SCALE), mode="bicubic", align_corners=False)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels) for _ in range(count)))
