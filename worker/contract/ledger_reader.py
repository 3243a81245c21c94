"""The half of the ledger that changes nothing: what is known about jobs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, cast

from redis import Redis

from worker.contract import events, fair_queue
from worker.contract.events import JobEvent
from worker.contract.idempotency import IdempotencyKeys, IdempotencyRecord
from worker.contract.ledger_records import UnreadableRecordError, from_hash
from worker.contract.ledger_scripts import (
    OPEN,
    SPEED,
    job_key,
    jobs_key,
    open_key,
)
from worker.contract.messages import JobRecord, JobState
from worker.contract.presence import Presence, ProcessKind, ask_living
from worker.contract.queues import RENDER_QUEUE, delivery_id, open_queues, queue_key

_SPARE: Final = 16
_MOST_SCANNED: Final = 2000
"""So many jobs of a list are looked at for a page, at most."""


class JobPage(NamedTuple):
    """Some of a caller's jobs, newest first; `next_cursor` is None on the last page."""

    records: list[JobRecord]
    next_cursor: str | None


@dataclass(frozen=True)
class JobFilter:
    """Which jobs of a list are wanted.

    Args:
        states: Only these; empty: all.
        after: Accepted at this Unix time or later, in seconds.
        before: Accepted before this Unix time, in seconds.
    """

    states: frozenset[JobState] = frozenset()
    after: float | None = None
    before: float | None = None


class CursorError(ValueError):
    """A cursor is not one that `list_jobs` gave."""


