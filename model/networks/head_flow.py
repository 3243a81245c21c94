"""The flow of a head: noise becomes the pushes of a head that speaks, window by window.

    pushes on their way (B, L, 7) ┐
    pushes of before, known       ├─▶ tokens ─▶ transformer, all see all ─▶ velocity (B, L, 7)
    rhythm of the speech (B, L, 2)┘      ▲
                          time, manner ──┘

Rectified flow (Liu, Gong, Liu: Flow Straight and Fast, arXiv 2209.03003): x_t = (1 - t) noise + t pushes,
and the network says pushes - noise. Ours, not the paper's.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.errors import ShapeError
from model.networks.rotary_layer import RotaryLayer

NUM_CHANNELS: Final = 7
NUM_RHYTHM: Final = 2
NUM_BANDS: Final = 10
"""Of the equaliser, see `model.motion.head_path`."""
_TIME_FREQUENCIES: Final = 16


class HeadFlow(ModelMixin, ConfigMixin):
    """Velocity of the flow from noise to pushes.

    Args:
        width: Token width D.
        layers: Transformer layers.
        heads: Attention heads.
        dropout: Of channels of the residual branches, training only.
    Attributes:
        push_scale: `(7,)`, standard deviation of each channel's pushes; a buffer.
        band_gain: `(7, 10)`, see `model.motion.head_path`; a buffer.
    """

    push_scale: torch.Tensor
    band_gain: torch.Tensor
    frequencies: torch.Tensor

    @register_to_config
    def __init__(
        self, width: int = 96, layers: int = 4, heads: int = 4, dropout: float = 0.05
    ) -> None:
        super().__init__()
        self.token = nn.Linear(2 * NUM_CHANNELS + 1 + NUM_RHYTHM, width)
        self.moment = nn.Sequential(
            nn.Linear(2 * _TIME_FREQUENCIES + 1, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(RotaryLayer(width, heads, dropout) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.head = nn.Linear(width, NUM_CHANNELS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("push_scale", torch.ones(NUM_CHANNELS))
        self.register_buffer("band_gain", torch.ones(NUM_CHANNELS, NUM_BANDS))
        turns = 1000.0 ** (-torch.arange(0, width // heads, 2) / (width // heads))
        self.register_buffer("frequencies", turns, persistent=False)

    def forward(
        self,
        noisy: torch.Tensor,
        time: torch.Tensor,
        known: torch.Tensor,
        is_known: torch.Tensor,
        rhythm: torch.Tensor,
        manner: torch.Tensor,
    ) -> torch.Tensor:
        """Where the pushes go.

        Args:
            noisy: `(B, L, 7)`, standardised pushes on their way.
            time: `(B,)`, 0 = noise, 1 = pushes.
            known: `(B, L, 7)`, standardised pushes that are settled; anything elsewhere.
            is_known: `(B, L)`, 1 where they are.
            rhythm: `(B, L, 2)`, see `model.motion.rhythm`.
            manner: `(B,)`, from 0 for one who addresses many to 1 for one who reads aloud.
        Returns:
            `(B, L, 7)`.
        Raises:
            ShapeError: The shapes do not fit.
        """
        batch, length, channels = noisy.shape
        if channels != NUM_CHANNELS or rhythm.shape != (batch, length, NUM_RHYTHM):
            raise ShapeError(
                f"noisy {tuple(noisy.shape)}, rhythm {tuple(rhythm.shape)}; expected (B, L, 7) and (B, L, 2)"
            )
        mask = is_known[..., None]
        tokens = self.token(torch.cat([noisy, known * mask, mask, rhythm], dim=-1))
        angles = time[:, None] * math.pi * torch.arange(1, _TIME_FREQUENCIES + 1)
        moment = torch.cat([angles.cos(), angles.sin(), manner[:, None]], dim=-1)
        tokens = tokens + self.moment(moment)[:, None]
        places = torch.arange(length)[:, None] * self.frequencies
        rotation = (places.cos(), places.sin())
        for block in self.blocks:
            tokens = block(tokens, rotation, torch.zeros(()), 0)
        velocity: torch.Tensor = self.head(self.norm_out(tokens))
        return velocity
