"""Pack what the stages exported into one checkpoint.

    python -m model.training.builders.export version=0.1.0 output=model/weights

Reads `runs/*/export/*`, adds the noise schedule and the inner mouths, writes fp16 safetensors and
the manifest, checks the result and prints its size. A model card (README.md) in the output folder
stays.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from model.checkpoints import (
    INNER_MOUTHS,
    OPTIONAL_PARTS,
    PARTS,
    SHIPPED,
    verify_checkpoint,
    write_manifest,
)
from model.errors import CheckpointError
from model.face.inner_mouth import InnerMouthBank
from model.networks.autoencoder import load_autoencoder
from model.networks.detail import DetailNetwork
from model.networks.head_flow import HeadFlow
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.unet import TalkFormerUNet
from model.pipelines.talking_face import TalkingFacePipeline
from model.training.config import run_program

LIMIT_MB: Final = 40.0
"""Largest checkpoint that ships; every version stays in the repository's history."""


_LOADERS: Final[dict[str, Any]] = {
    "autoencoder": load_autoencoder,
    "unet": partial(TalkFormerUNet.from_pretrained, low_cpu_mem_usage=False),
    "reference_encoder": partial(ReferenceEncoder.from_pretrained, low_cpu_mem_usage=False),
    "landmark_completer": partial(LandmarkCompleter.from_pretrained, low_cpu_mem_usage=False),
    "detail": partial(DetailNetwork.from_pretrained, low_cpu_mem_usage=False),
    "head_flow": partial(HeadFlow.from_pretrained, low_cpu_mem_usage=False),
}
"""What reads each network of a checkpoint."""


def to_half(name: str, network: nn.Module) -> None:
    """Make `network` fp16, in place.

    Raises:
        CheckpointError: `name` holds values that fp16 cannot.
    """
    nn.Module.half(network)
    if not all(torch.isfinite(x).all() for x in network.state_dict().values()):
        raise CheckpointError(
            f"{name} has values beyond fp16; expected at most 65504. Train it with weight decay."
        )


def tidy(folder: Path) -> None:
    """Take from saved networks in `folder` what only the machine that trained them knows."""
    for config in folder.rglob("*.json"):  # where a network lay before is nobody's business
        table = json.loads(config.read_text())
        needless = ["_name_or_path"]
        if isinstance(table, dict) and table.get("_class_name") == "AutoencoderTiny":
            # diffusers writes it beside the arguments that it comes from, and warns when it reads it.
            needless.append("block_out_channels")
        if isinstance(table, dict) and any(name in table for name in needless):
            kept = {name: value for name, value in table.items() if name not in needless}
            config.write_text(json.dumps(kept, indent=2) + "\n")
    # written for their owner alone; an image's user is another
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)


def pack(
    parts: dict[str, Path], bank: Path, output: Path, *, model_name: str, version: str
) -> float:
    """Write a checkpoint; returns its size in MB.

    Args:
        parts: Folder of each trained network of `_LOADERS`; `OPTIONAL_PARTS` may be left out.
        bank: Folder of the inner mouths.
        output: Where the checkpoint goes; its former parts are replaced.
        model_name: Name for results and logs.
        version: Version of the weights.
    Raises:
        CheckpointError: A part is missing, holds non-finite values in fp16, or the whole is too large
            to ship and goes to where the shipped one is.
    """
    for name, folder in parts.items():
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{folder} holds no exported {name}; expected config.json and safetensors. "
                "Train that stage, or name its folder."
            )
    networks = {name: _LOADERS[name](folder) for name, folder in parts.items()}
    for name, network in networks.items():
        to_half(name, network)
    pipeline = TalkingFacePipeline(**networks, scheduler=build_scheduler())
    pipeline.inner_mouths = InnerMouthBank.load(bank)
    for part in (*PARTS, *OPTIONAL_PARTS):
        if (output / part).is_dir() and part != INNER_MOUTHS:
            shutil.rmtree(output / part)
    pipeline.save_pretrained(output)
    tidy(output)
    manifest = write_manifest(output, model_name=model_name, version=version)
    verify_checkpoint(output)
    size_mb = manifest.total_bytes / 1e6
    if size_mb > LIMIT_MB and output.resolve() == SHIPPED.resolve():
        raise CheckpointError(f"{output} has {size_mb:.1f} MB; expected at most {LIMIT_MB:.0f} MB.")
    return size_mb


@dataclass(frozen=True)
class ExportConfig:
    """A checkpoint, `version` and `name` of its weights, for results and logs.

    The stages' exports lie where trainings leave them: autoencoder of stage 5 (that of stage 0 does as
    well, and is slower), unet and
    reference_encoder of 2, landmark_completer of 1, detail of 4, head_flow of
    `model.motion_training`; without detail or head_flow the checkpoint is packed without them.
    """

    version: str
    autoencoder: Path = Path("runs/distilled/export/autoencoder")
    unet: Path = Path("runs/diffusion/export/unet")
    reference_encoder: Path = Path("runs/diffusion/export/reference_encoder")
    landmark_completer: Path = Path("runs/landmarks/export/landmark_completer")
    detail: Path = Path("runs/detail/export/detail")
    head_flow: Path = Path("runs/head_flow")
    inner_mouths: Path = SHIPPED / INNER_MOUTHS
    output: Path = SHIPPED
    name: str = "talkface-tiny"


def main(config: ExportConfig) -> None:
    """Pack, and print what it weighs."""
    parts: dict[str, Path] = {name: getattr(config, name) for name in _LOADERS}
    for name in OPTIONAL_PARTS:
        if not (parts[name] / "config.json").is_file():
            print(f"{parts[name]} holds no {name}: packed without one")
            del parts[name]
    size_mb = pack(
        parts, config.inner_mouths, config.output, model_name=config.name, version=config.version
    )
    for path in sorted(config.output.iterdir()):
        size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
        print(f"{size / 1e6:8.2f} MB  {path.name}")
    print(f"{size_mb:8.2f} MB  in all (limit {LIMIT_MB:.0f}), {verify_checkpoint(config.output)}")


if __name__ == "__main__":
    run_program(ExportConfig, main, __doc__)
