"""One reader of job events for all who wait in this process.

    Redis streams ──one XREAD for all watched jobs──▶ JobWatch ──▶ a mailbox for each who waits

A client that waits costs a mailbox and neither a thread nor a connection to Redis. Redis may go away
for a while: who waits keeps waiting, and reads on where the stream was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis import RedisError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.contract.events import FIRST, JobEvent, parse_events
from worker.contract.ledger_scripts import events_key
from worker.contract.logs import get_logger

# Who begins to wait is known to the reader after so long at the latest.
_BLOCK_MS: Final = 200
_PAUSE_S: Final = 0.5
_CONNECTIONS: Final = 16
_PATIENCE_S: Final = 20.0
# Far more than a job tells in the time that a slow client may be behind.
_MAILBOX: Final = 256
_EVENT_ID: Final = re.compile(r"(\d{1,18})-(\d{1,18})")
_log = get_logger(__name__)


def parse_event_id(text: str) -> tuple[int, int] | None:
    """A stream id as a pair that sorts, or None for anything else."""
    match = _EVENT_ID.fullmatch(text)
    return (int(match.group(1)), int(match.group(2))) if match else None


class WatchFullError(Exception):
    """Nobody else, or nobody else of this caller, may wait now."""


class Subscription:
    """The events of one job, in order and each once; made by `JobWatch.subscribe`."""

    def __init__(self, after_id: str) -> None:
        self._events: deque[JobEvent] = deque(maxlen=_MAILBOX)
        self._last = parse_event_id(after_id) or (0, 0)
        self._news = asyncio.Event()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether this process is about to end, so that nothing more comes."""
        return self._is_closed

    async def next(self, timeout_s: float) -> JobEvent | None:
        """The next event, or None when none came in time or the watch was closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._is_closed:
                    while self._events:
                        event = self._events.popleft()
                        number = parse_event_id(event.id)
                        # What was read at the beginning may arrive by the mailbox as well.
                        if number is not None and number > self._last:
                            self._last = number
                            return event
                    self._news.clear()
                    await self._news.wait()
        return None

    def _begin(self, past: list[JobEvent]) -> None:
        # What is in the mailbox already is newer, or the same.
        live = list(self._events)
        self._events.clear()
        self._events.extend([*past, *live])

    def _deliver(self, event: JobEvent) -> None:
        self._events.append(event)
        self._news.set()

    def _close(self) -> None:
        self._is_closed = True
        self._news.set()


class _Watched:
    """A job that someone waits for."""

    def __init__(self) -> None:
        # Not what the first client says that it knows: the others may know less.
        self.last_id = FIRST
        self.subscriptions: set[Subscription] = set()


class JobWatch:
    """Tells who waits what happens to jobs.

    Everything runs in one event loop; nothing is connected before the first who waits.

    Args:
        redis_url: Where the ledger is.
        max_waiting: Most who may wait at the same time.
        max_waiting_per_caller: Most of one caller, so that one locks nobody else out; None: any.
    """

    def __init__(
        self, redis_url: str, *, max_waiting: int, max_waiting_per_caller: int | None = None
    ) -> None:
        # Who comes when all connections are in use waits for one: hundreds may begin at once.
        pool = BlockingConnectionPool.from_url(
            redis_url,
            max_connections=_CONNECTIONS,
            timeout=_PATIENCE_S,
            socket_connect_timeout=2.0,
            socket_timeout=5.0,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis.from_pool(pool)
        self._max_waiting = max_waiting
        self._watched: dict[str, _Watched] = {}
        self._num_waiting = 0
        self._max_per_caller = max_waiting_per_caller
        self._waiting_of: Counter[str] = Counter()
        self._reader: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def num_waiting(self) -> int:
        """How many wait now."""
        return self._num_waiting

    @property
    def is_closed(self) -> bool:
        """Whether this process is about to end."""
        return self._is_closed

    def is_full(self, caller: str | None = None) -> bool:
        """Whether nobody else, or nobody else of a caller, may begin to wait.

        Args:
            caller: Under what name a caller is counted; None: not at all.
        """
        if self._is_closed or self._num_waiting >= self._max_waiting:
            return True
        most = self._max_per_caller
        return most is not None and caller is not None and self._waiting_of[caller] >= most

    @asynccontextmanager
    async def subscribe(
        self, job_id: str, after_id: str = FIRST, *, caller: str | None = None
    ) -> AsyncIterator[Subscription]:
        """The events of a job after the one with this id, from the past and the future.

        Args:
            job_id: The job.
            after_id: Id of the last event that is known.
            caller: Under what name the caller is counted; None: not at all.

        Raises:
            WatchFullError: Too many wait already.
            redis.RedisError: The past cannot be read.
        """
        # A watch that is closed lets everyone in, and go at once.
        if not self._is_closed and self.is_full(caller):
            raise WatchFullError
        subscription = Subscription(after_id)
        watched = self._watched.setdefault(job_id, _Watched())
        watched.subscriptions.add(subscription)
        self._num_waiting += 1
        if caller is not None:
            self._waiting_of[caller] += 1
        if self._is_closed:
            subscription._close()
        try:
            # In the list first, then the past: nothing falls between the two.
            subscription._begin(await self._past(job_id, after_id))
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read(), name="job-watch")
            yield subscription
        finally:
            self._num_waiting -= 1
            if caller is not None:
                self._waiting_of[caller] -= 1
                if not self._waiting_of[caller]:
                    del self._waiting_of[caller]
            watched.subscriptions.discard(subscription)
            if not watched.subscriptions and self._watched.get(job_id) is watched:
                del self._watched[job_id]

    async def newest_id(self, job_id: str) -> str:
        """Id of the newest event of a job, `FIRST` if none is kept.

        Raises:
            redis.RedisError: It cannot be read.
        """
        entries: Any = await self._redis.xrevrange(events_key(job_id), count=1)
        return entries[0][0].decode() if entries else FIRST

    def close(self) -> None:
        """End all waiting; called when the server begins to stop."""
        self._is_closed = True
        for watched in self._watched.values():
            for subscription in watched.subscriptions:
                subscription._close()

    async def aclose(self) -> None:
        """Close the connections too."""
        self.close()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        await self._redis.aclose()

    async def _past(self, job_id: str, after_id: str) -> list[JobEvent]:
        # "(" excludes the id itself.
        entries = await self._redis.xrange(events_key(job_id), min=f"({after_id}")
        return parse_events([(b"", entries)])

    async def _read(self) -> None:
        """Read for all, as long as anyone waits."""
        while self._watched and not self._is_closed:
            jobs = {events_key(job_id): entry for job_id, entry in self._watched.items()}
            try:
                answer = await self._redis.xread(
                    {key: entry.last_id for key, entry in jobs.items()}, block=_BLOCK_MS
                )
            except RedisError as error:
                _log.warning("events_unavailable", kind=type(error).__name__)
                await asyncio.sleep(_PAUSE_S)
                continue
            for key, last_id, events in _by_key(answer):
                watched = jobs[key]
                watched.last_id = last_id
                for subscription in watched.subscriptions:
                    for event in events:
                        subscription._deliver(event)


def _by_key(answer: Any) -> list[tuple[str, str, list[JobEvent]]]:
    """Each stream in XREAD's answer, whatever the protocol: its key, last id, and events.

    The last id may be that of an entry that only another release understands.
    """
    if not answer:
        return []
    if isinstance(answer, dict):  # RESP3
        streams = [
            (key, [entry for batch in batches for entry in batch])
            for key, batches in answer.items()
        ]
    else:
        streams = answer
    return [
        (key.decode(), entries[-1][0].decode(), parse_events([(key, entries)]))
        for key, entries in streams
    ]
