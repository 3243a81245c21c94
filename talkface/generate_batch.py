"""`talkface generate` on a folder, CSV or JSONL: one warm model, one video after the other.

What is done is written down in the output folder, so the same command goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from talkface.batch import BatchError, Row, read_batch
from talkface.batch_state import BatchState, key_of
from talkface.exits import EXIT_STATUS, Exit, fail
from talkface.studio import Studio, sampling_options
from talkface.terminal import Bar, Report, failure_of
from worker.contract.errors import ErrorCode
from worker.contract.intake.uploads import Uploads


def generate_batch(
    source: Path, folder: Path, chosen: Mapping[str, Any], studio: Studio, report: Report
) -> None:
    """Make all videos of a list that are not there yet.

    Args:
        source: The folder, CSV or JSONL.
        folder: Where the MP4s go.
        chosen: Options of the command line; a row's own count more.
        studio: Makes them.
        report: How the command ends.

    Raises:
        typer.Exit: Rows failed; the status of their errors, if they have one in common.
    """
    try:
        rows = read_batch(source)
        if folder.suffix.lower() == ".mp4":
            raise BatchError(f"A batch makes several videos; name a folder, not {folder}.")
        state = BatchState(folder)
    except (BatchError, OSError) as error:
        report.fail(ErrorCode.INVALID_OPTIONS, str(error))
    told: list[dict[str, Any]] = []
    codes: list[ErrorCode] = []
    for number, row in enumerate(rows, start=1):
        title = f"{number}/{len(rows)} {row.output}"
        try:
            told.append(_make(row, folder, chosen, state, studio))
        except KeyboardInterrupt:
            fail(Exit.INTERRUPTED, "interrupted; the same command goes on")
        except Exception as error:
            if (failure := failure_of(error)) is None:
                raise
            code, detail, params = failure
            codes.append(code)
            problem = {"code": code.value, "detail": detail, "params": params}
            told.append({"output": str(folder / row.output), "error": problem})
            typer.echo(f"talkface: {row.place}: {detail} [{code.value}]", err=True)
        else:
            typer.echo(f"{title}: {_words(told[-1])}", err=True)
    if report.as_json:
        typer.echo(json.dumps(told, indent=2))
    if codes:
        same = len(set(codes)) == 1
        raise typer.Exit(EXIT_STATUS[codes[0]] if same else Exit.FAILED)


def _make(
    row: Row, folder: Path, chosen: Mapping[str, Any], state: BatchState, studio: Studio
) -> dict[str, Any]:
    """One row's video, or a note that it is there."""
    options, output = {**chosen, **row.options}, folder / row.output
    progress = state.of(row, key_of(row, options, "generate"))
    if state.is_saved(progress):
        return {"output": str(output), "was_there": True}
    output.parent.mkdir(parents=True, exist_ok=True)
    single = {name: paths[0] for name, paths in row.files.items()}
    uploads = Uploads(
        single.get("audio"),
        row.files.get("image", ()),
        single.get("video"),
        single.get("driving_video"),
    )
    with Bar() as bar:
        summary = studio.make(uploads, output, sampling_options(options), bar)
    state.saved(progress)
    return summary


def _words(summary: Mapping[str, Any]) -> str:
    if "was_there" in summary:
        return "was there"
    return f"{summary['seconds']:g} s in {summary['timings_s']['total']:.1f} s"
