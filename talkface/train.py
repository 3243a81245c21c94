"""`talkface train`: one training stage, resumable, on one device or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkface.exits import Exit, fail


def train(
    stage: Annotated[
        int,
        typer.Option(
            min=0,
            max=4,
            help="0 autoencoder, 1 speech to landmarks, 2 diffusion, 3 end to end, 4 detail.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Settings; they count before the file's."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="YAML file of settings.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Save and stop after so long; 0: never.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print all settings as YAML and train nothing.")
    ] = False,
) -> None:
    """Train a stage, or go on with the run found in its `output` (docs/training.md).

    Several GPUs: accelerate launch --multi_gpu --num_processes N -m talkface train ...; several CPU
    processes: the same with device=cpu.
    """
    try:  # Late: torch takes seconds, and the extra `train` may be absent.
        from model.errors import ConfigError, ModelError
        from model.training.config import dump_config, load_config
        from model.training.launch import launch, load_stage
    except ModuleNotFoundError as error:
        fail(Exit.INCOMPLETE, f"{error}; training needs pip install 'talkface[worker,train]'")
    try:
        module = load_stage(stage)
        limit = [] if max_minutes is None else [f"max_minutes={max_minutes}"]
        resolved = load_config(module.CONFIG, config, [*(settings or []), *limit])
        if show:
            typer.echo(dump_config(resolved), nl=False)
            return
        complete = launch(module.build, resolved)
    except ConfigError as error:
        fail(Exit.USAGE, str(error))
    except (ModelError, FileNotFoundError) as error:
        fail(Exit.FAILED, f"{error} (docs/training.md says what each stage needs)")
    except KeyboardInterrupt:
        fail(Exit.INTERRUPTED, "interrupted; the same command goes on from the last saved step")
    if not complete:
        typer.echo(f"stopped before max_steps; the same command goes on with {resolved.output}")
