"""`talkface status`, `wait`, `download`, `cancel` and `list`: the jobs of a service."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from talkface.batch import BatchError, check_output
from talkface.exits import EXIT_STATUS, Exit, fail
from talkface.remote.connection import ApiKey, Json, Url, connect, exit_status, told
from talkface.remote.progress_bars import JobBars, describe
from worker.contract.errors import ErrorCode

if TYPE_CHECKING:
    from talkface_client import Client, JobPublic

_JobId = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job.")]
_JobIds = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids of jobs.")]


def status(job: _JobId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show how a job stands; the exit status of a job that failed is that of its error."""
    with told(as_json=as_json), connect(url, api_key) as client:
        _report(client.job(job), as_json=as_json)


def wait(
    job: _JobId,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Give up after so many seconds; the job goes on.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Wait until a job has ended, and show it."""
    with told(as_json=as_json), connect(url, api_key) as client:
        with JobBars() as bars:
            bar = bars.add(job[:8])
            ended = client.wait(
                job, timeout_s=timeout, on_progress=lambda now: bars.show(bar, job[:8], now)
            )
        _report(ended, as_json=as_json)


def download(
    job: _JobId,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The MP4 to write; default: JOB.mp4.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Save the video of a job that succeeded."""
    target = output or Path(f"{job}.mp4")
    try:
        check_output(target)
    except BatchError as error:
        fail(EXIT_STATUS[ErrorCode.INVALID_OPTIONS], str(error))
    with told(as_json=as_json), connect(url, api_key) as client:
        known = client.job(job)
        client.download(known, target)
        if as_json:
            typer.echo(known.model_dump_json(indent=2))
        else:
            typer.echo(str(target))


def cancel(jobs: _JobIds, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Stop jobs; what has been drawn of them is lost."""
    with told(as_json=as_json), connect(url, api_key) as client:
        for job in jobs:
            _show(client.cancel(job), as_json=as_json)


def list_jobs(
    limit: Annotated[int, typer.Option(min=1, help="Most jobs to show.")] = 20,
    state: Annotated[
        str | None,
        typer.Option(help="Only these: queued, running, succeeded, failed or cancelled."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show your jobs, newest first."""
    with told(as_json=as_json), connect(url, api_key) as client:
        jobs = list(islice(_of_state(client, state), limit))
    if as_json:
        typer.echo("[" + ",\n".join(job.model_dump_json(indent=2) for job in jobs) + "]")
        return
    table = Table("job", "state", "stage", "created", "seconds", "preset", "sync", "error")
    for job in jobs:
        table.add_row(
            job.id,
            job.state.value,
            describe(job) if job.state.value in ("queued", "running") else "",
            f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            f"{job.input.audio.seconds:g}",
            job.input.options.preset,
            _sync(job),
            job.error.code if job.error else "",
        )
    Console().print(table)


def _sync(job: JobPublic) -> str:
    """How well lips and sound agree, -1 to 1."""
    sync = None if job.result is None else job.result.sync
    return "" if sync is None else f"{sync.agreement:.2f}"


def _of_state(client: Client, state: str | None) -> list[JobPublic]:
    from talkface_client import JobState

    if state is not None and state not in set(JobState):
        fail(Exit.USAGE, f"there is no state {state}; there are {', '.join(JobState)}")
    return [job for job in client.jobs() if state is None or job.state == state]


def _report(job: JobPublic, *, as_json: bool) -> None:
    """Show a job; leave with the status of its error, if it has one."""
    _show(job, as_json=as_json)
    if job.error is not None:
        fail(exit_status(job.error.code), f"{job.error.detail} [{job.error.code}]")


def _show(job: JobPublic, *, as_json: bool) -> None:
    if as_json:
        typer.echo(job.model_dump_json(indent=2))
        return
    left = "" if job.eta_s is None else f", about {job.eta_s:.0f} s left"
    doing = describe(job) if job.state.value in ("queued", "running") else ""
    progress = f": {doing}, {job.progress:.0%}{left}" if doing else ""
    typer.echo(f"{job.id} {job.state.value}{progress}")
    if job.result is not None:
        result = job.result
        sync = f", sync {told}" if (told := _sync(job)) else ""
        typer.echo(f"  {result.seconds:g} s, {result.width}x{result.height}{sync}, {result.url}")
