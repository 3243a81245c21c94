"""The autoencoder D(E(.)): diffusers' `AutoencoderKL` at our sizes, or a quick one distilled from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from model.networks.variants import VARIANTS

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny
"""What stage 0 trains, or what stage 5 distils from it: the same latents for half of the time."""


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


def build_distilled_autoencoder(variant: str = "tiny") -> AutoencoderTiny:
    """An untrained quick autoencoder, whose latents are those of another, scaled; shapes as above.

    Args:
        variant: A key of `VARIANTS` that has `distilled` sizes.
    """
    return AutoencoderTiny(
        in_channels=3, out_channels=3, latent_channels=4, **VARIANTS[variant].distilled
    )


def load_autoencoder(folder: Path) -> Autoencoder:
    """The autoencoder saved in `folder`, of whichever class its configuration names."""
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    kind = AutoencoderTiny if name == AutoencoderTiny.__name__ else AutoencoderKL
    loaded: Autoencoder = kind.from_pretrained(folder, low_cpu_mem_usage=False)
    return loaded


def pixels_per_cell(autoencoder: Autoencoder) -> int:
    """f: side of the block of pixels behind one latent cell."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


def encode_pictures(
    autoencoder: Autoencoder, pictures: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Pictures `(B, 3, S, S)` in [-1, 1] -> latents `(B, 4, h, w)` of about unit variance.

    Args:
        autoencoder: On the pictures' device, in their dtype.
        pictures: What is encoded; no noise is drawn, the posterior's mode counts.
        dtype: In which the latents are scaled; None for the autoencoder's own.
    """
    encoded = autoencoder.encode(pictures)
    latents: torch.Tensor = (
        encoded.latents if isinstance(autoencoder, AutoencoderTiny) else encoded.latent_dist.mode()
    )
    return latents.to(dtype or latents.dtype) * float(autoencoder.config.scaling_factor)


def decode_latents(autoencoder: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """Latents of `encode_pictures` -> pictures `(B, 3, S, S)`, float32, about [-1, 1], not clipped."""
    unscaled = (latents / float(autoencoder.config.scaling_factor)).to(autoencoder.dtype)
    decoded: torch.Tensor = autoencoder.decode(
        unscaled.contiguous(memory_format=torch.channels_last)
    ).sample
    return decoded.float()


def enlarge_cells(cells: torch.Tensor, factor: int) -> torch.Tensor:
    """Values of latent cells `(..., h, w)` as those of the pixels behind them `(..., f h, f w)`."""
    return cells.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
