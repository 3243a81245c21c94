"""Put a trained sync network where evaluation looks for it.

    python -m model.training.builders.export_sync network=runs/sync/export/sync_network

Writes fp16 safetensors; the card (README.md) in the output folder stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.errors import CheckpointError
from model.networks.sync_network import SHIPPED, load_sync_network
from model.training.builders.export import tidy, to_half
from model.training.config import run_program

LIMIT_MB: Final = 5.0
"""Largest that ships."""


def pack(network: Path, output: Path) -> float:
    """Write the sync network of folder `network` to `output` in fp16; returns its size in MB.

    Raises:
        CheckpointError: There is none, it has values beyond fp16, or it is too large.
    """
    loaded = load_sync_network(network)
    to_half("sync_network", loaded)
    loaded.save_pretrained(output)
    tidy(output)
    size_mb = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    if size_mb > LIMIT_MB:
        raise CheckpointError(f"{output} has {size_mb:.1f} MB; expected at most {LIMIT_MB:.0f} MB.")
    return size_mb


@dataclass(frozen=True)
class ExportSyncConfig:
    """The sync network's export: from the folder `network` to the folder `output`."""

    network: Path = Path("runs/sync/export/sync_network")
    output: Path = SHIPPED


def main(config: ExportSyncConfig) -> None:
    """Pack, and print what it weighs."""
    print(f"{config.output}: {pack(config.network, config.output):.2f} MB")


if __name__ == "__main__":
    run_program(ExportSyncConfig, main, __doc__)
