"""What a render tells the outside between two batches, and may be told there."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, Self

from redis import RedisError

from worker.contract.answers import ReportAnswer
from worker.contract.ledger import Ledger
from worker.contract.messages import FrameCount, JobRecord, Stage
from worker.contract.presence import ProcessKind

BEAT_S: Final = 1.5
"""Longest pause between two beats, in seconds: a connection that Redis lost is there again before
others conclude that this process is gone (`worker.contract.holders`)."""
STALLED: Final = 70
"""Exit status of a process whose render hangs (EX_SOFTWARE of sysexits.h)."""


class RenderInterruptedError(Exception):
    """The render must stop between two batches; nothing is wrong with it."""


class HandBackError(RenderInterruptedError):
    """This process is asked to stop: the job goes back to the queue."""


class LeaseLostError(RenderInterruptedError):
    """The ledger gave the job to someone else, or it ended: whatever is drawn here is void."""


class CancelledError(RenderInterruptedError):
    """The caller wants the job no more."""


class DeadlineError(RenderInterruptedError):
    """The job took longer than it may."""


class ProgressSink(Protocol):
    """The door that a renderer reports through.

    Both calls may raise `RenderInterruptedError`; the renderer lets it pass and leaves nothing open
    behind it.
    """

    def stage(self, stage: Stage) -> None:
        """A stage begins."""

    def frames(self, done: int, total: int) -> None:
        """`done` of `total` frames are written; called once a batch."""


class Stop:
    """The wish that this process ends, and how long it may go on with the job at hand.

    Args:
        grace_s: Seconds from the wish on.
    """

    def __init__(self, grace_s: float = 0.0) -> None:
        self._grace_s = grace_s
        self._event = threading.Event()
        self._since: float | None = None

    def set(self) -> None:
        """Wish it; only the first time counts."""
        if self._since is None:
            self._since = time.monotonic()
        self._event.set()

    def is_set(self) -> bool:
        """Whether it is wished."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep, at most until it is wished; whether it is."""
        return self._event.wait(timeout_s)

    def left_s(self) -> float:
        """Seconds that the job at hand may still take; infinite before the wish."""
        if self._since is None:
            return float("inf")
        return self._grace_s - (time.monotonic() - self._since)


def exit_on_stall() -> None:
    """Say where every thread hangs, then end this process, whatever its main thread waits for."""
    sys.stderr.write("the render made no progress; stacks of all threads follow\n")
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    # Not sys.exit: a hung call into a driver never comes back to unwind.
    os._exit(STALLED)


class Heartbeat:
    """A thread that keeps this process and the job it runs alive in the ledger.

    Redis may be away for a while: a missed beat is tried again at the next one, and the lease's
    length decides when others may conclude that this process died. A job that makes no progress is
    not kept alive: a hung process must not hold it for ever.

    Args:
        ledger: Where to beat; used from this thread only, so give it a client of its own, with the
            name of this process.
        worker: Name of this process.
        lease_s: Length of a lease in seconds; beats come three times as often or more.
        stall_s: Longest time without progress in seconds.
        on_stall: Called, in this thread, when a job made none for longer.
        kind: What this process does.
    """

    def __init__(
        self,
        ledger: Ledger,
        worker: str,
        lease_s: float,
        stall_s: float = float("inf"),
        on_stall: Callable[[], None] = exit_on_stall,
        *,
        kind: ProcessKind = ProcessKind.WORKER,
    ) -> None:
        self._ledger = ledger
        self._worker = worker
        self._lease_s = lease_s
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._kind = kind
        self._lock = threading.Lock()
        self._held: Callable[[], bool] | None = None
        self._progress_at = time.monotonic()
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
            self._ledger.presence.sign_off(self._kind, self._worker)

    @contextmanager
    def holding(self, job_id: str, token: str) -> Iterator[None]:
        """Renew this job's lease for as long as the context lasts and progress is made."""
        with self.keeping(lambda: self._ledger.renew(job_id, token, lease_s=self._lease_s)):
            yield

    @contextmanager
    def keeping(self, renew: Callable[[], bool]) -> Iterator[None]:
        """Call something with each beat for as long as the context lasts and progress is made.

        Args:
            renew: Whether what is held is still ours; called in the heartbeat's thread.
        """
        with self._lock:
            self._held, self._is_lost = renew, False
            self._progress_at = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._held = None

    def note_progress(self) -> None:
        """The main thread is not hung; called by it."""
        self._progress_at = time.monotonic()

    @property
    def worker(self) -> str:
        """Name of this process."""
        return self._worker

    @property
    def is_lost(self) -> bool:
        """Whether the ledger refused to renew the lease of the job that is held."""
        return self._is_lost

    def _run(self) -> None:
        while True:
            pause_s = min(self._lease_s / 3, self._stall_s / 2, BEAT_S)
            try:
                self._ledger.presence.beat(self._kind, self._worker)
                self._renew()
            except RedisError:
                # The lease may have lapsed while Redis was away: take it up before others look.
                pause_s = min(pause_s, 1.0)
            if self._ended.wait(pause_s):
                return
            # Outside of the suppression: Redis may be away while the render hangs.
            if self._is_stalled():
                self._on_stall()

    def _is_stalled(self) -> bool:
        with self._lock:
            return self._held is not None and time.monotonic() - self._progress_at > self._stall_s

    def _renew(self) -> None:
        with self._lock:
            held = self._held
        if held is None or self._is_stalled():
            return
        is_ours = held()
        with self._lock:
            # The job may have ended, and the next begun, while Redis answered.
            if self._held is held and not is_ours:
                self._is_lost = True


