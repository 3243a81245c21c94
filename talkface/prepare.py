"""`talkface prepare`: a public set, or any folder of films, becomes shards to train on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from talkface.exits import Exit, fail


def prepare(
    source: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder of the set.")
    ],
    output: Annotated[Path, typer.Argument(file_okay=False, help="Folder of the shards.")],
    layout: Annotated[
        Literal["grid", "hdtf", "voxceleb", "folder"],
        typer.Option(help="How the set is laid out; folder = any films (docs/data.md)."),
    ],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one for each CPU core.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many films, up to a third of them held out ones."),
    ] = None,
    face_px: Annotated[
        int, typer.Option(min=32, max=1024, help="Side of the crops that training will ask for.")
    ] = 128,
    max_seconds: Annotated[
        float, typer.Option(min=1.0, help="Longer tracks are divided into equal pieces.")
    ] = 20.0,
    min_seconds: Annotated[float, typer.Option(min=0.2, help="Shorter tracks are dropped.")] = 2.0,
    min_face_px: Annotated[
        float, typer.Option(min=0.0, help="Smaller faces are dropped (side of the crop).")
    ] = 96.0,
    min_sharpness: Annotated[
        float, typer.Option(min=0.0, help="Blurrier faces are dropped; GRID has about 0.12.")
    ] = 0.025,
    max_turn: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Faces turned away further are dropped.")
    ] = 0.35,
    min_sync: Annotated[
        float,
        typer.Option(min=0.0, help="Least confidence that lips and sound belong together; 0: any."),
    ] = 0.3,
) -> None:
    """Find faces in films and write shards; started again, it goes on where it was stopped."""
    try:  # Late: OpenCV, MediaPipe and torch take seconds.
        from model.data.films import PrepareSettings
        from model.data.preparation import REPORT, prepare_set
        from model.data.quality import QualityLimits
        from model.errors import ModelError
    except ModuleNotFoundError as error:
        fail(Exit.INCOMPLETE, f"{error}; preparation needs pip install 'talkface[worker,train]'")
    limits = QualityLimits(
        min_s=min_seconds,
        min_face_px=min_face_px,
        max_turn=max_turn,
        min_sharpness=min_sharpness,
        min_confidence=min_sync,
    )
    settings = PrepareSettings(layout=layout, face_px=face_px, max_s=max_seconds, limits=limits)
    processes = workers or os.cpu_count() or 1
    try:
        report = prepare_set(source, output, settings, workers=processes, limit=limit)
    except ModelError as error:
        fail(Exit.FAILED, str(error))
    except KeyboardInterrupt:
        fail(Exit.INTERRUPTED, "interrupted; the same command goes on from the finished films")
    _print(report, output / REPORT)
    if not report["shards"]["tracks"]:
        fail(Exit.FAILED, f"no track was good enough; {output / REPORT} says why")


def _print(report: dict[str, Any], path: Path) -> None:
    looked_at_s = report["looked_at_s"]
    table = Table("of the film", "parts", "seconds", "share")

    def add(title: str, parts: int | str, seconds: float) -> None:
        share = seconds / looked_at_s if looked_at_s else 0.0
        table.add_row(title, str(parts), f"{seconds:.1f}", f"{share:.1%}")

    add("kept", "", report["kept_s"])
    for reason, dropped in report["dropped"].items():
        add(reason, dropped["parts"], dropped["seconds"])
    console = Console()
    console.print(table)
    for name, error in list(report["failed"].items())[:20]:
        console.print(f"skipped {name}: {error}", markup=False)
    shards = report["shards"]
    console.print(
        f"{report['films']} films, {len(report['failed'])} unusable, "
        f"{len(report['shifted_frames'])} tracks with their sound moved. The shards hold "
        f"{shards['tracks']} tracks ({shards['held_out_tracks']} held out) of "
        f"{shards['identities']} identities, {shards['seconds'] / 60:.1f} min; all in {path}",
        markup=False,
    )