class LedgerReader:
    """The jobs in one Redis, to be looked at.

    Every method may raise `redis.RedisError` when Redis cannot be reached or refuses.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.presence = Presence(redis)
        self._queues = open_queues(redis)
        self._idempotency = IdempotencyKeys(redis)
        self._position = redis.register_script(fair_queue.POSITION)

    def ping(self) -> None:
        """Return if Redis answers."""
        self._redis.ping()

    def get(self, job_id: str) -> JobRecord | None:
        """The job, or None if there is none of this id.

        Raises:
            UnreadableRecordError: There is one, and this release cannot read it.
        """
        raw = cast(dict[bytes, bytes], self._redis.hgetall(job_key(job_id)))
        return from_hash(raw) if raw else None

    def list_jobs(
        self,
        principal: str | None,
        *,
        cursor: str | None = None,
        limit: int = 20,
        wanted: JobFilter = JobFilter(),
    ) -> JobPage:
        """A caller's jobs, newest first, without those that this release cannot read.

        Args:
            principal: The caller; None where nobody has a key.
            cursor: `next_cursor` of the page before; jobs may come and go in between.
            limit: Most jobs of a page.
            wanted: Which of them.

        Raises:
            CursorError: `cursor` is none of ours.
        """
        newest, last_id = _parsed_cursor(cursor)
        oldest = "-inf" if wanted.after is None else repr(wanted.after)
        begin = newest
        if wanted.before is not None and wanted.before < float(newest):
            begin, last_id = f"({wanted.before!r}", ""
        # Jobs of the very same microsecond as the last one may have been on the page before.
        found = cast(
            list[tuple[bytes, float]],
            self._redis.zrevrangebyscore(
                jobs_key(principal),
                begin,
                oldest,
                start=0,
                num=_MOST_SCANNED if wanted.states else limit + _SPARE,
                withscores=True,
            ),
        )
        ids = [
            (job_id.decode(), score)
            for job_id, score in found
            if not (last_id and repr(score) == newest and job_id.decode() >= last_id)
        ]
        return self._page(ids, limit, wanted)

    def list_all(
        self, *, cursor: str | None = None, limit: int = 20, wanted: JobFilter = JobFilter()
    ) -> JobPage:
        """Everyone's jobs, for an operator; as `list_jobs`, over the lists of all callers."""
        newest, last_id = _parsed_cursor(cursor)
        last = (float(newest), last_id) if last_id else (math.inf, "")
        ids: list[tuple[str, float]] = []
        for raw in self._redis.scan_iter(match=jobs_key("*"), count=1000):
            entries = cast(
                list[tuple[bytes, float]],
                self._redis.zrevrangebyscore(
                    raw,
                    "+inf" if wanted.before is None else f"({wanted.before!r}",
                    "-inf" if wanted.after is None else repr(wanted.after),
                    withscores=True,
                ),
            )
            ids += [(job_id.decode(), score) for job_id, score in entries]
        ids = sorted(
            (pair for pair in ids if (pair[1], pair[0]) < last),
            key=lambda pair: (pair[1], pair[0]),
            reverse=True,
        )
        return self._page(ids, limit, wanted)

    def _page(self, ids: list[tuple[str, float]], limit: int, wanted: JobFilter) -> JobPage:
        """The first jobs of a list of ids and times that are wanted."""
        scanned = ids[:_MOST_SCANNED]
        if wanted.states:
            with self._redis.pipeline(transaction=False) as pipeline:
                for job_id, _ in scanned:
                    pipeline.hget(job_key(job_id), "state")
                states = cast(list[bytes | None], pipeline.execute())
            names = {state.value.encode() for state in wanted.states}
            found = [one for one, state in zip(scanned, states, strict=True) if state in names]
        else:
            found = scanned
        page = found[:limit]
        with self._redis.pipeline(transaction=False) as pipeline:
            for job_id, _ in page:
                pipeline.hgetall(job_key(job_id))
            hashes = cast(list[dict[bytes, bytes]], pipeline.execute())
        # Behind the last one of a full page, else behind all that was looked at.
        last = (
            page[-1:] if len(found) > limit else scanned[-1:] if len(ids) >= _MOST_SCANNED else []
        )
        next_cursor = f"{last[0][1]!r}_{last[0][0]}" if last else None
        return JobPage(list(_readable(hashes)), next_cursor)

    def owner(self, job_id: str) -> tuple[bool, str | None]:
        """Whether there is such a job, readable or not, and its principal."""
        stored = cast(list[bytes | None], self._redis.hmget(job_key(job_id), ["id", "principal"]))
        return stored[0] is not None, None if stored[1] is None else stored[1].decode()

    def has_ended(self, job_id: str) -> bool:
        """Whether a job is over, or gone; needs no readable record."""
        state = cast(bytes | None, self._redis.hget(job_key(job_id), "state"))
        return state not in (JobState.QUEUED.value.encode(), JobState.RUNNING.value.encode())

    def count_open(self, principal: str | None) -> int:
        """A caller's jobs that have not ended."""
        return int(self._redis.zcard(open_key(principal)))

    def count_all_open(self) -> int:
        """Jobs of all callers that have not ended."""
        return int(self._redis.zcard(OPEN))

    def queue_position(self, record: JobRecord) -> int | None:
        """How many deliveries are in front of a job's, 0 = next; None if it does not wait.

        Args:
            record: The job as it was seen a moment ago.
        """
        job_id, queue = record.id, record.queue
        keys = [job_key(job_id), queue_key(queue)]
        if queue != RENDER_QUEUE:
            # It goes on to the renderers, to its fair place among those that wait there.
            tags, now = fair_queue.tags_key(RENDER_QUEUE), fair_queue.time_key(RENDER_QUEUE)
            keys += [queue_key(RENDER_QUEUE), tags, now, SPEED]
        delivery = delivery_id(job_id, record.attempt, queue)
        position = int(self._position(keys=keys, args=[delivery]))
        return None if position < 0 else position

    def eta_s(self, record: JobRecord, position: int | None = None) -> float | None:
        """Seconds until a job has probably ended, from what was measured; None if nothing was.

        Args:
            record: The job.
            position: Its `queue_position` where that is known already.
        """
        if record.state is JobState.RUNNING:
            return self._left_s(record)
        if record.state is not JobState.QUEUED:
            return None
        if position is None:
            position = self.queue_position(record) or 0
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hmget(SPEED, [record.input.options.preset, "job"])
            ask_living(pipeline, ProcessKind.WORKER)
            pipeline.zcard(OPEN)
            for queue in self._queues.values():
                pipeline.llen(queue.key)
            answers = pipeline.execute()
        (speed, job_s), num_workers, num_open, *waiting = answers
        if speed is None or job_s is None or num_workers == 0:
            return None
        # Who runs has half of its work behind it on average.
        running = min(num_workers, max(0, num_open - sum(waiting)))
        ahead_s = (position + running / 2) * float(job_s) / num_workers
        return float(ahead_s + float(speed) * record.input.audio.seconds)

    def read_events(
        self, job_id: str, after_id: str = events.FIRST, block_ms: int = 0
    ) -> list[JobEvent]:
        """See `worker.contract.events.read_events`."""
        return events.read_events(self._redis, job_id, after_id, block_ms)

    def idempotency_lookup(self, principal: str | None, key: str) -> IdempotencyRecord | None:
        """See `IdempotencyKeys.lookup`."""
        return self._idempotency.lookup(principal, key)

    def _left_s(self, record: JobRecord) -> float | None:
        """What a running job still needs: at its own pace, else at that of its preset."""
        frames, started_at = record.frames, record.started_at
        if frames is not None and frames.done and started_at is not None:
            elapsed_s = (datetime.now(UTC) - started_at).total_seconds()
            return elapsed_s / frames.done * (frames.total - frames.done)
        speed = cast(bytes | None, self._redis.hget(SPEED, record.input.options.preset))
        return None if speed is None else float(speed) * record.input.audio.seconds


def _readable(hashes: Iterable[Mapping[bytes, bytes]]) -> Iterator[JobRecord]:
    for raw in hashes:
        if raw:
            with contextlib.suppress(UnreadableRecordError):
                yield from_hash(raw)


def _parsed_cursor(cursor: str | None) -> tuple[str, str]:
    """Highest score, and the id that was the last one of the page before."""
    if cursor is None:
        return "+inf", ""
    score, _, job_id = cursor.partition("_")
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not job_id.isalnum():
        raise CursorError("expected the next_cursor of the page before")
    return repr(value), job_id
