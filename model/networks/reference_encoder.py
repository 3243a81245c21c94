"""Multi-scale features of the reference face for R-Align (arXiv 2408.05416, Fig. 2).

A convolutional pyramid without a timestep, so it runs once per job; its sizes are ours.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.networks.variants import VARIANTS


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner = self.conv_1(F.silu(self.norm_1(hidden)))
        outer: torch.Tensor = self.conv_2(F.silu(self.norm_2(inner)))
        return hidden + outer


class ReferenceEncoder(ModelMixin, ConfigMixin):
    """Features of the unmasked reference crop.

    Args:
        channels: Width at each scale, finest first.
        patch: Side of the pixel blocks that the stem folds into channels, as many pixels as a
            latent has; the finest scale is `S / patch`.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = VARIANTS["tiny"].channels,
        patch: int = VARIANTS["tiny"].patch,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * patch * patch, channels[0], 3, padding=1)
        self.stages = nn.ModuleList(_ResidualBlock(width) for width in channels)
        self.downs = nn.ModuleList(
            nn.Conv2d(wide, narrow, 3, stride=2, padding=1) for wide, narrow in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in channels)

    def forward(self, crop: torch.Tensor) -> list[torch.Tensor]:
        """Encode the reference crop.

        Args:
            crop: `(B, 3, S, S)`, -1 to 1; S divisible by `patch` at every scale.
        Returns:
            Finest first; of tiny `(B, 64, S/4, S/4)`, `(B, 128, S/8, S/8)`, `(B, 192, S/16, S/16)`.
        """
        patch = int(self.config["patch"])
        hidden = self.stem(F.pixel_unshuffle(crop, patch))
        features = []
        for index, stage in enumerate(self.stages):
            if index:
                hidden = self.downs[index - 1](hidden)
            hidden = stage(hidden)
            features.append(self.norms[index](hidden))
        return features


def build_reference_encoder(variant: str) -> ReferenceEncoder:
    """An untrained reference encoder for the U-Net of `variant`, a key of `VARIANTS`."""
    sizes = VARIANTS[variant]
    return ReferenceEncoder(sizes.channels, sizes.patch)
