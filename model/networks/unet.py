"""The denoiser: a U-Net over the masked window of the latents, conditioned by TalkFormer blocks.

    z_t ⊕ masked latents ⊕ mask ⊕ target maps ⊕ reference latents ⊕ reference maps ⊕ warped latents
     │ 32x32: res, TalkFormer ─────────────────────────────── res, TalkFormer ─▶ v
     └─▶ 16x16: res, TalkFormer ──────────── res, TalkFormer ─┘
          └─▶ 8x8: res, TalkFormer ─ middle ─ res, TalkFormer

Tiny is drawn; `variants.py` has all sizes. Beside z_t and mask, the paper's path is the landmark
tokens and the reference features (M-Align, R-Align). Maps, reference latents and warped latents are
our additions for small budgets (docs/adr/0006); the last two are left out of some training samples,
and may be left out in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.errors import ShapeError
from model.networks.landmark_maps import NUM_MAPS, landmark_maps
from model.networks.latent_window import Window
from model.networks.residual_block import ResBlock, res_widths
from model.networks.talkformer import (
    KeyValue,
    LandmarkEncoder,
    TalkFormerBlock,
    cell_centres,
    fourier_features,
)
from model.networks.variants import GRIDS, VARIANTS

if TYPE_CHECKING:  # it needs OpenCV, which a machine that only trains on arrays has not
    from model.face.mouth_crop import NetworkCrop


@dataclass
class ReferenceCache:
    """Keys and values of every R-Align; computed once per job."""

    pairs: list[KeyValue | None]

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> ReferenceCache:
        """The same with all keys and all values `(B, M, C)` changed."""
        return ReferenceCache(
            [pair and KeyValue(change(pair.key), change(pair.value)) for pair in self.pairs]
        )


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
        reference_places: Whether R-Align's keys carry places (`TalkFormerBlock`); False only in
            checkpoints older than that.
        maps: Whether landmark maps are given to the network (else zeros).
        window: Top, left, height, width of the denoised part of the latent grid, in cells: the
            lower face with some known rows above it. Training and use share it (docs/adr/0007).
        crop: What the network looks at, "face" or "mouth" (`model.face.mouth_crop`). It only says
            so; all landmarks that the network is given are in that crop's units.
        reference_latents: Whether the reference's latents are given to the network (else zeros,
            whatever `prepare_condition` is passed).
        warped_latents: The same for the warped reference's latents.
        layers_per_scale: Residual blocks at each scale on the way down.
        talk_scales: Scales below this index have TalkFormer blocks, one behind each residual block;
            None = all. The middle always has one.
        heads: Of attention; None = one for every 32 channels.
        groups: Of the normalisations.
        stable_diffusion_layout: Laid out as Stable Diffusion 1.5's U-Net, so that its weights fit:
            every stage of the way down is a skip, one residual block more on the way up, the time
            is added, and TalkFormer blocks have projections.
    Raises:
        ShapeError: The window does not fit the grid or the scales, or `talk_scales` the latter.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = VARIANTS["tiny"].channels,
        latent_channels: int = 4,
        latent_size: int = 32,
        token_width: int = 128,
        self_attention_from: int = 1,
        m_align: bool = True,
        r_align: bool = True,
        reference_places: bool = False,
        maps: bool = True,
        window: tuple[int, int, int, int] = (12, 4, 20, 24),
        crop: str = "face",
        reference_latents: bool = True,
        warped_latents: bool = True,
        layers_per_scale: int = 1,
        talk_scales: int | None = None,
        heads: int | None = None,
        groups: int = 8,
        stable_diffusion_layout: bool = False,
    ) -> None:
        super().__init__()
        time_dim = 4 * channels[0]
        last = len(channels) - 1
        talking = len(channels) if talk_scales is None else talk_scales
        _check_scales(len(channels), talking, latent_size, window)
        self.time_embed = nn.Sequential(
            nn.Linear(channels[0], time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )
        self.landmark_encoder = LandmarkEncoder(token_width)
        self.conv_in = nn.Conv2d(self.in_channels, channels[0], 3, padding=1)

        def block(scale: int) -> TalkFormerBlock:
            return TalkFormerBlock(
                channels[scale],
                token_width,
                head_dim=32 if heads is None else channels[scale] // heads,
                self_attention=scale >= self_attention_from,
                m_align=m_align,
                r_align=r_align,
                reference_places=reference_places,
                stable_diffusion_layout=stable_diffusion_layout,
                groups=groups,
            )

        def res(entering: int, leaving: int) -> ResBlock:
            return ResBlock(
                entering, leaving, time_dim, groups=groups, time_scales=not stable_diffusion_layout
            )

        # Blocks lie scale by scale, finest first, on the way up too.
        down, up = res_widths(channels, layers_per_scale, stable_diffusion_layout)
        self.down_res = nn.ModuleList(res(*widths) for widths in down)
        self.down_talk = nn.ModuleList(
            block(i) for i in range(talking) for _ in range(len(down) // len(channels))
        )
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, fine if stable_diffusion_layout else coarse, 3, stride=2, padding=1)
            for fine, coarse in pairwise(channels)
        )
        self.middle_res = nn.ModuleList(res(channels[last], channels[last]) for _ in range(2))
        self.middle_talk = block(last)
        self.up_res = nn.ModuleList(res(*widths) for widths in up)
        self.up_talk = nn.ModuleList(
            block(i) for i in range(talking) for _ in range(len(up) // len(channels))
        )
        self.ups = nn.ModuleList(
            nn.Conv2d(coarse, coarse if stable_diffusion_layout else fine, 3, padding=1)
            for fine, coarse in pairwise(channels)
        )
        self.norm_out = nn.GroupNorm(groups, channels[0])
        self.conv_out = nn.Conv2d(channels[0], latent_channels, 3, padding=1)
        # Nearly zero, not zero: behind a dead end no zero-initialised branch would learn at the first step.
        nn.init.normal_(self.conv_out.weight, std=1e-3)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    @property
    def window(self) -> Window:
        """The part of the latent grid that is denoised."""
        return Window(*self.config["window"])

    @property
    def crop(self) -> NetworkCrop:
        """What the network looks at."""
        crop: NetworkCrop = self.config["crop"]
        return crop

    @property
    def in_channels(self) -> int:
        """z_t, masked, reference and warped latents, the mask, and two sets of landmark maps."""
        return 4 * int(self.config["latent_channels"]) + 1 + 2 * NUM_MAPS

    @property
    def talk_blocks(self) -> list[tuple[int, TalkFormerBlock]]:
        """Scale index and TalkFormer block, in the order of their caches."""
        scales = len(self.config["channels"])
        down = self._scales_of(self.down_talk, len(self.down_res) // scales)
        up = self._scales_of(self.up_talk, len(self.up_res) // scales)
        return [*down, (scales - 1, self.middle_talk), *up]

    @staticmethod
    def _scales_of(blocks: nn.ModuleList, layers: int) -> list[tuple[int, TalkFormerBlock]]:
        return [(index // layers, block) for index, block in enumerate(blocks)]  # type: ignore[misc]

    def _positions(self, window: Window, scale: int) -> torch.Tensor:
        here = window.shrink(2**scale)
        size = int(self.config["latent_size"]) // 2**scale
        sides = (here.top, here.left, here.height, here.width)
        return fourier_features(cell_centres(*sides, size, self.conv_in.weight.device))

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
        frames, _, *sides = condition.spatial.shape
        expected = (frames, self.config["latent_channels"], *sides)
        if latents.shape != expected:
            raise ShapeError(
                f"latents are {tuple(latents.shape)}; expected the window's {expected}. Cut them "
                "with `unet.window.crop`."
            )
        if isinstance(timestep, torch.Tensor):
            steps = timestep.to(latents.device).expand(batch)
        else:  # made where it is needed: nothing crosses over
            steps = torch.full((batch,), timestep, device=latents.device)
        channels = self.conv_in.out_channels
        embedding = get_timestep_embedding(
            steps, channels, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        time = F.silu(self.time_embed(embedding.to(self.conv_in.weight.dtype)))
        caches = list(zip(condition.landmarks, condition.reference.pairs, strict=True))
        scales = range(len(self.config["channels"]))
        positions = [self._positions(self.window, scale) for scale in scales]

        hidden = self.conv_in(
            torch.cat([latents.to(condition.spatial.dtype), condition.spatial], dim=1)
        )
        every_stage = bool(self.config["stable_diffusion_layout"])
        skips = [hidden] if every_stage else []
        layers = len(self.down_res) // len(scales)
        for scale in scales:
            if scale:
                hidden = self.downs[scale - 1](hidden)
                if every_stage:
                    skips.append(hidden)
            for index in range(scale * layers, (scale + 1) * layers):
                hidden = self.down_res[index](hidden, time)
                if index < len(self.down_talk):
                    hidden = self.down_talk[index](hidden, positions[scale], *caches[index])
                skips.append(hidden)

        hidden = self.middle_res[0](hidden, time)
        middle = len(self.down_talk)
        hidden = self.middle_talk(hidden, positions[-1], *caches[middle])
        hidden = self.middle_res[1](hidden, time)

        layers = len(self.up_res) // len(scales)
        for scale in reversed(scales):
            if scale < scales[-1]:
                hidden = self.ups[scale](F.interpolate(hidden, scale_factor=2.0, mode="nearest"))
            for index in range(scale * layers, (scale + 1) * layers):
                hidden = self.up_res[index](torch.cat([hidden, skips.pop()], dim=1), time)
                if index < len(self.up_talk):
                    cache = caches[middle + 1 + index]
                    hidden = self.up_talk[index](hidden, positions[scale], *cache)
        predicted: torch.Tensor = self.conv_out(F.silu(self.norm_out(hidden)))
        return predicted


def _check_scales(
    scales: int, talking: int, latent_size: int, window: tuple[int, int, int, int]
) -> None:
    if not 1 <= talking <= scales:
        raise ShapeError(f"talk_scales is {talking}; expected 1 to {scales}, the number of scales")
    top, left, height, width = window
    inside = min(top, left) >= 0 and max(top + height, left + width) <= latent_size
    cell = 2 ** (scales - 1)
    if not inside or min(height, width) < 1 or any(value % cell for value in window):
        raise ShapeError(
            f"window (top, left, height, width) is {tuple(window)}; expected multiples of "
            f"{cell} cells within {latent_size} x {latent_size}"
        )


def build_unet(variant: str, crop: str = "face", **changed: Any) -> TalkFormerUNet:
    """An untrained denoiser.

    Args:
        variant: A key of `VARIANTS`.
        crop: A key of `GRIDS`.
        changed: Arguments of `TalkFormerUNet` that replace the variant's, such as switches.
    """
    sizes, cells = VARIANTS[variant], GRIDS[crop]
    grid: dict[str, Any] = {"latent_size": cells, "crop": crop}
    if crop == "mouth":
        grid["window"] = (0, 0, cells, cells)
    return TalkFormerUNet(**{"channels": sizes.channels, **sizes.unet, **grid, **changed})
