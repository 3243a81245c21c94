"""The denoiser: a U-Net over the masked window of the latents, conditioned by TalkFormer blocks.

    z_t ⊕ masked latents ⊕ mask ⊕ target maps ⊕ reference latents ⊕ reference maps ⊕ warped latents
     │ 32x32: res, TalkFormer ─────────────────────────────── res, TalkFormer ─▶ v
     └─▶ 16x16: res, TalkFormer ──────────── res, TalkFormer ─┘
          └─▶ 8x8: res, TalkFormer ─ middle ─ res, TalkFormer

Beside z_t and mask, the paper's path is the landmark tokens and the reference features (M-Align,
R-Align). Maps, reference latents and warped latents are our additions for small budgets
(docs/adr/0006); the last two are left out of some training samples, and may be left out in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.errors import ShapeError
from model.networks.landmark_maps import NUM_MAPS, landmark_maps
from model.networks.talkformer import (
    KeyValue,
    LandmarkEncoder,
    TalkFormerBlock,
    cell_centres,
    fourier_features,
)

VARIANTS: Final[dict[str, tuple[int, ...]]] = {"tiny": (64, 128, 192)}
"""Channels at each scale, by variant."""


@dataclass(frozen=True)
class Window:
    """Part of the latent grid that is denoised, in cells."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, tensor: torch.Tensor) -> torch.Tensor:
        """The window of `(..., H, W)`."""
        return tensor[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def paste(self, part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """A copy of `whole` `(..., H, W)` with `part` in the window."""
        pasted = whole.clone()
        pasted[..., self.top : self.top + self.height, self.left : self.left + self.width] = part
        return pasted

    def shrink(self, factor: int) -> Window:
        """The same window on a grid `factor` times coarser."""
        return Window(
            *(value // factor for value in (self.top, self.left, self.height, self.width))
        )


@dataclass
class ReferenceCache:
    """Keys and values of every R-Align; computed once per job."""

    pairs: list[KeyValue | None]


@dataclass
class UNetCondition:
    """All that the denoiser sees beside z_t; computed once per frame batch and used at every step.

    Attributes:
        spatial: `(B, 29, h, w)`, what is concatenated to z_t.
        landmarks: M-Align's keys and values, per block.
        reference: R-Align's.
    """

    spatial: torch.Tensor
    landmarks: list[KeyValue | None]
    reference: ReferenceCache


class _ResBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, time_dim: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(8, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.time = nn.Linear(time_dim, 2 * channels)
        self.norm_2 = nn.GroupNorm(8, channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = (
            nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        )
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(self, hidden: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        inner = self.conv_1(F.silu(self.norm_1(hidden)))
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        inner = self.conv_2(F.silu(self.norm_2(inner) * (1 + scale) + shift))
        skipped: torch.Tensor = self.skip(hidden)
        return skipped + inner


class TalkFormerUNet(ModelMixin, ConfigMixin):
    """Denoises the lower face.

    Args:
        channels: Width at each scale, finest first; also the reference features' widths.
        latent_channels: Of the autoencoder.
        latent_size: Side of the whole latent grid in cells.
        token_width: D of the landmark tokens.
        self_attention_from: Scales from this index on have self-attention.
        m_align: The paper's ablation switch.
        r_align: The paper's ablation switch.
        maps: Whether landmark maps are given to the network (else zeros).
        window: Top, left, height, width of the denoised part of the latent grid, in cells: the
            lower face with some known rows above it. Training and use share it (docs/adr/0007).
        reference_latents: Whether the reference's latents are given to the network (else zeros,
            whatever `prepare_condition` is passed).
        warped_latents: The same for the warped reference's latents.
    Raises:
        ShapeError: The window does not fit the grid or the scales.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = VARIANTS["tiny"],
        latent_channels: int = 4,
        latent_size: int = 32,
        token_width: int = 128,
        self_attention_from: int = 1,
        m_align: bool = True,
        r_align: bool = True,
        maps: bool = True,
        window: tuple[int, int, int, int] = (12, 4, 20, 24),
        reference_latents: bool = True,
        warped_latents: bool = True,
    ) -> None:
        super().__init__()
        time_dim = 4 * channels[0]
        scales = range(len(channels))
        self.time_embed = nn.Sequential(
            nn.Linear(channels[0], time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )
        self.landmark_encoder = LandmarkEncoder(token_width)
        self.conv_in = nn.Conv2d(self.in_channels, channels[0], 3, padding=1)

        def block(scale: int) -> TalkFormerBlock:
            return TalkFormerBlock(
                channels[scale],
                token_width,
                self_attention=scale >= self_attention_from,
                m_align=m_align,
                r_align=r_align,
            )

        self.down_res = nn.ModuleList(_ResBlock(channels[i], channels[i], time_dim) for i in scales)
        self.down_talk = nn.ModuleList(block(i) for i in scales)
        self.downs = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], 3, stride=2, padding=1) for i in scales[:-1]
        )
        last = len(channels) - 1
        top, left, height, width = window
        inside = min(top, left) >= 0 and max(top + height, left + width) <= latent_size
        if not inside or min(height, width) < 1 or any(value % 2**last for value in window):
            raise ShapeError(
                f"window (top, left, height, width) is {tuple(window)}; expected multiples of "
                f"{2**last} cells within {latent_size} x {latent_size}"
            )
        self.middle_res = nn.ModuleList(
            _ResBlock(channels[last], channels[last], time_dim) for _ in range(2)
        )
        self.middle_talk = block(last)
        self.up_res = nn.ModuleList(
            _ResBlock(2 * channels[i], channels[i], time_dim) for i in scales
        )
        self.up_talk = nn.ModuleList(block(i) for i in scales)
        self.ups = nn.ModuleList(
            nn.Conv2d(channels[i + 1], channels[i], 3, padding=1) for i in scales[:-1]
        )
        self.norm_out = nn.GroupNorm(8, channels[0])
        self.conv_out = nn.Conv2d(channels[0], latent_channels, 3, padding=1)
        # Nearly zero, not zero: behind a dead end no zero-initialised branch would learn at the first step.
        nn.init.normal_(self.conv_out.weight, std=1e-3)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    @property
    def window(self) -> Window:
        """The part of the latent grid that is denoised."""
        return Window(*self.config["window"])

    @property
    def in_channels(self) -> int:
        """z_t, masked, reference and warped latents, the mask, and two sets of landmark maps."""
        return 4 * int(self.config["latent_channels"]) + 1 + 2 * NUM_MAPS

    @property
    def talk_blocks(self) -> list[tuple[int, TalkFormerBlock]]:
        """Scale index and TalkFormer block, in the order of their caches."""
        scales = range(len(self.down_talk))
        blocks = [*zip(scales, self.down_talk, strict=True), (scales[-1], self.middle_talk)]
        return blocks + list(zip(scales, self.up_talk, strict=True))  # type: ignore[return-value]

    def _positions(self, window: Window, scale: int) -> torch.Tensor:
        here = window.shrink(2**scale)
        size = int(self.config["latent_size"]) // 2**scale
        return fourier_features(
            cell_centres(
                here.top, here.left, here.height, here.width, size, self.conv_in.weight.device
            )
        )

    def prepare_reference(
        self, features: list[torch.Tensor], reference_landmarks: torch.Tensor
    ) -> ReferenceCache:
        """Keys and values of R-Align for every block.

        Args:
            features: `ReferenceEncoder`'s, finest first; only those in the window are looked at.
            reference_landmarks: `(B, 68, 2)`, crop units.
        Raises:
            ShapeError: The features are not of the U-Net's grid.
        """
        size = int(self.config["latent_size"])
        if features[0].shape[-2:] != (size, size):
            raise ShapeError(
                f"reference features are {tuple(features[0].shape[-2:])} cells; expected "
                f"{size} x {size}"
            )
        window = self.window
        tokens = self.landmark_encoder(reference_landmarks, reference_landmarks)
        pairs = []
        for scale, block in self.talk_blocks:
            seen = window.shrink(2**scale).crop(features[scale]).flatten(2).transpose(1, 2)
            pairs.append(block.reference_pairs(seen, tokens, self._positions(window, scale)))
        return ReferenceCache(pairs)

    def prepare_condition(
        self,
        *,
        target_landmarks: torch.Tensor,
        reference_landmarks: torch.Tensor,
        masked_latents: torch.Tensor,
        mask: torch.Tensor,
        reference_latents: torch.Tensor,
        warped_latents: torch.Tensor | None,
        reference: ReferenceCache,
    ) -> UNetCondition:
        """Everything beside z_t for a batch of frames.

        Args:
            target_landmarks: `(B, 68, 2)`, crop units.
            reference_landmarks: `(B, 68, 2)` or `(1, 68, 2)`.
            masked_latents: Of the picture with its lower face grey, `(B or 1, 4, H, W)`.
            mask: 1 where generated, `(B or 1, 1, H, W)`.
            reference_latents: `(B or 1, 4, H, W)`; zeros when left out.
            warped_latents: `(B, 4, H, W)`, or None when left out.
            reference: From `prepare_reference`.
        Raises:
            ShapeError: The latents are not of the whole grid.
        """
        batch, size = len(target_landmarks), int(self.config["latent_size"])
        window = self.window
        if masked_latents.shape[-2:] != (size, size):
            raise ShapeError(
                f"latents are {tuple(masked_latents.shape[-2:])} cells; expected {size} x {size}"
            )
        if warped_latents is None or not self.config["warped_latents"]:
            warped_latents = torch.zeros_like(masked_latents)
        if not self.config["reference_latents"]:
            reference_latents = torch.zeros_like(masked_latents)
        # One reference for all frames is drawn once and widened with the rest below.
        drawn = [landmark_maps(points, size) for points in (target_landmarks, reference_landmarks)]
        if not self.config["maps"]:
            drawn = [torch.zeros_like(x) for x in drawn]
        parts = [masked_latents, mask, drawn[0], reference_latents, drawn[1], warped_latents]
        dtype = self.conv_in.weight.dtype
        spatial = torch.cat(
            [window.crop(x).to(dtype).expand(batch, -1, -1, -1) for x in parts], dim=1
        )
        tokens = self.landmark_encoder(target_landmarks, reference_landmarks.expand(batch, -1, -1))
        landmarks = [block.landmark_pairs(tokens) for _, block in self.talk_blocks]
        return UNetCondition(
            spatial.contiguous(memory_format=torch.channels_last), landmarks, reference
        )

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor | int, condition: UNetCondition
    ) -> torch.Tensor:
        """Predict v for the window's latents.

        Args:
            latents: z_t `(B, 4, h, w)` of the window.
            timestep: Scalar or `(B,)`, 0 to 999.
            condition: From `prepare_condition`.
        Returns:
            `(B, 4, h, w)`.
        Raises:
            ShapeError: `latents` are not the window's, or not as many as the condition's frames.
        """
        batch = len(latents)
        expected = (
            len(condition.spatial),
            self.config["latent_channels"],
            *condition.spatial.shape[2:],
        )
        if latents.shape != expected:
            raise ShapeError(
                f"latents are {tuple(latents.shape)}; expected the window's {expected}. Cut them "
                "with `unet.window.crop`."
            )
        steps = torch.as_tensor(timestep, device=latents.device).expand(batch)
        channels = self.conv_in.out_channels
        embedding = get_timestep_embedding(
            steps, channels, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        time = F.silu(self.time_embed(embedding.to(self.conv_in.weight.dtype)))
        caches = list(zip(condition.landmarks, condition.reference.pairs, strict=True))
        scales = len(self.down_res)
        positions = [self._positions(self.window, scale) for scale in range(scales)]

        hidden = self.conv_in(
            torch.cat([latents.to(condition.spatial.dtype), condition.spatial], dim=1)
        )
        skips = []
        for scale in range(scales):
            if scale:
                hidden = self.downs[scale - 1](hidden)
            hidden = self.down_res[scale](hidden, time)
            hidden = self.down_talk[scale](hidden, positions[scale], *caches[scale])
            skips.append(hidden)
        hidden = self.middle_res[0](hidden, time)
        hidden = self.middle_talk(hidden, positions[-1], *caches[scales])
        hidden = self.middle_res[1](hidden, time)
        for scale in reversed(range(scales)):
            if scale < scales - 1:
                hidden = self.ups[scale](F.interpolate(hidden, scale_factor=2.0, mode="nearest"))
            hidden = self.up_res[scale](torch.cat([hidden, skips[scale]], dim=1), time)
            hidden = self.up_talk[scale](hidden, positions[scale], *caches[scales + 1 + scale])
        predicted: torch.Tensor = self.conv_out(F.silu(self.norm_out(hidden)))
        return predicted
