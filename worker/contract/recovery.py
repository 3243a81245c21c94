"""What the ledger has to be told by somebody who looks at all of it: the reconciler.

    open, not leased, in no queue for a while     delivered again, as the next attempt, in front
    ... three times because its worker died       fails with worker_lost
    open, its deadline passed                     fails with deadline_exceeded
    RQ's own lists of deliveries that are over    cleaned

Every change is made only if the job is still as it was seen, so that two reconcilers do no harm.
Only the few fields that this needs are read, never the whole record: a job that another release
wrote is recovered like any other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, cast

from redis import Redis, WatchError

from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.ledger_scripts import (
    EXPIRE,
    LEDGER_ID,
    MEDIA,
    OPEN,
    events_key,
    job_key,
    lease_key,
)
from worker.contract.messages import JobFailure, JobState, QueueName
from worker.contract.presence import ProcessKind
from worker.contract.queues import (
    FUNCTIONS,
    INSPECT_QUEUE,
    RENDER_QUEUE,
    VALIDATE_QUEUE,
    delivery_id,
    queue_key,
)
from worker.contract.stored_bytes import store_bytes

_ATTENDED_BY: Final[Mapping[QueueName, ProcessKind]] = {
    VALIDATE_QUEUE: ProcessKind.VALIDATOR,
    INSPECT_QUEUE: ProcessKind.INSPECTOR,
}
_BATCH: Final = 1000
_OPEN_STATES: Final = (JobState.QUEUED.value.encode(), JobState.RUNNING.value.encode())
_RQ_JOB: Final = "rq:job:"
# Sets in which RQ remembers deliveries by the time of something.
_RQ_LISTS: Final = ("wip", "failed", "finished", "deferred", "canceled", "scheduled")


class Recovered(StrEnum):
    """What became of a job that was lost."""

    REDELIVERED = "redelivered"
    CANCELLED = "cancelled"
    WORKER_LOST = "worker_lost"
    CHANGED = "changed"


def deadline_failure(deadline_at: datetime | None) -> JobFailure:
    """What a client is told of a job that took too long."""
    when = "" if deadline_at is None else f" at {deadline_at.isoformat(timespec='seconds')}"
    return JobFailure(
        code=ErrorCode.DEADLINE_EXCEEDED,
        detail=f"The job's deadline passed{when} before it was done.",
        params={"deadline_at": None if deadline_at is None else deadline_at.isoformat()},
    )


@dataclass(frozen=True)
class LostJob:
    """An open job that nobody holds and no queue has."""

    job_id: str
    attempt: int


@dataclass(frozen=True)
class OpenJob:
    """What is known of an open job without reading its record.

    Args:
        job_id: The job.
        attempt: Number of its current delivery.
        is_running: Whether a worker had taken it.
        deaths: Attempts whose worker died.
        queue: Where it waits, or was taken from.
        is_cancelled: Whether it was asked to stop.
    """

    job_id: str
    attempt: int
    is_running: bool
    deaths: int
    queue: str
    is_cancelled: bool


@dataclass(frozen=True)
class OverdueJob:
    """An open job whose deadline has passed."""

    job_id: str
    deadline_at: datetime


@dataclass(frozen=True)
class ExpiredJob:
    """A job whose files are to go, or have gone so long ago that its record is to go."""

    job_id: str
    is_erased: bool


class Recovery:
    """Looks after the jobs in one Redis; every method may raise `redis.RedisError`.

    Args:
        redis: A client.
        lost_after_s: How long a job must be nowhere before it counts as lost, in seconds: a moment
            between two places is none.
        max_deaths: A job whose workers died so often fails.
    """

    def __init__(self, redis: Redis, *, lost_after_s: float = 10.0, max_deaths: int = 3) -> None:
        self._redis = redis
        self._ledger = Ledger(redis)
        self._lost_after_s = lost_after_s
        self._max_deaths = max_deaths
        self._missing_since: dict[LostJob, float] = {}

    def lost(self) -> list[LostJob]:
        """The jobs that were missing at every look for `lost_after_s`; call it every few seconds."""
        now = time.monotonic()
        missing = set(self._missing())
        self._missing_since = {job: self._missing_since.get(job, now) for job in missing}
        return [
            job for job, since in self._missing_since.items() if now - since >= self._lost_after_s
        ]

    def recover(self, job: LostJob) -> Recovered:
        """Deliver a lost job again, or end it where that was done too often."""
        found = self._open_job(job.job_id)
        if found is None or found.attempt != job.attempt:
            return Recovered.CHANGED
        if found.is_cancelled:
            is_done = self._ledger.end_open(job.job_id, None, attempt=job.attempt)
            return Recovered.CANCELLED if is_done else Recovered.CHANGED
        if found.is_running and found.deaths + 1 >= self._max_deaths:
            failure = JobFailure(
                code=ErrorCode.WORKER_LOST,
                detail=f"The worker died {found.deaths + 1} times while it rendered this job.",
                params={"deaths": found.deaths + 1},
            )
            is_done = self._ledger.end_open(job.job_id, failure, attempt=job.attempt)
            return Recovered.WORKER_LOST if is_done else Recovered.CHANGED
        is_done = self._redeliver(found, has_died=found.is_running)
        return Recovered.REDELIVERED if is_done else Recovered.CHANGED

    def overdue(self) -> Iterator[OverdueJob]:
        """Open jobs whose deadline has passed."""
        now = time.time()
        open_ids = [raw.decode() for raw in cast(list[bytes], self._redis.zrange(OPEN, 0, -1))]
        for job_id, (deadline_at,) in self._fields(open_ids, "deadline_at"):
            with contextlib.suppress(ValueError):
                if deadline_at is not None and float(deadline_at) <= now:
                    yield OverdueJob(job_id, datetime.fromtimestamp(float(deadline_at), UTC))

    def unattended(self) -> int:
        """Send jobs on to the renderers that wait for a process of a kind that is not there.

        Returns:
            How many.
        """
        moved = 0
        for queue, kind in _ATTENDED_BY.items():
            if self._ledger.presence.count(kind) > 0:
                continue
            for delivery in self._list(queue_key(queue)):
                found = self._open_job(delivery.split("_")[0])
                if found is not None and found.queue == queue:
                    moved += self._redeliver(found, has_died=False, at_front=False)
                self._redis.lrem(queue_key(queue), 0, delivery)
        return moved

    def expired(self, *, limit: int = 64) -> list[ExpiredJob]:
        """Jobs that ended so long ago that their files, or the last of them, are to go."""
        due = cast(
            list[bytes],
            self._redis.zrangebyscore(EXPIRE, "-inf", time.time(), start=0, num=limit),
        )
        jobs = []
        for job_id, (stored_id, erased) in self._fields(
            [raw.decode() for raw in due], "id", "erased"
        ):
            if stored_id is None:
                self._redis.zrem(EXPIRE, job_id)
            else:
                jobs.append(ExpiredJob(job_id, is_erased=erased is not None))
        return jobs

    def postpone_expiry(self, job_id: str, seconds: float) -> None:
        """Try later to erase a job's files, so that those behind it have their turn."""
        self._redis.zadd(EXPIRE, {job_id: time.time() + seconds}, xx=True)

    def mark_erased(self, job_id: str, *, record_kept_s: float) -> None:
        """The files of a job are gone; its record stays for a while, to say so."""
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.watch(job_key(job_id))  # type: ignore[no-untyped-call]
            if not pipeline.exists(job_key(job_id)):
                return
            pipeline.multi()
            pipeline.hset(job_key(job_id), "erased", "1")
            pipeline.zrem(MEDIA, job_id)
            store_bytes(pipeline, job_id, 0)
            pipeline.delete(events_key(job_id))
            pipeline.zadd(EXPIRE, {job_id: time.time() + record_kept_s})
            pipeline.execute()

    def is_known(self, job_id: str) -> bool:
        """Whether the ledger has a job."""
        return bool(self._redis.exists(job_key(job_id)))

    def ledger_id(self, fresh: str) -> str:
        """What this ledger is called: `fresh` if it has no name yet."""
        self._redis.set(LEDGER_ID, fresh, nx=True)
        return cast(bytes, self._redis.get(LEDGER_ID)).decode()

    def clean_rq(self) -> int:
        """Forget RQ's records of deliveries that are over, and entries that no worker will finish.

        Returns:
            How many.
        """
        cleaned = 0
        for name in FUNCTIONS:
            intermediate = f"{queue_key(name)}:intermediate"
            cleaned += sum(self._drop_if_over(intermediate, d) for d in self._list(intermediate))
            for kind in _RQ_LISTS:
                key = f"rq:{kind}:{name}"
                for raw in cast(list[bytes], self._redis.zrange(key, 0, -1)):
                    # RQ writes `<delivery>:<execution>` for what it believes to be running.
                    cleaned += self._drop_if_over(key, raw.decode(), is_sorted=True)
        # What a process that came back wrote of a delivery that was taken from it is in no list.
        for raw in self._redis.scan_iter(match=f"{_RQ_JOB}*", count=_BATCH):
            delivery = cast(bytes, raw).decode().removeprefix(_RQ_JOB)
            if self._is_over(delivery):
                cleaned += 1
                self._redis.delete(*_rq_keys(delivery))
        return cleaned + self._clean_workers()

    # ------------------------------------------------------------------------------------------------------------------

    def _missing(self) -> list[LostJob]:
        ids = [raw.decode() for raw in cast(list[bytes], self._redis.zrange(OPEN, 0, -1))]
        seen = list(self._fields(ids, "attempt", "queue", "state"))
        # Another release may have queues of its own, so the jobs say where to look. The lists are
        # read after the jobs: a job that moved on meanwhile is found by the next look.
        names = {(stored[1] or b"render").decode() for _, stored in seen}
        waiting = {delivery for name in names for delivery in self._list(queue_key(name))}
        candidates: list[LostJob] = []
        for job_id, stored in seen:
            if stored[0] is None:
                continue
            if not stored[0].isdigit():
                # Whoever recovers it finds out what is wrong with it.
                candidates.append(LostJob(job_id, 0))
                continue
            attempt, queue = int(stored[0]), (stored[1] or b"render").decode()
            is_waiting = delivery_id(job_id, attempt, queue) in waiting
            if not (is_waiting and stored[2] == b"queued"):
                candidates.append(LostJob(job_id, attempt))
        with self._redis.pipeline(transaction=False) as pipeline:
            for job in candidates:
                pipeline.exists(lease_key(job.job_id))
            leased = pipeline.execute()
        return [job for job, is_held in zip(candidates, leased, strict=True) if not is_held]

    def _fields(
        self, job_ids: Sequence[str], *names: str
    ) -> Iterator[tuple[str, list[bytes | None]]]:
        """Some fields of many jobs, a thousand at a time; `?` where a job is no hash."""
        for start in range(0, len(job_ids), _BATCH):
            batch = job_ids[start : start + _BATCH]
            with self._redis.pipeline(transaction=False) as pipeline:
                for job_id in batch:
                    pipeline.hmget(job_key(job_id), list(names))
                answers = pipeline.execute(raise_on_error=False)
            for job_id, answer in zip(batch, answers, strict=True):
                is_error = isinstance(answer, Exception)
                yield job_id, [b"?"] * len(names) if is_error else answer

    def _open_job(self, job_id: str) -> OpenJob | None:
        """A job that has not ended, else None."""
        names = ["state", "attempt", "deaths", "queue", "cancel_requested_at"]
        stored = cast(list[bytes | None], self._redis.hmget(job_key(job_id), names))
        if stored[0] not in _OPEN_STATES or stored[1] is None:
            return None
        return OpenJob(
            job_id,
            attempt=int(stored[1]),
            is_running=stored[0] == JobState.RUNNING.value.encode(),
            deaths=int(stored[2] or b"0"),
            queue=(stored[3] or b"render").decode(),
            is_cancelled=stored[4] is not None,
        )

    def _redeliver(self, job: OpenJob, has_died: bool, *, at_front: bool = True) -> bool:
        """The next attempt of a job, if it is still as it was seen and nobody holds it."""
        key, lease = job_key(job.job_id), lease_key(job.job_id)
        # What was lost before it was rendered goes to the renderers, who do all of it: the file may
        # be what kills the process before them, and only their deaths are counted.
        queue: QueueName = RENDER_QUEUE
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.watch(key, lease)  # type: ignore[no-untyped-call]
            stored = cast(list[bytes | None], pipeline.hmget(key, ["state", "attempt"]))
            if (
                stored[0] not in _OPEN_STATES
                or stored[1] != b"%d" % job.attempt
                or pipeline.exists(lease)
            ):
                return False
            pipeline.multi()
            if has_died:
                pipeline.hincrby(key, "deaths", 1)
            self._ledger.write_next_attempt(
                pipeline, job.job_id, job.attempt + 1, queue, at_front=at_front, is_fair=True
            )
            for name in {*FUNCTIONS, job.queue}:
                old = delivery_id(job.job_id, job.attempt, name)
                pipeline.lrem(queue_key(name), 0, old)
                pipeline.lrem(f"{queue_key(name)}:intermediate", 0, old)
                pipeline.delete(f"rq:job:{old}")
            try:
                pipeline.execute()
            except WatchError:
                return False
        return True

    def _drop_if_over(self, key: str, entry: str, *, is_sorted: bool = False) -> int:
        delivery = entry.split(":")[0]
        if not self._is_over(delivery):
            return 0
        with self._redis.pipeline(transaction=True) as pipeline:
            if is_sorted:
                pipeline.zrem(key, entry)
            else:
                pipeline.lrem(key, 0, entry)
            pipeline.delete(*_rq_keys(delivery))
            pipeline.execute()
        return 1

    def _is_over(self, delivery: str) -> bool:
        """Whether a delivery is not of the current attempt of an open job."""
        job_id, _, rest = delivery.partition("_")
        stored = cast(list[bytes | None], self._redis.hmget(job_key(job_id), ["state", "attempt"]))
        is_current = stored[1] is not None and rest.split("_")[0] == stored[1].decode()
        return not is_current or stored[0] not in _OPEN_STATES

    def _clean_workers(self) -> int:
        """Names of workers whose own key has expired."""
        cleaned = 0
        for name in (*FUNCTIONS, None):
            key = "rq:workers" if name is None else f"rq:workers:{name}"
            for worker in cast(set[bytes], self._redis.smembers(key)):
                if not self._redis.exists(worker):
                    cleaned += int(self._redis.srem(key, worker))
        return cleaned

    def _list(self, key: str) -> list[str]:
        return [raw.decode() for raw in cast(list[bytes], self._redis.lrange(key, 0, -1))]


def _rq_keys(delivery: str) -> tuple[str, ...]:
    """What RQ keeps of a delivery beside its lists."""
    return f"{_RQ_JOB}{delivery}", f"rq:results:{delivery}", f"rq:executions:{delivery}"
