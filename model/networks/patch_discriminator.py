"""Tells photographed from drawn patches: a judge for training the detail network, never used to draw.

Spectral norms keep it calm, so that hinge losses need no gradient penalty (Miyato et al. 2018); it sees
what the detail network was given as well (Isola et al. 2017).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(ModelMixin, ConfigMixin):
    """A convolutional judge of overlapping patches of about 40 pixels.

    Args:
        channels: Width after each halving.
    """

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (48, 96, 128)) -> None:
        super().__init__()
        widths = (6, *channels)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in pairwise(widths)
        )
        self.judge = spectral_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(
        self, pictures: torch.Tensor, given: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Judge patches.

        Args:
            pictures: `(B, 3, H, W)`, -1 to 1.
            given: What was drawn at half the size, enlarged, `(B, 3, H, W)`.
        Returns:
            Verdicts `(B, 1, H / 8, W / 8)`, high for photographs, and the features of every layer.
        """
        hidden = torch.cat([pictures, given], dim=1)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.judge(hidden), features
