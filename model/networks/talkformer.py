"""TalkFormer: landmarks and a reference face condition the denoiser by cross-attention.

    h ── M-Align: asks the target's landmark tokens where the face goes
      ── R-Align: asks the reference's features, labelled with the reference's own landmarks,
         what is there (implicit warping)
      ── GEGLU

After arXiv 2408.05416, Fig. 3. Coordinates reach both sides as Fourier features: of the landmarks
in the keys, of the pixel centres in the queries. With raw coordinates and no query positions no
usable gradient reaches the landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import nn

from model.errors import ShapeError
from model.face.landmarks import NUM_LANDMARKS
from model.networks.attention import attention

_OCTAVES: Final = 6
FOURIER_DIM: Final = 4 * _OCTAVES  # sine and cosine of x and y
_PLACE_GAIN: Final = 3.0  # of places against contents, in R-Align's keys and queries
_MOTION_SCALE: Final = 8.0  # displacements are about a tenth of a crop
_NUM_GROUPS: Final = 5


def fourier_features(points: torch.Tensor) -> torch.Tensor:
    """gamma(x, y): sines and cosines in 6 octaves, `(..., 2)` -> `(..., 24)`."""
    frequencies = torch.pi * 2.0 ** torch.arange(_OCTAVES, device=points.device)
    angles = (points.float()[..., None] * frequencies).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def cell_centres(
    top: int, left: int, height: int, width: int, size: int, device: torch.device
) -> torch.Tensor:
    """Centres of a window of a `size` x `size` grid, `(height * width, 2)`, crop units."""
    y = (torch.arange(top, top + height, device=device) + 0.5) / size
    x = (torch.arange(left, left + width, device=device) + 0.5) / size
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
    return grid.flip(-1).reshape(-1, 2)


class LandmarkEncoder(nn.Module):
    """Tokens of 68 landmarks; one encoder for target and reference.

    e_j = MLP[gamma(x_j, y_j); gamma(dx_j, dy_j)] + u_j + group_j, then two transformer layers.

    Args:
        width: D of the tokens.
        heads: Attention heads; divides D.
    """

    groups: torch.Tensor

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(2 * FOURIER_DIM, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.point = nn.Parameter(0.02 * torch.randn(NUM_LANDMARKS, width))
        self.group = nn.Parameter(0.02 * torch.randn(_NUM_GROUPS, width))
        groups = (
            [0] * 17 + [1] * 10 + [2] * 9 + [3] * 12 + [4] * 20
        )  # contour, brows, nose, eyes, mouth
        self.register_buffer("groups", torch.tensor(groups), persistent=False)
        self.layers = nn.ModuleList(_TokenLayer(width, heads) for _ in range(2))

    def forward(self, landmarks: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Encode landmarks and their displacement from the reference's.

        Args:
            landmarks: `(B, 68, 2)`, crop units.
            reference: `(B, 68, 2)`, crop units.
        Returns:
            `(B, 68, D)`.
        """
        motion = (landmarks.float() - reference.float()) * _MOTION_SCALE
        features = torch.cat([fourier_features(landmarks), fourier_features(motion)], dim=-1)
        tokens: torch.Tensor = (
            self.project(features.to(self.point.dtype)) + self.point + self.group[self.groups]
        )
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class _TokenLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.to_qkv(self.norm_1(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.to_out(attention(query, key, value, self.heads))
        fed: torch.Tensor = self.feed_forward(self.norm_2(tokens))
        return tokens + fed


@dataclass
class KeyValue:
    """Projected keys and values `(B, M, C)` of one cross-attention."""

    key: torch.Tensor
    value: torch.Tensor

    def expand(self, batch: int) -> KeyValue:
        """The same for `batch` frames, when made for one."""
        if len(self.key) == batch:
            return self
        return KeyValue(self.key.expand(batch, -1, -1), self.value.expand(batch, -1, -1))


class TalkFormerBlock(nn.Module):
    """Self-attention (optional), M-Align, R-Align, GEGLU at one scale.

    Args:
        channels: C, of the hidden state and the reference features of this scale.
        token_width: D of the landmark tokens.
        head_dim: Width of a head (not the number of heads).
        self_attention: Whether the block begins with self-attention.
        m_align: The paper's ablation switch.
        r_align: The paper's ablation switch.
        extra_pairs: Learned key/value pairs of R-Align: something must answer where the reference
            has nothing (teeth).
        dropout: Of R-Align's keys and values, training only.
        reference_places: Whether R-Align's keys say where their features are, and R-Align begins
            by looking at the same place of the reference (docs/adr/0010).
        stable_diffusion_layout: As in Stable Diffusion's transformer blocks: normalised and
            projected on both sides, self-attention without biases and positions, GEGLU twice as
            wide.
        groups: Of the normalisation that this layout begins with.
    Raises:
        ShapeError: `channels` is not a multiple of `head_dim`.
    """

    def __init__(
        self,
        channels: int,
        token_width: int,
        *,
        head_dim: int = 32,
        self_attention: bool = True,
        m_align: bool = True,
        r_align: bool = True,
        extra_pairs: int = 16,
        dropout: float = 0.1,
        reference_places: bool = False,
        stable_diffusion_layout: bool = False,
        groups: int = 32,
    ) -> None:
        super().__init__()
        if channels % head_dim:
            raise ShapeError(f"{channels} channels; expected a multiple of head_dim {head_dim}")
        self.heads = channels // head_dim
        self.dropout = dropout
        self.position = nn.Linear(FOURIER_DIM, channels)
        self.self_positions = not stable_diffusion_layout
        self.norm_in: nn.GroupNorm | None = None
        if stable_diffusion_layout:
            self.norm_in = nn.GroupNorm(groups, channels, eps=1e-6)
            self.proj_in, self.proj_out = (nn.Linear(channels, channels) for _ in range(2))
        self.self_norm = nn.LayerNorm(channels) if self_attention else None
        if self_attention:
            self.self_qkv, self.self_out = (
                nn.Linear(channels, 3 * channels, bias=not stable_diffusion_layout),
                nn.Linear(channels, channels),
            )
            _zero(self.self_out)
        self.m_align, self.r_align = m_align, r_align
        self.reference_places = reference_places
        if m_align or r_align:  # R-Align labels its features with M-Align's weights
            self.m_norm = nn.LayerNorm(channels)
            self.m_query = nn.Linear(channels, channels, bias=False)
            self.m_key = nn.Linear(token_width, channels, bias=False)
            self.m_value = nn.Linear(token_width, channels, bias=False)
            self.m_out = nn.Linear(channels, channels)
            _zero(self.m_out)
        if r_align:
            self.r_norm = nn.LayerNorm(channels)
            self.reference_norm = nn.LayerNorm(channels)
            self.r_query = nn.Linear(channels, channels, bias=False)
            self.r_key = nn.Linear(channels, channels, bias=False)
            self.r_value = nn.Linear(channels, channels, bias=False)
            self.r_out = nn.Linear(channels, channels)
            self.extra_key = nn.Parameter(0.2 * torch.randn(extra_pairs, channels))
            self.extra_value = nn.Parameter(0.2 * torch.randn(extra_pairs, channels))
            _zero(self.r_out)
            if reference_places:  # equal projections: like places match before anything is learnt
                self.r_key.weight.data.copy_(self.r_query.weight)
        self.gate_norm = nn.LayerNorm(channels)
        inner = (4 if stable_diffusion_layout else 2) * channels
        self.gate_in = nn.Linear(channels, 2 * inner)
        self.gate_out = nn.Linear(inner, channels)
        _zero(self.gate_out)

    def landmark_pairs(self, tokens: torch.Tensor) -> KeyValue | None:
        """Keys and values of M-Align from landmark tokens `(B, 68, D)`; once per frame."""
        return KeyValue(self.m_key(tokens), self.m_value(tokens)) if self.m_align else None

    def reference_pairs(
        self, features: torch.Tensor, tokens: torch.Tensor, position: torch.Tensor
    ) -> KeyValue | None:
        """Keys and values of R-Align; once per job.

        Args:
            features: The reference's features at this scale `(B, M, C)`.
            tokens: The reference's own landmark tokens `(B, 68, D)`.
            position: Fourier features of the features' cells `(M, 24)`.
        Returns:
            `(B, M + extra_pairs, C)` each, or None without R-Align.
        """
        if not self.r_align:
            return None
        features = self.reference_norm(features)
        where = self.position(position.to(features.dtype))
        query = self.m_query(self.m_norm(features) + where)
        labels = self.m_out(attention(query, self.m_key(tokens), self.m_value(tokens), self.heads))
        labelled = features + labels
        if self.reference_places:
            labelled = labelled + _PLACE_GAIN * where
        batch = len(features)
        key, value = self.r_key(labelled), self.r_value(features)
        # The extra pairs follow the projections: within autocast those are of fewer bits than the
        # normalised features.
        extra_key, extra_value = (
            extra.expand(batch, -1, -1).to(key.dtype)
            for extra in (self.extra_key, self.extra_value)
        )
        key, value = torch.cat([key, extra_key], dim=1), torch.cat([value, extra_value], dim=1)
        return KeyValue(key, value)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position: torch.Tensor,
        landmarks: KeyValue | None,
        reference: KeyValue | None,
    ) -> torch.Tensor:
        """One block.

        Args:
            hidden_states: `(B, C, h, w)`.
            position: Fourier features of the window's cells `(h * w, 24)`.
            landmarks: From `landmark_pairs`.
            reference: From `reference_pairs`.
        Returns:
            `(B, C, h, w)`.
        """
        batch, channels, height, width = hidden_states.shape
        # 1. one token a cell
        cells = hidden_states if self.norm_in is None else self.norm_in(hidden_states)
        tokens = cells.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        if self.norm_in is not None:
            tokens = self.proj_in(tokens)
        where = self.position(position.to(tokens.dtype))
        # 2. self-attention, at the coarser scales
        if self.self_norm is not None:
            normed = self.self_norm(tokens)
            if self.self_positions:
                normed = normed + where
            query, key, value = self.self_qkv(normed).chunk(3, dim=-1)
            tokens = tokens + self.self_out(attention(query, key, value, self.heads))
        # 3. M-Align: cells attend to the target landmarks
        if self.m_align and landmarks is not None:
            query = self.m_query(self.m_norm(tokens) + where)
            landmarks = landmarks.expand(batch)
            tokens = tokens + self.m_out(
                attention(query, landmarks.key, landmarks.value, self.heads)
            )
        # 4. R-Align: cells, which now know their landmarks, attend to the reference's features
        if self.r_align and reference is not None:
            gain = _PLACE_GAIN if self.reference_places else 1.0
            query = self.r_query(self.r_norm(tokens) + gain * where)
            reference = self._drop(reference.expand(batch))
            tokens = tokens + self.r_out(
                attention(query, reference.key, reference.value, self.heads)
            )
        # 5. gated feed-forward (GEGLU)
        gate, value = self.gate_in(self.gate_norm(tokens)).chunk(2, dim=-1)
        tokens = tokens + self.gate_out(F.gelu(gate) * value)
        if self.norm_in is None:
            return tokens.view(batch, height, width, channels).permute(0, 3, 1, 2)
        answer: torch.Tensor = self.proj_out(tokens)
        return hidden_states + answer.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def _drop(self, pairs: KeyValue) -> KeyValue:
        """Leave out a share of the pairs in training: the same ones for the whole batch."""
        if not self.training or self.dropout == 0:
            return pairs
        count = pairs.key.shape[1]
        # a fixed number: new shapes at every step would cost more than they teach
        keep = torch.randperm(count, device=pairs.key.device)[: round(count * (1 - self.dropout))]
        return KeyValue(pairs.key[:, keep], pairs.value[:, keep])


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
