"""What a render tells the outside between two batches, and may be told there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, Self

from redis import RedisError

from worker.contract.ledger import Ledger
from worker.contract.messages import FrameCount, Stage


class RenderInterruptedError(Exception):
    """The render must stop between two batches; nothing is wrong with it."""


class HandBackError(RenderInterruptedError):
    """This process is asked to stop: the job goes back to the queue."""


class LeaseLostError(RenderInterruptedError):
    """The ledger gave the job to someone else, or it ended: whatever is drawn here is void."""


class ProgressSink(Protocol):
    """The door that a renderer reports through.

    Both calls may raise `RenderInterruptedError`; the renderer lets it pass and leaves nothing open
    behind it.
    """

    def stage(self, stage: Stage) -> None:
        """A stage begins."""

    def frames(self, done: int, total: int) -> None:
        """`done` of `total` frames are written; called once a batch."""


class Heartbeat:
    """A thread that keeps this process and the job it runs alive in the ledger.

    Redis may be away for a while: a missed beat is tried again at the next one, and the lease's
    length decides when others may conclude that this process died.

    Args:
        ledger: Where to beat; used from this thread only, so give it a client of its own.
        worker: Name of this process.
        lease_s: Length of a lease in seconds; beats come three times as often.
    """

    def __init__(self, ledger: Ledger, worker: str, lease_s: float) -> None:
        self._ledger = ledger
        self._worker = worker
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._held: tuple[str, str] | None = None
        self._is_lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Start beating."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and take this process off the list of living ones."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(RedisError):
            self._ledger.sign_off(self._worker)

    @contextmanager
    def holding(self, job_id: str, token: str) -> Iterator[None]:
        """Renew this job's lease for as long as the context lasts."""
        with self._lock:
            self._held, self._is_lost = (job_id, token), False
        try:
            yield
        finally:
            with self._lock:
                self._held = None

    @property
    def is_lost(self) -> bool:
        """Whether the ledger refused to renew the lease of the job that is held."""
        return self._is_lost

    def _run(self) -> None:
        while True:
            with contextlib.suppress(RedisError):
                self._ledger.beat(self._worker)
                self._renew()
            if self._ended.wait(self._lease_s / 3):
                return

    def _renew(self) -> None:
        with self._lock:
            held = self._held
        if held is None:
            return
        is_ours = self._ledger.renew(*held, lease_s=self._lease_s)
        with self._lock:
            # The job may have ended, and the next begun, while Redis answered.
            if self._held == held and not is_ours:
                self._is_lost = True


class LedgerProgress:
    """Writes progress to the ledger: what is new at once, counts `MAX_WRITES_PER_S` times a second.

    Args:
        ledger: Where to write.
        job_id: The job.
        token: What it was claimed with.
        heartbeat: Knows whether the lease is lost.
        stop: Set when this process is asked to stop.
    """

    MAX_WRITES_PER_S: Final = 4

    def __init__(
        self,
        ledger: Ledger,
        job_id: str,
        token: str,
        heartbeat: Heartbeat,
        stop: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._token = token
        self._heartbeat = heartbeat
        self._stop = stop
        self._stage = Stage.VALIDATING
        self._frames: FrameCount | None = None
        self._written_at = float("-inf")

    def stage(self, stage: Stage) -> None:
        """See `ProgressSink.stage`."""
        self._stage = stage
        # What is drawn to the end is worth the moment that finishing takes.
        if self._stop.is_set() and stage is not Stage.ENCODING:
            raise HandBackError(f"stopped before {stage.value}")
        self._write()

    def frames(self, done: int, total: int) -> None:
        """See `ProgressSink.frames`."""
        is_news = self._frames is None or done == total
        self._frames = FrameCount(done=done, total=total)
        if self._stop.is_set() and done < total:
            raise HandBackError(f"stopped after {done} of {total} frames")
        if is_news or time.monotonic() - self._written_at >= 1 / self.MAX_WRITES_PER_S:
            self._write()
        elif self._heartbeat.is_lost:
            raise LeaseLostError(self._job_id)

    def _write(self) -> None:
        self._written_at = time.monotonic()
        # A render goes on while Redis is away; only the final word has to reach it.
        with contextlib.suppress(RedisError):
            is_ours = self._ledger.report(
                self._job_id, self._token, stage=self._stage, frames=self._frames
            )
            if not is_ours:
                raise LeaseLostError(self._job_id)
