"""Write a lost ledger anew from the files of its jobs.

Each job with a `job.json` comes back:

    with a result that is whole   as succeeded
    else with ended.json          as failed or cancelled
    else with media               waiting again
    else                          as failed: there is nothing to render it from
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from worker.contract.artifacts import ArtifactNotFoundError, ArtifactStore
from worker.contract.asset_registry import AssetRegistry
from worker.contract.assets import ASSET, Asset, AssetKind
from worker.contract.ending import EndedJob, media_names, read_ending, read_finished, write_ending
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError, from_json
from worker.contract.messages import JobFailure, JobRecord, JobState

_WITHOUT_MEDIA: Final = EndedJob(
    state=JobState.FAILED,
    failure=JobFailure(
        code=ErrorCode.INTERNAL_ERROR,
        detail="The files of this job were lost, so it cannot be rendered. Send them again.",
    ),
)


@dataclass
class Rebuilt:
    """What became of the jobs that have files.

    Args:
        known: The ledger had them.
        finished: They came back with their video.
        ended: They came back as failed or cancelled, as they had ended.
        queued: They wait again.
        without_media: They came back as failed, because nothing is left to render them from.
        unreadable: They have no `job.json` that can be read.
    """

    known: int = 0
    finished: int = 0
    ended: int = 0
    queued: int = 0
    without_media: int = 0
    unreadable: int = 0


def rebuild(store: ArtifactStore, ledger: Ledger) -> Rebuilt:
    """Accept every stored job that the ledger does not know; safe to repeat.

    A job that failed or was cancelled, and whose media were not erased yet, may wait again: nothing
    but the ledger knew of its end. Callers' webhooks come again under their old ids.

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
        elif (finished := read_finished(store, job_id)) is not None:
            ledger.restore(record, finished, stored_bytes=_bytes(store, job_id))
            told.finished += 1
        elif (ended := read_ending(store, job_id)) is not None:
            ledger.restore(record, ended, stored_bytes=_bytes(store, job_id))
            told.ended += 1
        elif media_names(store, job_id):
            ledger.accept(record, stored_bytes=_bytes(store, job_id))
            told.queued += 1
        else:
            # Waiting again it would fail at each rebuild anew; as it is, its end is kept.
            ledger.restore(record, _WITHOUT_MEDIA)
            write_ending(store, record.model_copy(update=dict(_WITHOUT_MEDIA)))
            told.without_media += 1
    return told


def rebuild_assets(store: ArtifactStore, assets: AssetRegistry) -> int:
    """Write every stored avatar and file that the registry does not know; safe to repeat.

    Avatars are prepared again: nothing but the registry knew how far they were.

    Returns:
        How many came back.

    Raises:
        redis.RedisError: Redis cannot be reached.
    """
    restored = 0
    for asset_id in store.names("assets"):
        try:
            with store.local_copy(f"assets/{asset_id}/{ASSET}") as path:
                asset = Asset.model_validate_json(path.read_text())
        except (ArtifactNotFoundError, ValidationError, UnicodeDecodeError):
            continue
        is_lost = asset.kind is not AssetKind.LOOK and assets.get(asset_id) is None
        if asset.id == asset_id and is_lost:
            names = store.names(asset.prefix)
            sizes = (store.stat(f"{asset.prefix}/{name}").bytes for name in names)
            assets.add(asset.model_copy(update={"stored_bytes": sum(sizes)}))
            restored += 1
    return restored


def _bytes(store: ArtifactStore, job_id: str) -> int:
    """Size of all files of a job."""
    total = 0
    for prefix in (f"inputs/{job_id}", f"results/{job_id}"):
        for name in store.names(prefix):
            with contextlib.suppress(ArtifactNotFoundError):
                total += store.stat(f"{prefix}/{name}").bytes
    return total


def _stored_record(store: ArtifactStore, job_id: str) -> JobRecord | None:
    try:
        with store.local_copy(f"inputs/{job_id}/job.json") as path:
            record = from_json(path.read_text())
    except (ArtifactNotFoundError, UnreadableRecordError, UnicodeDecodeError):
        return None
    return record if record.id == job_id and record.state is JobState.QUEUED else None
