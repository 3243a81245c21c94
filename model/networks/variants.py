"""The one place that knows all sizes.

| variant | crop | autoencoder | meant for |
| --- | --- | --- | --- |
| tiny | 128 px | f4 | a CPU; the one that ships |
| base | 256 px | f8 | one GPU, from nothing |
| large | 256 px | Stable Diffusion's f8 | several GPUs, from Stable Diffusion 1.5's weights |

The crop is the face's or the mouth's (`GRIDS`), with a latent grid of 32x32 or 24x24 cells; crops of
mouths are three quarters as many pixels wide. All have TalkFormer blocks at three scales and in the
middle (arXiv 2408.05416 names no sizes; these are ours).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# With four scales a window is made of blocks of 8 cells. Rows 16 to 31 are generated; the 8 above
# are known, and so are most of the outer 8 columns on both sides.
_WIDE_WINDOW: Final = (8, 0, 24, 32)

GRIDS: Final[Mapping[str, int]] = {"face": 32, "mouth": 24}
"""Cells a side of the latents of a face's crop, or of a mouth's, which are all denoised."""


@dataclass(frozen=True)
class Variant:
    """Sizes of the networks that belong together, as keyword arguments of their constructors.

    Attributes:
        channels: Width at each scale of U-Net and reference encoder, finest first.
        unet: The other arguments of `TalkFormerUNet`; the window is that of a face's crop.
        patch: Of `ReferenceEncoder`: pixels to a latent cell.
        autoencoder: Arguments of diffusers' `AutoencoderKL`.
        distilled: Arguments of diffusers' `AutoencoderTiny`, which does the same in less time; none
            where nobody has distilled one.
    """

    channels: tuple[int, ...]
    unet: Mapping[str, Any]
    patch: int
    autoencoder: Mapping[str, Any]
    distilled: Mapping[str, Any] = field(default_factory=dict)


VARIANTS: Final[Mapping[str, Variant]] = {
    "tiny": Variant(
        channels=(64, 128, 192),
        unet={"token_width": 128, "window": (12, 4, 20, 24), "reference_places": True},
        patch=4,
        # Stable Diffusion's decoder would cost more than the sampling
        autoencoder={
            "block_out_channels": (32, 64, 96),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "mid_block_add_attention": False,
            "sample_size": 128,
        },
        distilled={
            "encoder_block_out_channels": (48, 48, 48),
            "num_encoder_blocks": (0, 1, 3),
            "decoder_block_out_channels": (48, 48, 48),
            "num_decoder_blocks": (3, 2, 1),
        },
    ),
    "base": Variant(
        channels=(160, 320, 640, 640),
        unet={
            "token_width": 256,
            "reference_places": True,
            "talk_scales": 3,
            "window": _WIDE_WINDOW,
            "layers_per_scale": 2,
        },
        patch=8,
        autoencoder={
            "block_out_channels": (32, 64, 128, 256),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "mid_block_add_attention": False,
            "sample_size": 256,
        },
    ),
    "large": Variant(
        channels=(320, 640, 1280, 1280),
        unet={
            "token_width": 512,
            "reference_places": True,
            "talk_scales": 3,
            "window": _WIDE_WINDOW,
            "self_attention_from": 0,
            "layers_per_scale": 2,
            "heads": 8,
            "groups": 32,
            "stable_diffusion_layout": True,
        },
        patch=8,
        autoencoder={
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "mid_block_add_attention": True,
            "sample_size": 256,
        },
    ),
}
