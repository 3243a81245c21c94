"""How a job ended, beside its files: `inputs/<job>/ended.json`.

Written once, before the media of a job that failed or was cancelled are erased, so that a lost
ledger is not told to render it again. A job that succeeded has its `FinishedRender` instead.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from worker.contract.artifacts import ArtifactExistsError, ArtifactNotFoundError, ArtifactStore
from worker.contract.ledger_records import read_failure
from worker.contract.message import Message
from worker.contract.messages import JobFailure, JobRecord, JobState
from worker.contract.results import FinishedRender

JOB: Final = "job.json"
ENDED: Final = "ended.json"
KEPT: Final = frozenset({JOB, ENDED})
"""What stays below `inputs/<job>/` after the job's end; everything else there is its media."""


class EndedJob(Message):
    """The end of a job without a video; `failure` is None for one that was cancelled."""

    state: JobState
    failure: JobFailure | None = None
    finished_at: datetime | None = None


def write_ending(store: ArtifactStore, record: JobRecord) -> None:
    """Keep the end of a job; nothing happens if it was kept before.

    Raises:
        StorageFullError: The volume has no room.
    """
    ended = EndedJob(state=record.state, failure=record.failure, finished_at=record.finished_at)
    with store.scratch() as folder:
        (folder / ENDED).write_text(ended.model_dump_json(exclude_defaults=True))
        try:
            store.put(f"inputs/{record.id}/{ENDED}", folder / ENDED)
        except ArtifactExistsError:
            return


def read_ending(store: ArtifactStore, job_id: str) -> EndedJob | None:
    """The end of a job, or None if none is kept, or none that can be read.

    A failure that only another release knows counts as an internal error.
    """
    try:
        with store.local_copy(f"inputs/{job_id}/{ENDED}") as path:
            values = json.loads(path.read_text())
        failure = values.get("failure")
        if failure is not None:
            failure = read_failure(json.dumps(failure))
        ended = EndedJob.model_validate({**values, "failure": failure})
    # ValueError: no JSON, or not ours; the others: JSON of another shape.
    except (ArtifactNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    is_whole = ended.state is JobState.CANCELLED or (
        ended.state is JobState.FAILED and ended.failure is not None
    )
    return ended if is_whole else None


def read_finished(store: ArtifactStore, job_id: str) -> FinishedRender | None:
    """The finished video of a job, or None if there is none that is whole."""
    for name in store.names(f"results/{job_id}"):
        if not name.endswith(".json"):
            continue
        try:
            with store.local_copy(f"results/{job_id}/{name}") as path:
                finished = FinishedRender.model_validate_json(path.read_text())
            if store.stat(finished.result.key).bytes == finished.result.bytes:
                return finished
        except (ArtifactNotFoundError, ValidationError):
            continue
    return None


def media_names(store: ArtifactStore, job_id: str) -> list[str]:
    """Names of a job's media below `inputs/<job>/`."""
    return [name for name in store.names(f"inputs/{job_id}") if name not in KEPT]
