"""From a folder of data to a checkpoint: every builder and every training in its order.

    python -m model.training.whole source=DATA version=0.5.0 output=runs

    arrays     prepare, inner mouths, pairs, synthetic and altered voices, phone teacher
    networks   0 autoencoder ─▶ latents ─▶ 5 distilled; 1 landmarks; 2 diffusion; head flow
    last       first checkpoint ─▶ what it draws ─▶ 4 detail ─▶ checkpoint

Each step is a process of its own. One that has ended well leaves a file in `output/ended`; the same command
goes on with the first that has none, and a training that was stopped goes on from its own `state.pt`. To
do a step again, erase its file. Stage 3 begins from a checkpoint and is a command of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.errors import ConfigError
from model.training.config import run_program
from model.training.launch import load_stage

_STAGES: Final = {0: "autoencoder", 1: "landmarks", 2: "diffusion", 4: "detail", 5: "distilled"}
"""Stages that train from arrays, and the folders of their runs."""


@dataclass(frozen=True)
class WholeConfig:
    """A whole training of variant tiny.

    Attributes:
        source: Folder of the data (docs/training.md).
        version: Of the weights.
        output: Folder of the runs; the checkpoint becomes `output/checkpoint`.
        prepared: Folder of arrays.
        share: Of the steps of every training; below 1 for a try.
        limit: Subjects of the pictures' pairs, for a try; None for all.
        workers: Processes of builders.
        num_threads: torch threads of trainings; 0 leaves torch's choice.
    """

    source: Path
    version: str
    output: Path = Path("runs")
    prepared: Path = Path("data/prepared")
    share: float = 1.0
    limit: int | None = None
    workers: int = 2
    num_threads: int = 0

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to do."""
        if not 0 < self.share <= 1:
            raise ConfigError(f"share: expected more than 0 and at most 1, got {self.share}")


@dataclass(frozen=True)
class Step:
    """One process.

    Args:
        name: Of the file that says it has ended.
        module: What is run.
        words: Its `key=value`.
    """

    name: str
    module: str
    words: tuple[str, ...]


def steps(config: WholeConfig) -> list[Step]:
    """What is done, in its order."""
    runs, prepared = config.output, f"prepared={config.prepared}"
    source, limit = f"source={config.source}", f"limit={config.limit or 'null'}"
    workers, mouths = f"workers={config.workers}", runs / "inner_mouths"

    def builder(name: str, *words: str) -> Step:
        return Step(name, f"model.training.builders.{name}", words)

    def stage(number: int, *words: str) -> Step:
        module, folder = load_stage(number), _STAGES[number]
        max_steps = max(1, round(config.share * module.CONFIG().max_steps))
        shared = (f"output={runs / folder}", f"max_steps={max_steps}")
        return Step(
            f"stage{number}_{folder}",
            module.__name__,
            (prepared, *shared, f"num_threads={config.num_threads}", *words),
        )

    def exported(folder: str, *names: str) -> list[str]:
        return [f"{name}={runs / folder / 'export' / name}" for name in names]

    autoencoder = runs / "autoencoder" / "export" / "autoencoder"
    networks = (
        *exported("distilled", "autoencoder"),
        *exported("diffusion", "unet", "reference_encoder"),
        *exported("landmarks", "landmark_completer"),
        f"inner_mouths={mouths}",
        f"version={config.version}",
    )
    films = [str(config.prepared / name) for name in ("grid.npz", "speakers.npz")]
    return [
        builder("prepare", source, f"output={config.prepared}", workers),
        builder("inner_mouths", source, prepared, f"output={mouths}"),
        builder("pairs", source, prepared, workers, limit),
        stage(0),
        builder("latents", prepared, f"autoencoder={autoencoder}"),
        stage(5, f"teacher={autoencoder}"),
        builder("synthetic_voices", f"output={config.prepared}"),
        builder("altered_voices", source, prepared),
        builder("phone_teacher", source, prepared),
        stage(1),
        stage(2, f"autoencoder={autoencoder}"),
        Step(
            "head_flow",
            "model.motion_training",
            (
                f"tracks={config.source / 'head_motion' / 'weekly_addresses.npz'}",
                f"films=[{','.join(films)}]",
                f"output={runs / 'head_flow'}",
                f"minutes={13 * config.share}",
            ),
        ),
        # The detail network learns from what the others draw.
        Step(
            "first_checkpoint",
            "model.training.builders.export",
            (*networks, "detail=none", "head_flow=none", f"output={runs / 'first'}"),
        ),
        builder(
            "detail_pairs",
            *(source, prepared, f"weights={runs / 'first'}", f"inner_mouths={mouths}"),
            *(workers, limit),
        ),
        stage(4),
        Step(
            "checkpoint",
            "model.training.builders.export",
            (
                *networks,
                *exported("detail", "detail"),
                f"head_flow={runs / 'head_flow'}",
                f"output={runs / 'checkpoint'}",
            ),
        ),
    ]


def run_step(step: Step) -> None:
    """Run a step and wait for its end.

    Raises:
        subprocess.CalledProcessError: It failed; it has said why.
    """
    subprocess.run([sys.executable, "-m", step.module, *step.words], check=True)


def run_all(wanted: Sequence[Step], ended: Path, run: Callable[[Step], None] = run_step) -> None:
    """Run the steps that have no file in `ended`, and leave one after each.

    Raises:
        subprocess.CalledProcessError: One failed; those before it are not run again.
    """
    ended.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(wanted, start=1):
        if (ended / step.name).exists():
            continue
        print(f"{number}/{len(wanted)} {step.name}", flush=True)
        run(step)
        (ended / step.name).touch()


def main(config: WholeConfig) -> None:
    """Train everything that is not trained yet, and say where the checkpoint is."""
    try:
        run_all(steps(config), config.output / "ended")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"{' '.join(map(str, error.cmd[2:4]))} failed; the same command goes on from there"
        )
    print(config.output / "checkpoint")


if __name__ == "__main__":
    run_program(WholeConfig, main, __doc__)
