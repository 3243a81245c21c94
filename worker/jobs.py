"""The function that RQ calls: one delivery of one attempt of one job.

No torch here: what draws is the renderer that the process loaded before it began to listen.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from model.errors import ModelError
from model.media.thumbnail import write_thumbnail
from worker.contract.artifacts import ArtifactNotFoundError
from worker.contract.ending import read_ending, read_finished
from worker.contract.intake.file_checks import file_sha256
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.logs import bound, get_logger
from worker.contract.messages import JobInput, JobRecord, with_notes
from worker.contract.queues import REDIS_AWAY
from worker.contract.recovery import deadline_failure
from worker.contract.results import Credentials, FinishedRender, JobResult
from worker.contract.signing import SigningRequest
from worker.decoding import decode_uploads, settle_files
from worker.failures import FULL_PAUSE_S, classify, describe, is_sticky, is_storage_unusable
from worker.live_film import LiveFilm
from worker.progress import (
    CancelledError,
    DeadlineError,
    HandBackError,
    LeaseLostError,
    LedgerProgress,
)
from worker.render_request import RenderRequest, RenderResult, Watcher
from worker.team import Team, clear_segments
from worker.worker_context import WorkerContext, installed

MAX_RETRIES: Final = 1
PASS_ON_PAUSE_S: Final = 1.0
"""How long a worker waits that can do nothing but pass a job on: a newer one shall get it."""
_log = get_logger(__name__)
_Answer = TypeVar("_Answer")


def render_talking_face(job_id: str, attempt: int) -> None:
    """Run one delivery; every way out leaves the ledger right.

    Raises:
        RuntimeError: No context is installed; this is not a worker process.
    """
    context = installed()
    if (reason := _insist(context, lambda: _not_understood(context, job_id))) is not None:
        _pass_on(context, job_id, attempt, reason)
        return
    token = secrets.token_hex(16)
    record = _insist(
        context,
        lambda: context.ledger.claim(
            job_id,
            attempt,
            token,
            worker=context.worker,
            lease_s=context.lease_s,
            deadline=context.deadline,
        ),
    )
    with bound(job_id=job_id):
        if record is None:
            _log.info("delivery_stale", attempt=attempt)
            return
        with (
            bound(request_id=record.request_id),
            context.heartbeat.holding(job_id, token),
        ):
            _run(context, record, token)


def _not_understood(context: WorkerContext, job_id: str) -> str | None:
    """Why this release cannot do what a job asks for, or None if it can, or if there is no job."""
    try:
        record = context.ledger.get(job_id)
    except UnreadableRecordError as error:
        return error.reason
    if record is None or record.is_understood:
        return None
    return ", ".join(record.unknown_options) or f"schema {record.schema_version}"


def _pass_on(context: WorkerContext, job_id: str, attempt: int, reason: str) -> None:
    """Leave a job to a worker of a newer release, or to its deadline."""
    if not _insist(context, lambda: context.ledger.pass_on(job_id, attempt, context.deadline)):
        _log.info("delivery_stale", job_id=job_id, attempt=attempt)
        return
    _log.warning("job_passed_on", job_id=job_id, attempt=attempt, reason=reason)
    _insist(context, lambda: context.quarantine.add_waiting(job_id, reason))
    context.stop.wait(PASS_ON_PAUSE_S)


def _run(context: WorkerContext, record: JobRecord, token: str) -> None:
    _log.info("job_started", attempt=record.attempt)
    progress = LedgerProgress(context.ledger, record, token, context.heartbeat, context.stop)
    try:
        result, timings_s = _render(context, record, token, progress)
    except HandBackError:
        _insist(context, lambda: context.ledger.hand_back(record.id, token))
        _log.info("job_handed_back", attempt=record.attempt)
    except CancelledError:
        _insist(context, lambda: context.ledger.finish_cancelled(record.id, token))
        _log.info("job_cancelled", attempt=record.attempt)
    except DeadlineError:
        failure = deadline_failure(record.deadline_at)
        _insist(context, lambda: context.ledger.fail(record.id, token, failure))
        _log.warning("deadline_exceeded", attempt=record.attempt)
    except LeaseLostError:
        _log.warning("lease_lost", attempt=record.attempt)
    except ArtifactNotFoundError as error:
        if not _end_as_before(context, record, token):
            _log.warning("inputs_gone", exc_info=True)
            failure = describe(error)
            _insist(context, lambda: context.ledger.fail(record.id, token, failure))
    except Exception as error:  # noqa: BLE001  the job boundary: whatever it is, the ledger is told
        _log.warning("job_failed", code=classify(error).code.value, exc_info=True)
        if is_sticky(error):
            # Every further call would fail in this process; another one starts with a fresh device.
            context.broken.append(type(error).__name__)
            context.stop.set()
        if is_storage_unusable(error):
            # Not the job's fault, and no failure of it: it waits for room, until its deadline.
            context.stop.wait(FULL_PAUSE_S)
            _insist(context, lambda: context.ledger.hand_back(record.id, token))
            return
        if classify(error).retryable and record.retries < MAX_RETRIES:
            _insist(context, lambda: context.ledger.hand_back(record.id, token, is_retry=True))
            return
        failure = describe(error)
        _insist(context, lambda: context.ledger.fail(record.id, token, failure))
    else:
        is_ours = _insist(
            context, lambda: context.ledger.succeed(record.id, token, result, timings_s)
        )
        if not is_ours:
            _withdraw(context, record.id, result.key)
        if context.segments is not None:
            clear_segments(context.store, context.segments(record.id))
        _log.info(
            "job_succeeded",
            is_ours=is_ours,
            timings_s=timings_s,
            frames=result.num_frames,
            weights_sha256=result.renderer.weights_sha256,
        )


def _end_as_before(context: WorkerContext, record: JobRecord, token: str) -> bool:
    """End a job that had ended before, as its files say; False if they say nothing.

    So it is after a restore: the files are newer than the ledger, and its media were erased when it
    ended.
    """
    ledger, job_id = context.ledger, record.id
    if (finished := read_finished(context.store, job_id)) is not None:
        result, timings_s = finished.result, finished.timings_s
        _insist(context, lambda: ledger.succeed(job_id, token, result, timings_s))
    elif (ended := read_ending(context.store, job_id)) is None:
        return False
    elif (failure := ended.failure) is not None:
        _insist(context, lambda: ledger.fail(job_id, token, failure))
    else:
        _insist(context, lambda: ledger.finish_cancelled(job_id, token))
    _log.info("job_ended_as_before")
    return True


def _withdraw(context: WorkerContext, job_id: str, key: str) -> None:
    """Erase what was published for a job that went elsewhere or was deleted.

    The ledger is asked once more: "not ours" is also what a second asking hears when the answer to
    the first was lost, and then the file is the job's result.
    """
    record = _insist(context, lambda: context.ledger.get(job_id))
    if record is None or record.result is None or record.result.key != key:
        # What cannot be erased now is the sweep's.
        with contextlib.suppress(OSError):
            context.store.delete(key)
            context.store.delete(key.removesuffix(".mp4") + ".jpg")
            context.store.delete(FinishedRender.key_of(key))


def _render(
    context: WorkerContext, record: JobRecord, token: str, progress: LedgerProgress
) -> tuple[JobResult, dict[str, float]]:
    """Draw the video and publish it under a key of this claim."""
    store = context.store
    job_input = record.input
    if job_input.pending is not None:
        # Nobody decoded its files before.
        job_input = decode_uploads(store, record, progress.decoding)
        context.ledger.report_input(record.id, token, job_input)
        settle_files(store, context.ledger, record)
    with ExitStack() as stack:
        output = stack.enter_context(store.scratch()) / "output.mp4"

        def local_copy(name: str) -> Path:
            return stack.enter_context(store.local_copy(f"inputs/{record.id}/{name}"))

        marking = context.watermarking
        mark = None if marking is None else marking.for_job(record.id)
        team = _team(context, record, progress)
        request = RenderRequest.of(
            job_input, local_copy, output, context.labelling, mark, team=team
        )
        drawn = _draw(context, record.id, token, request, progress)
        if drawn.notes:
            context.ledger.report_input(record.id, token, with_notes(job_input, drawn.notes))
        output, credentials, timings_s = _sign(context, job_input, drawn, output, progress)
        # The token in the key lets a successor publish its own, should this claim turn out stale.
        key = f"results/{record.id}/{token}.mp4"
        sha256, num_bytes = file_sha256(output), output.stat().st_size
        thumbnail = _make_thumbnail(output, drawn.seconds)
        store.put(key, output)
        context.heartbeat.note_progress()
        thumbnail_key: str | None = None
        if thumbnail is not None:
            thumbnail_key = key.removesuffix(".mp4") + ".jpg"
            store.put(thumbnail_key, thumbnail)
    result = JobResult(
        key=key,
        content_type="video/mp4",
        bytes=num_bytes,
        sha256=sha256,
        width=drawn.width,
        height=drawn.height,
        fps=drawn.fps,
        num_frames=drawn.num_frames,
        seconds=round(drawn.seconds, 3),
        face_bbox_xyxy=drawn.face_bbox_xyxy,
        renderer=drawn.info,
        video=drawn.video,
        thumbnail_key=thumbnail_key,
        label=request.labelling.name,
        watermark=mark is not None,
        credentials=credentials,
        sync=drawn.sync,
    )
    finished = FinishedRender(result=result, timings_s=timings_s)
    with store.scratch() as folder:
        # So that a ledger that was lost can be told what has been rendered (`talkface rebuild`).
        (folder / "result.json").write_text(finished.model_dump_json())
        store.put(FinishedRender.key_of(key), folder / "result.json")
    return result, timings_s


def _draw(
    context: WorkerContext,
    job_id: str,
    token: str,
    request: RenderRequest,
    progress: LedgerProgress,
) -> RenderResult:
    """Draw the video, and show it meanwhile."""
    if context.films is None:
        return context.renderer.render(request, progress)
    film = LiveFilm(context.store, context.ledger, context.films, job_id, token)
    try:
        return context.renderer.render(replace(request, watcher=Watcher(film.take)), progress)
    finally:
        film.close()


def _team(context: WorkerContext, record: JobRecord, progress: LedgerProgress) -> Team | None:
    """The others, where this deployment lets them help."""
    if context.segments is None:
        return None
    segments = context.segments(record.id)
    return Team(
        context.store,
        segments,
        record.id,
        context.lease_s,
        progress.waiting,
        split=context.split,
        attempt=record.attempt,
        holder=context.worker,
    )


def _sign(
    context: WorkerContext,
    job_input: JobInput,
    drawn: RenderResult,
    output: Path,
    progress: LedgerProgress,
) -> tuple[Path, Credentials | None, dict[str, float]]:
    """Have the finished file signed, the last thing that happens to it.

    Returns:
        What is to be published, what it was signed with, and the seconds of all stages.
    """
    if context.signer is None:
        return output, None, drawn.timings_s
    began, signed = time.perf_counter(), output.with_name("signed.mp4")
    request = SigningRequest.of(job_input, drawn.info)
    credentials = context.signer.sign(request, output, signed, progress.signing)
    signing_s = round(time.perf_counter() - began, 3)
    return signed, credentials, {**drawn.timings_s, "signing": signing_s}


def _make_thumbnail(video: Path, seconds: float) -> Path | None:
    """A JPEG beside the video; None where none could be made, which is no reason to lose the video."""
    target = video.with_suffix(".jpg")
    try:
        # The middle: at its edges a loop or a sentence has a mouth that is shut.
        write_thumbnail(video, target, at_s=seconds / 2)
    except (ModelError, OSError):
        _log.warning("no_thumbnail", exc_info=True)
        return None
    return target


def _insist(context: WorkerContext, call: Callable[[], _Answer]) -> _Answer:
    """Repeat a call until Redis takes it: no word about a job is lost to a restart of Redis."""
    pause_s = 0.2
    while True:
        try:
            return call()
        except REDIS_AWAY:
            # Waiting for Redis is not a hung render.
            context.heartbeat.note_progress()
            if context.stop.is_set() and pause_s >= 3.0:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 3.0)
