"""What a person at a terminal sees of a video that is being made: a bar, then how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from talkface.exits import EXIT_STATUS, Exit, fail
from worker.contract.errors import ErrorCode, IntakeError, ParamValue
from worker.contract.messages import Stage
from worker.contract.signing import SigningError
from worker.failures import classify

# What a stage is called in front of the bar.
STAGE_TITLES: dict[Stage, str] = {
    Stage.VALIDATING: "reading the files",
    Stage.DETECTING: "finding the face",
    Stage.LANDMARKS: "listening to the speech",
    Stage.GENERATING: "drawing",
    Stage.ENCODING: "writing the film",
}


class Bar:
    """Progress on standard error; nothing where that is no terminal. A `ProgressSink`."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.fields[counted]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None, counted="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def title(self, text: str) -> None:
        """Say what goes on."""
        if self._task is not None:
            self._progress.update(self._task, description=text)

    def stage(self, stage: Stage) -> None:
        """A stage begins."""
        self.title(STAGE_TITLES[stage])

    def frames(self, done: int, total: int) -> None:
        """`done` of `total` frames are written."""
        if self._task is not None:
            self._progress.update(
                self._task, completed=done, total=total, counted=f"{done}/{total} frames"
            )


class Report:
    """How a run ends: for people on standard error, with --json for programs on standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def succeed(self, output: Path, summary: dict[str, Any], *, err: bool = False) -> None:
        if self.as_json:
            typer.echo(json.dumps(summary, indent=2))
            return
        timings = summary["timings_s"]
        typer.echo(
            f"{output}: {summary['seconds']:g} s, {summary['width']}x{summary['height']}, "
            f"{summary['num_frames']} frames in {timings['total']:.1f} s",
            err=err,
        )
        for name in ("audio", "video", "driving_video"):
            for note in (summary["input"][name] or {}).get("notes", ()):
                typer.echo(f"talkface: {name.replace('_', ' ')}: {note}", err=True)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What goes wrong becomes a sentence and an exit status."""
        try:
            yield
        except KeyboardInterrupt:
            fail(Exit.INTERRUPTED, "interrupted")
        except typer.Exit:
            raise
        except Exception as error:
            if (failure := failure_of(error)) is None:
                raise
            self.fail(*failure)

    def fail(
        self, code: ErrorCode, detail: str, params: dict[str, ParamValue] | None = None
    ) -> NoReturn:
        if self.as_json:
            error = {"code": code.value, "detail": detail, "params": params or {}}
            typer.echo(json.dumps({"error": error}, indent=2))
        typer.echo(f"talkface: {detail} [{code.value}]", err=True)
        raise typer.Exit(EXIT_STATUS[code])


def failure_of(error: Exception) -> tuple[ErrorCode, str, dict[str, ParamValue]] | None:
    """The code, sentence and figures of what went wrong; None for a fault of ours."""
    if isinstance(error, IntakeError):
        return error.code, error.detail, error.params
    # The table is the worker's, the sentence is the exception's own: here the caller is the
    # operator. What the table does not know keeps its traceback.
    code = _known_code(error)
    return None if code is None else (code, str(error) or type(error).__name__, {})


def _known_code(error: Exception) -> ErrorCode | None:
    from model.errors import ModelError

    # torch's own class has that name; torch may not even be imported here.
    is_out_of_memory = type(error).__name__ == "OutOfMemoryError"
    is_known = is_out_of_memory or isinstance(error, (ModelError, MemoryError, SigningError))
    return classify(error).code if is_known else None


def file_or_stdin(path: Path | None) -> Path | None:
    """A file that is there, or `-`; the library's own check does not know the latter."""
    if path is not None and path != Path("-") and not path.is_file():
        raise typer.BadParameter(f"file {str(path)!r} does not exist.")
    return path
