"""Jobs, and segments of jobs, whose holder is gone: known before the lease runs out, by who saw it go.

    the supervisor of `talkface up`   saw the process end                        `of_process`
    the reconciler                    sees that its connection to Redis is gone  `disconnected`

The kernel closes a process's connections when it dies, however it dies and in whatever container, and
each process that holds jobs has one that carries its name (`Heartbeat`). The lease is still what counts
where Redis does not tell its clients, and for a process that hangs.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

from redis import Redis
from redis.exceptions import ResponseError

from worker.contract.ledger_scripts import FREE, OPEN, job_key
from worker.contract.recovery import LostJob
from worker.contract.segments import Segments, segments_key

GONE_AFTER_S: Final = 3.0
"""A holder without a connection for so long is gone, in seconds: two beats, and each opens it anew."""
LOOK_EVERY_S: Final = 1.0
"""How often to look, in seconds; a look is one command."""


class Holders:
    """Who holds the jobs in one Redis; every method may raise `redis.RedisError`.

    Args:
        redis: A client.
        gone_after_s: How long a holder may be without a connection, in seconds.
    """

    def __init__(self, redis: Redis, *, gone_after_s: float = GONE_AFTER_S) -> None:
        self._redis = redis
        self._free = redis.register_script(FREE)
        self._gone_after_s = gone_after_s
        self._seen: set[str] = set()
        self._missing_since: dict[str, float] = {}
        self._looked_at = float("-inf")

    def disconnected(self) -> list[LostJob]:
        """Free the jobs of holders that were connected and are not any more; call it every `LOOK_EVERY_S`.

        A holder that was never seen is another release's, or Redis does not tell: its lease counts.
        """
        names, now = self._connected(), time.monotonic()
        if names is None:
            return []
        # After a while without a look, Redis may have been away: whoever is missing now had no time yet
        # to come back.
        is_afresh = now - self._looked_at > 2 * self._gone_after_s + 1.0
        since = {} if is_afresh else self._missing_since
        self._looked_at = now
        self._seen |= names
        self._missing_since = {name: since.get(name, now) for name in self._seen - names}
        gone = {name for name, at in self._missing_since.items() if now - at >= self._gone_after_s}
        freed = list(self._freed(lambda holder: holder in gone)) if gone else []
        # They never come back under these names, and what they held is free.
        self._seen -= gone
        return freed

    def of_process(self, pid: int) -> list[LostJob]:
        """Free the jobs of a process of this machine that has ended."""
        prefix = f"{socket.gethostname()}-{pid}-"
        return list(self._freed(lambda holder: holder.startswith(prefix)))

    def _freed(self, is_gone: Callable[[str], bool]) -> Iterator[LostJob]:
        ids = [raw.decode() for raw in cast(list[bytes], self._redis.zrange(OPEN, 0, -1))]
        self._free_segments(ids, is_gone)
        with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hmget(job_key(job_id), ["worker", "token", "attempt"])
            answers = pipeline.execute(raise_on_error=False)
        for job_id, answer in zip(ids, answers, strict=True):
            if isinstance(answer, Exception) or None in answer:
                continue
            holder, _, attempt = (field.decode() for field in answer)
            # Free only if it still holds the job: it may have been handed on meanwhile.
            if is_gone(holder) and self._free(args=[job_id, holder]):
                with contextlib.suppress(ValueError):
                    yield LostJob(job_id, int(attempt))

    def _free_segments(self, ids: Sequence[str], is_gone: Callable[[str], bool]) -> None:
        """Of jobs that others draw parts of: whoever asks next draws what the gone ones had."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.exists(segments_key(job_id))
            divided = pipeline.execute()
        for job_id in (one for one, is_divided in zip(ids, divided, strict=True) if is_divided):
            Segments(self._redis, job_id, lease_s=0.0).free(is_gone)

    def _connected(self) -> set[str] | None:
        """Names of the connections; None where Redis does not tell."""
        try:
            clients = self._redis.client_list()
        except ResponseError:
            return None
        return {client["name"] for client in clients if client.get("name")}
