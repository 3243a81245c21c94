"""The autoencoder D(E(.)): diffusers' `AutoencoderKL`, small enough for a CPU."""

from __future__ import annotations

from typing import Final

from diffusers import AutoencoderKL

SIZES: Final[dict[str, dict[str, object]]] = {
    # 128 px crops, f4: 32x32 latents; Stable Diffusion's decoder would cost more than the sampling
    "tiny": {"block_out_channels": (32, 64, 96), "sample_size": 128, "latent_channels": 4},
}


def build_autoencoder(variant: str = "tiny") -> AutoencoderKL:
    """An untrained autoencoder.

    Args:
        variant: A key of `SIZES`.
    Returns:
        Maps `(B, 3, S, S)` in [-1, 1] to latents `(B, 4, S / 4, S / 4)` and back.
    """
    size = SIZES[variant]
    channels = size["block_out_channels"]
    assert isinstance(channels, tuple)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        **size,
    )
