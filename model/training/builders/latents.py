r"""Latents of the training pairs, by the trained autoencoder.

    python -m model.training.builders.latents prepared=data/prepared \
        autoencoder=runs/autoencoder/export/autoencoder

Reads `pairs.npz` and writes `latents.npz`, all float16 and scaled:

    latents (N,4,h,w) of the pictures; warped_latents (P,4,h,w) of what was carried
    masked_latents (N,4,h,w) of the pictures without what is generated: crops of faces only, as what
    surrounds a mouth is carried, too
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.arrays import write_arrays
from model.networks.autoencoder import (
    Autoencoder,
    encode_pictures,
    load_autoencoder,
    pixels_per_cell,
)
from model.networks.pixels import to_tensor
from model.networks.variants import GRIDS
from model.training.config import run_program

_BATCH: Final = 32  # pictures that are encoded at once


@dataclass(frozen=True)
class LatentsConfig:
    """Latents of `pairs.npz` in `prepared`, by the autoencoder in a folder."""

    prepared: Path = Path("data/prepared")
    autoencoder: Path = Path("runs/autoencoder/export/autoencoder")


@torch.inference_mode()
def encode(
    autoencoder: Autoencoder, images: NDArray[np.uint8], masks: NDArray[np.bool_] | None = None
) -> NDArray[np.float16]:
    """Scaled latents `(N, 4, S / f, S / f)`, float16, of pictures `(N, S, S, 3)` uint8.

    The autoencoder is in eval mode; pixels in `masks` `(N, S, S)` become mid grey first.
    """
    parts = []
    for start in tqdm(range(0, len(images), _BATCH), desc="encode", mininterval=10):
        tensor = to_tensor(images[start : start + _BATCH])
        if masks is not None:
            tensor = tensor * (~torch.from_numpy(masks[start : start + _BATCH]))[:, None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latents = encode_pictures(autoencoder, tensor, torch.float32)
        parts.append(latents.half().numpy())
    return np.concatenate(parts)


def main(config: LatentsConfig) -> None:
    """Encode all pictures."""
    autoencoder = load_autoencoder(config.autoencoder).eval()
    autoencoder.to(memory_format=torch.channels_last)
    pairs = np.load(config.prepared / "pairs.npz")
    images, masks = pairs["images"], pairs["masks"]
    arrays = {
        "latents": encode(autoencoder, images),
        "warped_latents": encode(autoencoder, pairs["warped"]),
    }
    if masks.shape[-1] == GRIDS["face"]:
        factor = pixels_per_cell(autoencoder)
        hidden = masks.repeat(factor, axis=1).repeat(factor, axis=2)
        arrays["masked_latents"] = encode(autoencoder, images, hidden)
    write_arrays(config.prepared / "latents.npz", arrays)


if __name__ == "__main__":
    run_program(LatentsConfig, main, __doc__)
