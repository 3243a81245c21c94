"""`python -m worker.validation`: decodes videos after their 202, so that no request waits for it.

So it does with the films of avatars (`worker.asset_desk`).

CPU only, and no part of the model. One video at a time, at a low priority: pictures and renders go
first. What cannot be decoded fails its job with the same problem that a request would have had.
"""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass
from functools import partial
from typing import Final

from worker.asset_desk import desk_thread
from worker.contract.artifact_settings import open_store
from worker.contract.artifacts import ArtifactStore
from worker.contract.environment import process_name
from worker.contract.errors import IntakeError
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.logs import bound, get_logger
from worker.contract.messages import JobRecord
from worker.contract.presence import ProcessKind
from worker.contract.queues import VALIDATE_FUNCTION, VALIDATE_QUEUE, connect
from worker.contract.start import StartError, check_data_dir, check_sandbox, read_settings, refuse
from worker.decoding import decode_film, decode_uploads, settle_files
from worker.failures import FULL_PAUSE_S, describe, is_storage_unusable
from worker.loop import begin, listen
from worker.progress import HandBackError, Heartbeat, LeaseLostError, Stop
from worker.settings import WorkerSettings

NICENESS: Final = 10
_log = get_logger("validation")


@dataclass(frozen=True)
class ValidationContext:
    """What a delivery needs of its process."""

    ledger: Ledger
    store: ArtifactStore
    heartbeat: Heartbeat
    stop: Stop
    lease_s: float


_installed: list[ValidationContext] = []


def install(context: ValidationContext) -> None:
    """Give the deliveries of this process their context; RQ passes them ids only."""
    _installed[:] = [context]


def validate_uploads(job_id: str, attempt: int) -> None:
    """Decode one job's files: fail it, or send it on.

    Where Redis goes away meanwhile the job is delivered again by the reconciler.

    Raises:
        RuntimeError: No context is installed; this is not a validating process.
        redis.RedisError: Redis went away.
    """
    if not _installed:
        raise RuntimeError("validate_uploads runs in a validating process only")
    context, token = _installed[0], secrets.token_hex(16)
    ledger = context.ledger
    with bound(job_id=job_id):
        try:
            record = ledger.claim_waiting(
                job_id,
                attempt,
                token,
                lease_s=context.lease_s,
                queue=VALIDATE_QUEUE,
                worker=context.heartbeat.worker,
            )
        except UnreadableRecordError:
            # It is claimed all the same; the renderers find out what is to be done with it.
            ledger.pass_inspection(job_id, token, None)
            return
        if record is None:
            _log.info("validation_stale", attempt=attempt)
        elif not record.is_understood:
            ledger.pass_inspection(job_id, token, None)
        else:
            with (
                bound(request_id=record.request_id),
                context.heartbeat.holding(job_id, token),
            ):
                _validate(context, record, token)


def _validate(context: ValidationContext, record: JobRecord, token: str) -> None:
    def look_up() -> None:
        """A decoder that goes on is progress; a job that is no longer ours needs it no more."""
        context.heartbeat.note_progress()
        if context.heartbeat.is_lost:
            raise LeaseLostError(record.id)
        if context.stop.is_set():
            raise HandBackError("stopped while decoding")

    ledger = context.ledger
    try:
        decoded = decode_uploads(context.store, record, look_up)
    except LeaseLostError:
        _log.warning("lease_lost", attempt=record.attempt)
    except HandBackError:
        ledger.hand_back(record.id, token)
        _log.info("job_handed_back", attempt=record.attempt)
    except Exception as error:  # noqa: BLE001  the job boundary
        if is_storage_unusable(error):
            # Not the job's fault: it waits for room, until its deadline.
            context.stop.wait(FULL_PAUSE_S)
            ledger.hand_back(record.id, token)
        elif isinstance(error, IntakeError):
            ledger.fail(record.id, token, describe(error))
            _log.info("validation_failed_job", code=error.code.value)
        else:
            _log.warning("validation_impossible", exc_info=True)
            # The renderer decodes for itself, and tells what is wrong.
            ledger.pass_inspection(record.id, token, None)
    else:
        is_ours = ledger.pass_validation(record.id, token, decoded)
        # Where it went to another process that process needs the uploads, unless it has ended.
        if is_ours or ledger.has_ended(record.id):
            settle_files(context.store, ledger, record)
        _log.info("validated", is_ours=is_ours)


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    # `python -m` runs this file under another name, while RQ imports it under its own.
    from worker import validation

    try:
        settings = read_settings(WorkerSettings)
        begin("validation", settings.log_level, VALIDATE_FUNCTION, validation.validate_uploads)
        check_data_dir(settings.data_dir)
        store = open_store(settings)
        check_sandbox(settings.sandbox, settings.decoder_socket)
    except StartError as error:
        refuse(error)
    os.nice(NICENESS)
    name, stop = process_name(), Stop()
    ledger = Ledger(connect(settings.redis_url))
    beats = Ledger(connect(settings.redis_url, name=name))
    kind = ProcessKind.VALIDATOR
    with Heartbeat(beats, name, settings.lease_s, settings.stall_s, kind=kind) as heartbeat:
        validation.install(
            validation.ValidationContext(ledger, store, heartbeat, stop, settings.lease_s)
        )
        with desk_thread(settings.redis_url, store, "decode", partial(decode_film, store), stop):
            listen(settings.redis_url, name, stop, VALIDATE_QUEUE)
    _log.info("validation_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
