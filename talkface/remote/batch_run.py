"""A batch by a service: each row becomes a job, is waited for, and is saved."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkface.batch import Row
from talkface.batch_state import BatchState, Progress, key_of
from talkface.remote.progress_bars import JobBars

if TYPE_CHECKING:
    from talkface_client import AsyncClient, JobPublic

_GONE = {"job_not_found", "result_expired"}


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Args:
        place: Where it stands in the list.
        output: Its MP4.
        job: Its job, where there is one.
        was_there: It had been saved before.
        code: The error's stable word, where it failed and there is one.
        detail: Why it failed; None where it did not.
    """

    place: str
    output: Path
    job: str | None = None
    was_there: bool = False
    code: str | None = None
    detail: str | None = None

    def public(self) -> dict[str, object]:
        """For `--json`."""
        error = None if self.detail is None else {"code": self.code, "detail": self.detail}
        return {"output": str(self.output), "job": self.job, "error": error}


class BatchRun:
    """The rows of one command.

    Args:
        client: The service.
        state: What was done before.
        folder: Where the MP4s go.
        options: Those of the command line; a row's own count more.
        where: The service's address.
        bars: Shows what is going on.
    """

    def __init__(
        self,
        client: AsyncClient,
        state: BatchState,
        folder: Path,
        options: Mapping[str, str],
        where: str,
        bars: JobBars,
    ) -> None:
        self._client = client
        self._state = state
        self._folder = folder
        self._options = options
        self._where = where
        self._bars = bars

    async def run(self, rows: list[Row], *, parallel: int, retry_failed: bool) -> list[Outcome]:
        """Make all videos that are not there yet, `parallel` at a time.

        Raises:
            UnreachableError: The service stayed away for longer than the client's patience.
        """
        places = asyncio.Semaphore(parallel)

        async def one(row: Row) -> Outcome:
            async with places:
                return await self._row(row, retry_failed)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(row)) for row in rows]
        except ExceptionGroup as several:
            # The first to give up has ended the others.
            raise several.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _row(self, row: Row, retry_failed: bool) -> Outcome:
        from talkface_client import ApiError, DownloadError, JobEndedError

        output, bar = self._folder / row.output, self._bars.add(str(row.output))
        try:
            # 1. what is known of it; hashing files would hold up the other rows
            options = {**self._options, **row.options}
            key = await asyncio.to_thread(key_of, row, options, self._where)
            progress = self._state.of(row, key)
            if await asyncio.to_thread(self._state.is_saved, progress):
                return Outcome(row.place, output, progress.job, was_there=True)
            if retry_failed and progress.state in ("failed", "cancelled"):
                progress = replace(progress, tries=progress.tries + 1, job=None, state="new")

            # 2. its job, the old one where there is one
            job, progress = await self._job(row, options, progress)
            job = await self._client.wait(
                job.id, on_progress=lambda now: self._bars.show(bar, str(row.output), now)
            )
            progress = self._state.note(replace(progress, state=job.state.value))

            # 3. its video
            output.parent.mkdir(parents=True, exist_ok=True)
            await self._client.download(job, output)
            await asyncio.to_thread(self._state.saved, progress)
            return Outcome(row.place, output, job.id)
        except (ApiError, JobEndedError) as error:
            return Outcome(row.place, output, code=error.code, detail=str(error))
        except (DownloadError, OSError) as error:
            return Outcome(row.place, output, detail=str(error))
        finally:
            self._bars.end(bar)

    async def _job(
        self, row: Row, options: Mapping[str, Any], progress: Progress
    ) -> tuple[JobPublic, Progress]:
        """The row's job: found by its id, else by its Idempotency-Key, else new."""
        from talkface_client import ApiError

        if progress.job is not None:
            try:
                return await self._client.job(progress.job), progress
            except ApiError as error:
                if error.code not in _GONE:
                    raise
                # Erased before it was saved: made anew, and not by a key that led to it.
                progress = replace(progress, tries=progress.tries + 1, job=None)
        single: dict[str, Any] = {
            name: paths[0] for name, paths in row.files.items() if name != "image"
        }
        job = await self._client.submit(
            list(row.files.get("image", ())),
            idempotency_key=f"{progress.key}-{progress.tries}",
            **single,
            **options,
        )
        return job, self._state.note(replace(progress, job=job.id, state=job.state.value))
