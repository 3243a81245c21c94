"""Jobs that some process could not handle: kept aside, so that they stop nobody, and counted.

A job gets here when a process cannot read or understand its record, or when handling it fails in a
way that nobody foresaw. It stays open, its deadline still ends it, and it leaves when it ends, is deleted, or is
handled after all.
"""

from __future__ import annotations

from typing import cast

from redis import Redis

from worker.contract.ledger_scripts import KEEP_WAITING_ASIDE, QUARANTINE, STATISTICS
from worker.contract.logs import get_logger

_log = get_logger(__name__)


class Quarantine:
    """The jobs kept aside in one Redis; every method may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._keep_waiting_aside = redis.register_script(KEEP_WAITING_ASIDE)

    def add(self, job_id: str, reason: str) -> None:
        """Keep a job aside; told in the log the first time.

        Args:
            job_id: The job.
            reason: What went wrong, without a word of the caller's.
        """
        if self._redis.hset(QUARANTINE, job_id, reason):
            self._redis.hincrby(STATISTICS, "quarantined", 1)
            _log.error("job_quarantined", job_id=job_id, reason=reason)

    def add_waiting(self, job_id: str, reason: str) -> None:
        """Keep a job aside that was passed on, unless somebody took it or it ended meanwhile.

        Args:
            job_id: The job.
            reason: What is not understood of it, without a word of the caller's.
        """
        if self._keep_waiting_aside(args=[job_id, reason]):
            _log.error("job_quarantined", job_id=job_id, reason=reason)

    def release(self, job_id: str) -> None:
        """It was handled after all; nothing there is fine."""
        if self._redis.hdel(QUARANTINE, job_id):
            _log.warning("job_released", job_id=job_id)

    def ids(self) -> set[str]:
        """All that are kept aside."""
        return {raw.decode() for raw in cast(list[bytes], self._redis.hkeys(QUARANTINE))}

    def count(self) -> int:
        """How many are kept aside."""
        return int(self._redis.hlen(QUARANTINE))
