"""A transformer layer over tokens in time, with rotary positions (RoPE, arXiv 2104.09864)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from model.networks.near_attention import NearBlocks


class RotaryLayer(nn.Module):
    """Attention and a feed-forward part, each on the normalised state and added to it.

    Args:
        width: Token width D.
        heads: Attention heads.
        dropout: Of channels of both parts, training only.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            _ChannelDropout(dropout),
            nn.Linear(4 * width, width),
        )
        self.dropout = _ChannelDropout(dropout)

    def forward(
        self,
        tokens: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        forbidden: torch.Tensor,
        references: int,
        near: NearBlocks | None = None,
    ) -> torch.Tensor:
        """One layer: `(B, L, D)` -> `(B, L, D)`.

        Args:
            tokens: References first.
            rotation: Cosines and sines of the tokens' times `(L, D / heads / 2)`.
            forbidden: `(L, L)`, added to the scores: 0 where a row may look at a column; with `near`
                its own mask.
            references: How many tokens have no time.
            near: Only tokens near in time look at each other, so no other scores are made.
        """
        batch, length, width = tokens.shape
        qkv = self.to_qkv(self.norm_attention(tokens)).view(
            batch, length, 3, self.heads, width // self.heads
        )
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, d)
        query = query * (width // self.heads) ** -0.5
        turned_query, turned_key = _rotate(query, rotation), _rotate(key, rotation)
        if near is not None:
            mixed = near.attend(query, turned_query, key, turned_key, value, forbidden)
        else:
            # Written out: masked short sequences in bf16 train faster so than through SDPA on a CPU.
            over_time = turned_query @ turned_key.transpose(-1, -2)
            # A reference has no time: its keys meet queries as they are, whatever the frame's number.
            timeless = query @ key[..., :references, :].transpose(-1, -2)
            scores = torch.cat([timeless, over_time[..., references:]], dim=-1)
            mixed = (scores + forbidden.to(scores.dtype)).softmax(dim=-1).type_as(value) @ value
        merged = mixed.transpose(1, 2).reshape(batch, length, width)
        tokens = tokens + self.dropout(self.to_out(merged))
        fed: torch.Tensor = self.feed_forward(self.norm_feed_forward(tokens))
        return tokens + self.dropout(fed)


class _ChannelDropout(nn.Module):
    """Dropout of whole channels of `(B, L, D)`, the same for all tokens of a sample.

    Neighbouring frames say the same, so a channel that is missing in one of them is no loss; and
    a CPU draws these few numbers in no time.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or self.probability == 0.0:
            return hidden
        kept = F.dropout(hidden.new_ones(len(hidden), 1, hidden.shape[-1]), self.probability)
        return hidden * kept


def _rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position: pairs of channels turned by the token's time, so that only differences count.

    Args:
        x: `(..., L, d)`.
        rotation: Cosines and sines `(L, d / 2)`.
    """
    first, second = x.chunk(2, dim=-1)
    cosine, sine = rotation
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    return torch.cat(turned, dim=-1).type_as(x)
