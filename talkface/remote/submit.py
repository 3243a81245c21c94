"""`talkface submit`: videos by a service, one or a batch.

one       files ──▶ job ──▶ MP4, with a bar; or the job's id alone
a batch   several rows at a time; what is done is written down (`batch_state`), and each POST has
          an Idempotency-Key made of the row's bytes and options. So whatever is killed, the same
          command goes on, and no video is made twice.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from talkface.batch import BatchError, Row, check_output, read_batch
from talkface.batch_state import BatchState
from talkface.exits import EXIT_STATUS, Exit, fail
from talkface.remote.batch_run import BatchRun, Outcome
from talkface.remote.connection import (
    ApiKey,
    Json,
    Patience,
    Url,
    connect,
    connect_async,
    exit_status,
    told,
)
from talkface.remote.progress_bars import JobBars
from talkface.terminal import file_or_stdin
from worker.contract.errors import ErrorCode

_BATCH_PATIENCE_S: Final = 600.0


def submit(
    batch: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            help="Several videos: a folder of pictures and sounds that go together by name, or a "
            "CSV or JSONL with the columns image, audio, video, driving_video, output and options.",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Portrait; again: more of the same person."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="Voice; -: standard input.", callback=file_or_stdin),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Instead of a portrait, a video to dub."),
    ] = None,
    driving_video: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A video whose head motion is taken over."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Instead of a voice: what is said, where a voice server is.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="preview, fast, balanced or quality.")] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any option of the API; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The MP4 to write; of a batch the folder. Default: talking.mp4, videos."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print the job's id and leave; not with a batch.")
    ] = False,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Jobs of a batch that are under way at a time.")
    ] = 8,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Make new jobs for rows whose job failed before.")
    ] = False,
    patience: Patience = _BATCH_PATIENCE_S,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Have a service make videos: one, or a folder, CSV or JSONL of them.

    A batch that was interrupted goes on with the same command.
    """
    options = _options(choices, preset=preset, text=text)
    files = {"image": image, "audio": audio, "video": video, "driving_video": driving_video}
    try:
        if batch is not None:
            if given := [name for name, value in files.items() if value] or text or no_wait:
                raise BatchError(f"A batch names its own files and is waited for; got {given}.")
            rows = read_batch(batch)
            folder = output or Path("videos")
            if folder.suffix.lower() == ".mp4":
                raise BatchError(f"A batch makes several videos; name a folder, not {folder}.")
        else:
            target = check_output(output or Path("talking.mp4"))
    except BatchError as error:
        fail(EXIT_STATUS[ErrorCode.INVALID_OPTIONS], str(error))
    if batch is None:
        sent: dict[str, Any] = {**files, "audio": _read_audio(audio), **options}
        with told(as_json=as_json):
            _submit_one(sent, Path(target), url, api_key, patience, no_wait, as_json)
        return
    with told(as_json=as_json):
        run = _run_batch(rows, folder, options, url, api_key, patience, parallel, retry_failed)
    _report(run, as_json=as_json)


def _submit_one(
    sent: dict[str, Any],
    target: Path,
    url: str | None,
    api_key: str | None,
    patience_s: float,
    no_wait: bool,
    as_json: bool,
) -> None:
    from talkface_client import JobEndedError

    with connect(url, api_key, patience_s) as client:
        with JobBars() as bars:
            bar = bars.add(target.name)
            job = client.submit(sent.pop("image"), sent.pop("audio"), **sent)
            if not no_wait:
                job = client.wait(job.id, on_progress=lambda now: bars.show(bar, target.name, now))
                if job.result is None:
                    raise JobEndedError(job)
                client.download(job, target)
        if as_json:
            typer.echo(json.dumps({"output": str(target), "job": job.model_dump(mode="json")}))
        else:
            typer.echo(
                job.id if no_wait else f"{target}: {job.input.audio.seconds:g} s, job {job.id}"
            )


def _run_batch(
    rows: list[Row],
    folder: Path,
    options: dict[str, str],
    url: str | None,
    api_key: str | None,
    patience_s: float,
    parallel: int,
    retry_failed: bool,
) -> list[Outcome]:
    from talkface_client.settings import http_options

    where = str(http_options(url, api_key, 1.0)["base_url"])

    async def run() -> list[Outcome]:
        async with connect_async(url, api_key, patience_s) as client:
            with JobBars(len(rows)) as bars:
                batch = BatchRun(client, BatchState(folder), folder, options, where, bars)
                return await batch.run(rows, parallel=parallel, retry_failed=retry_failed)

    return asyncio.run(run())


def _report(outcomes: list[Outcome], *, as_json: bool) -> None:
    """What became of a batch; the exit status of its failures, if they have one in common."""
    failed = [each for each in outcomes if each.detail is not None]
    if as_json:
        typer.echo(json.dumps([each.public() for each in outcomes], indent=2))
    else:
        kept = sum(each.was_there for each in outcomes)
        made = len(outcomes) - len(failed) - kept
        typer.echo(f"{made} made, {kept} were there, {len(failed)} failed")
    for each in failed:
        typer.echo(f"talkface: {each.place}: {each.detail}", err=True)
    if failed:
        statuses = {exit_status(each.code) for each in failed}
        raise typer.Exit(statuses.pop() if len(statuses) == 1 else Exit.FAILED)


def _options(choices: list[str] | None, **named: str | None) -> dict[str, str]:
    """All options by the API's names."""
    chosen = {name: value for name, value in named.items() if value is not None}
    for choice in choices or ():
        name, equals, value = choice.partition("=")
        if not equals:
            fail(Exit.USAGE, f"expected --set NAME=VALUE, got {choice!r}")
        chosen[name.strip().replace("-", "_")] = value
    return chosen


def _read_audio(audio: Path | None) -> Path | bytes | None:
    return sys.stdin.buffer.read() if audio == Path("-") else audio
