"""Parameters and GMAC of each variant's networks, as a table.

    python benchmarks/network_sizes.py

Nothing is computed: the networks are built on torch's meta device and counted by its FLOP counter,
for one frame; a GMAC is two GFLOP. Normalisations and activations are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.networks.attention import use_backend
from model.networks.autoencoder import (
    build_autoencoder,
    build_distilled_autoencoder,
    pixels_per_cell,
)
from model.networks.detail import SCALE, DetailNetwork
from model.networks.reference_encoder import build_reference_encoder
from model.networks.unet import build_unet
from model.networks.variants import GRIDS, VARIANTS


@dataclass(frozen=True)
class Row:
    """One network, or one part of its work."""

    variant: str
    work: str
    millions: float
    gmac: float


def count(run: Callable[[], object]) -> float:
    """GMAC of `run`."""
    # written out: the counter knows matrix products, not every fused attention
    with FlopCounterMode(display=False) as counter, use_backend("eager"):
        run()
    return float(counter.get_total_flops()) / 2e9


def millions(network: nn.Module) -> float:
    """Parameters of `network`, in millions."""
    return sum(p.numel() for p in network.parameters()) / 1e6


def measure(variant: str, crop: str) -> list[Row]:
    """The rows of one variant, for crops of faces or of mouths."""
    with torch.device("meta"), torch.no_grad():
        unet, encoder = build_unet(variant, crop).eval(), build_reference_encoder(variant).eval()
        autoencoder = build_autoencoder(variant).eval()
        cells = int(unet.config.latent_size)
        side = cells * pixels_per_cell(autoencoder)
        picture, points = torch.zeros(1, 3, side, side), torch.zeros(1, 68, 2)
        latents, mask = torch.zeros(1, 4, cells, cells), torch.zeros(1, 1, cells, cells)
        features = encoder(picture)
        reference = unet.prepare_reference(features, points)
        inputs = {
            "target_landmarks": points,
            "reference_landmarks": points,
            "masked_latents": latents,
            "mask": mask,
            "reference_latents": latents,
            "warped_latents": latents,
            "reference": reference,
        }
        condition, noisy = unet.prepare_condition(**inputs), unet.window.crop(latents)
        rows = [
            ("reference encoder, once a job", encoder, lambda: encoder(picture)),
            (
                "its keys and values, once a job",
                unet,
                lambda: unet.prepare_reference(features, points),
            ),
            ("landmarks, each frame", unet, lambda: unet.prepare_condition(**inputs)),
            ("U-Net, each frame and step", unet, lambda: unet(noisy, 0, condition)),
            ("encoder, each frame", autoencoder, lambda: autoencoder.encode(picture)),
            ("decoder, each frame", autoencoder, lambda: autoencoder.decode(latents)),
        ]
        if VARIANTS[variant].distilled:
            quick = build_distilled_autoencoder(variant).eval()
            rows += [
                ("distilled encoder, each frame", quick, lambda: quick.encode(picture)),
                ("distilled decoder, each frame", quick, lambda: quick.decode(latents)),
            ]
        if variant == "tiny":
            detail = DetailNetwork().eval()
            pixels = unet.window.enlarge(side // cells)
            drawn = torch.zeros(1, 3, pixels.height, pixels.width)
            warped = torch.zeros(1, 3, SCALE * pixels.height, SCALE * pixels.width)
            rows.append(("detail network, each frame", detail, lambda: detail(drawn, warped)))
        return [
            Row(f"{variant}, {crop}", work, millions(net), count(run)) for work, net, run in rows
        ]


def main() -> None:
    """Print the table."""
    print("| variant | work | M parameters of the network | GMAC |\n| --- | --- | --- | --- |")
    for variant in VARIANTS:
        for row in (row for crop in GRIDS for row in measure(variant, crop)):
            print(f"| {row.variant} | {row.work} | {row.millions:.1f} | {row.gmac:.2f} |")


if __name__ == "__main__":
    main()
