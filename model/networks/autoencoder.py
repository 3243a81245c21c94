"""The autoencoder D(E(.)): diffusers' `AutoencoderKL` at our sizes."""

from __future__ import annotations

from diffusers import AutoencoderKL

from model.networks.variants import VARIANTS


def build_autoencoder(variant: str = "tiny") -> AutoencoderKL:
    """An untrained autoencoder.

    Args:
        variant: A key of `VARIANTS`.
    Returns:
        Maps `(B, 3, S, S)` in [-1, 1] to latents `(B, 4, S / f, S / f)` and back; f is 4 for tiny,
        8 for the others.
    """
    options = VARIANTS[variant].autoencoder
    scales = len(options["block_out_channels"])
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * scales,
        up_block_types=("UpDecoderBlock2D",) * scales,
        **options,
    )


def pixels_per_cell(autoencoder: AutoencoderKL) -> int:
    """f: side of the block of pixels behind one latent cell."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))