class LedgerProgress:
    """Writes progress to the ledger: what is new at once, counts `MAX_WRITES_PER_S` times a second.

    Between two batches it also stops a render whose lease is lost, that was cancelled, whose
    deadline has passed, or that cannot end within the grace of a process that is asked to stop.

    Args:
        ledger: Where to write.
        record: The job.
        token: What it was claimed with.
        heartbeat: Knows whether the lease is lost.
        stop: Set when this process is asked to stop.
    """

    MAX_WRITES_PER_S: Final = 4
    DECODING_WRITES_EVERY_S: Final = 2.0

    def __init__(
        self, ledger: Ledger, record: JobRecord, token: str, heartbeat: Heartbeat, stop: Stop
    ) -> None:
        self._ledger = ledger
        self._record = record
        self._token = token
        self._heartbeat = heartbeat
        self._stop = stop
        self._stage = Stage.VALIDATING
        self._frames: FrameCount | None = None
        self._written_at = float("-inf")
        self._first_frame_at: float | None = None

    def stage(self, stage: Stage) -> None:
        """See `ProgressSink.stage`."""
        self._stage = stage
        # What is drawn to the end is worth the moment that finishing takes.
        if stage is not Stage.ENCODING:
            self._check(f"before {stage.value}")
        self._write()

    def frames(self, done: int, total: int) -> None:
        """See `ProgressSink.frames`."""
        is_news = self._frames is None or done == total
        self._frames = FrameCount(done=done, total=total)
        if self._first_frame_at is None:
            self._first_frame_at = time.monotonic()
        if done < total:
            self._check(f"after {done} of {total} frames")
        if is_news or time.monotonic() - self._written_at >= 1 / self.MAX_WRITES_PER_S:
            self._write()
        elif self._heartbeat.is_lost:
            raise LeaseLostError(self._record.id)

    def decoding(self) -> None:
        """Called again and again while the job's files are decoded.

        Raises:
            RenderInterruptedError: The render must stop.
        """
        self._look("while decoding")

    def waiting(self) -> None:
        """Called again and again while other workers draw the rest of the job.

        Raises:
            RenderInterruptedError: The render must stop.
        """
        self._look("while others drew")

    def signing(self) -> None:
        """Called again and again while the signer works, or is not there.

        Raises:
            RenderInterruptedError: The render must stop.
        """
        self._look("while it was to be signed")

    def _look(self, where: str) -> None:
        self._heartbeat.note_progress()
        if self._heartbeat.is_lost:
            raise LeaseLostError(self._record.id)
        self._check(where)
        # Also how the wish to cancel is heard.
        if time.monotonic() - self._written_at >= self.DECODING_WRITES_EVERY_S:
            self._write()

    def _check(self, where: str) -> None:
        deadline_at = self._record.deadline_at
        if deadline_at is not None and time.time() >= deadline_at.timestamp():
            raise DeadlineError(where)
        if self._stop.is_set() and self._left_s() > self._stop.left_s():
            raise HandBackError(f"stopped {where}")

    def _left_s(self) -> float:
        """What the drawing still needs at its pace so far; infinite before the first batch."""
        frames, since = self._frames, self._first_frame_at
        if frames is None or since is None or frames.done == 0:
            return float("inf")
        pace_s = (time.monotonic() - since) / frames.done
        return pace_s * (frames.total - frames.done)

    def _write(self) -> None:
        self._heartbeat.note_progress()
        self._written_at = time.monotonic()
        # A render goes on while Redis is away; only the final word has to reach it.
        with contextlib.suppress(RedisError):
            answer = self._ledger.report(
                self._record.id, self._token, stage=self._stage, frames=self._frames
            )
            if answer is ReportAnswer.NOT_OURS:
                raise LeaseLostError(self._record.id)
            if answer is ReportAnswer.CANCEL:
                raise CancelledError(self._record.id)
