"""The function that RQ calls: one delivery of one attempt of one job.

No torch here: what draws is the renderer that the process loaded before it began to listen.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from redis.exceptions import BusyLoadingError, ConnectionError, ReadOnlyError, TimeoutError

from worker.contract.artifacts import ArtifactStore
from worker.contract.intake import file_sha256
from worker.contract.ledger import Ledger
from worker.contract.logs import bound, get_logger
from worker.contract.messages import JobRecord, JobResult
from worker.failures import classify, describe
from worker.progress import (
    HandBackError,
    Heartbeat,
    LeaseLostError,
    LedgerProgress,
)
from worker.runtime import Renderer, RenderRequest

MAX_RETRIES: Final = 1
_REDIS_AWAY: Final = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError)
_log = get_logger(__name__)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class WorkerContext:
    """What a delivery needs of its process.

    Args:
        worker: Name of this process.
        ledger: The truth about jobs.
        store: Inputs and results.
        renderer: Loaded and warm.
        heartbeat: Keeps the lease.
        stop: Set when this process is asked to stop.
        lease_s: Length of a lease in seconds.
    """

    worker: str
    ledger: Ledger
    store: ArtifactStore
    renderer: Renderer
    heartbeat: Heartbeat
    stop: threading.Event
    lease_s: float


_installed: list[WorkerContext] = []


def install(context: WorkerContext) -> None:
    """Give the deliveries of this process their context; RQ passes them ids only."""
    _installed[:] = [context]


def render_talking_face(job_id: str, attempt: int) -> None:
    """Run one delivery; every way out leaves the ledger right.

    Raises:
        RuntimeError: No context is installed; this is not a worker process.
    """
    if not _installed:
        raise RuntimeError("render_talking_face runs in a worker process only (python -m worker)")
    context = _installed[0]
    token = secrets.token_hex(16)
    record = _insist(
        context,
        lambda: context.ledger.claim(
            job_id, attempt, token, worker=context.worker, lease_s=context.lease_s
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


def _run(context: WorkerContext, record: JobRecord, token: str) -> None:
    _log.info("job_started", attempt=record.attempt)
    progress = LedgerProgress(context.ledger, record.id, token, context.heartbeat, context.stop)
    try:
        result, timings_s = _render(context, record, token, progress)
    except HandBackError:
        _insist(context, lambda: context.ledger.hand_back(record.id, token))
        _log.info("job_handed_back", attempt=record.attempt)
    except LeaseLostError:
        _log.warning("lease_lost", attempt=record.attempt)
    except Exception as error:  # noqa: BLE001  the job boundary: whatever it is, the ledger is told
        _log.warning("job_failed", code=classify(error).code.value, exc_info=True)
        if classify(error).retryable and record.retries < MAX_RETRIES:
            _insist(context, lambda: context.ledger.hand_back(record.id, token, is_retry=True))
            return
        failure = describe(error)
        _insist(context, lambda: context.ledger.fail(record.id, token, failure))
    else:
        is_ours = _insist(
            context, lambda: context.ledger.succeed(record.id, token, result, timings_s)
        )
        _log.info("job_succeeded", is_ours=is_ours, timings_s=timings_s, frames=result.num_frames)


def _render(
    context: WorkerContext, record: JobRecord, token: str, progress: LedgerProgress
) -> tuple[JobResult, dict[str, float]]:
    """Draw the video and publish it under a key of this claim."""
    store = context.store
    with ExitStack() as stack:
        output = stack.enter_context(store.scratch()) / "output.mp4"

        def local_copy(name: str) -> Path:
            return stack.enter_context(store.local_copy(f"inputs/{record.id}/{name}"))

        request = RenderRequest.of(record.input, local_copy, output)
        drawn = context.renderer.render(request, progress)
        # The token in the key lets a successor publish its own, should this claim turn out stale.
        key = f"results/{record.id}/{token}.mp4"
        sha256, num_bytes = file_sha256(output), output.stat().st_size
        store.put(key, output)
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
    )
    return result, drawn.timings_s


def _insist(context: WorkerContext, call: Callable[[], _Answer]) -> _Answer:
    """Repeat a call until Redis takes it: no word about a job is lost to a restart of Redis."""
    pause_s = 0.2
    while True:
        try:
            return call()
        except _REDIS_AWAY:
            if context.stop.is_set() and pause_s >= 3.0:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 3.0)
