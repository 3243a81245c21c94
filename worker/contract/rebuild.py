"""Write a lost ledger anew from the files of its jobs (`inputs/<id>/job.json`)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from pydantic import ValidationError

from worker.contract.artifacts import ArtifactNotFoundError, ArtifactStore
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError, from_json
from worker.contract.messages import FinishedRender, JobRecord, JobState

_LEASE_S = 30.0


@dataclass
class Rebuilt:
    """How many jobs were known already, brought back with their video, queued again, unreadable."""

    known: int = 0
    finished: int = 0
    queued: int = 0
    unreadable: int = 0


def rebuild(store: ArtifactStore, ledger: Ledger) -> Rebuilt:
    """Accept every stored job that the ledger does not know; safe to repeat.

    What was rendered comes back as succeeded; everything else waits again, jobs that had failed or
    been cancelled too, because nothing but the ledger knew that. Callers' webhooks come again under
    their old ids.

    Raises:
        redis.RedisError: Redis cannot be reached.
    """
    told = Rebuilt()
    # Oldest first, as they once waited.
    for job_id, _ in sorted(store.names("inputs").items(), key=lambda item: -item[1]):
        record = _stored_record(store, job_id)
        if record is None:
            told.unreadable += 1
        elif ledger.owner(job_id)[0]:
            told.known += 1
        elif (finished := _finished(store, job_id)) is not None:
            _restore(ledger, record, finished)
            told.finished += 1
        else:
            ledger.accept(record)
            told.queued += 1
    return told


def _restore(ledger: Ledger, record: JobRecord, finished: FinishedRender) -> None:
    ledger.accept(record)
    token = secrets.token_hex(16)
    if ledger.claim(record.id, record.attempt, token, worker="rebuild", lease_s=_LEASE_S):
        ledger.succeed(record.id, token, finished.result, finished.timings_s)
        ledger.drop_deliveries(record.id)


def _stored_record(store: ArtifactStore, job_id: str) -> JobRecord | None:
    try:
        with store.local_copy(f"inputs/{job_id}/job.json") as path:
            record = from_json(path.read_text())
    except (ArtifactNotFoundError, UnreadableRecordError, UnicodeDecodeError):
        return None
    return record if record.id == job_id and record.state is JobState.QUEUED else None


def _finished(store: ArtifactStore, job_id: str) -> FinishedRender | None:
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
