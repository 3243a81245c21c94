"""Which processes live: each says so every few seconds, and is believed for a while."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Final, cast

from redis import Redis
from redis.client import Pipeline

from worker.contract.ledger_scripts import presence_key

ALIVE_S: Final = 30.0
"""A process that was silent for longer counts as gone, in seconds."""


class ProcessKind(StrEnum):
    """What a process does; the value names its key in Redis."""

    WORKER = "workers"
    INSPECTOR = "inspectors"
    VALIDATOR = "validators"
    RECONCILER = "reconcilers"


class Presence:
    """The living processes in one Redis; every method may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def beat(self, kind: ProcessKind, name: str) -> None:
        """Say that a process is alive and does its work."""
        self._redis.zadd(presence_key(kind), {name: time.time()})

    def sign_off(self, kind: ProcessKind, name: str) -> None:
        """Say that a process ends."""
        self._redis.zrem(presence_key(kind), name)

    def count(self, kind: ProcessKind, *, within_s: float = ALIVE_S) -> int:
        """Processes of a kind that were heard of in the last `within_s` seconds."""
        # Who was silent for ten times as long never comes back under that name.
        stale = time.time() - 10 * within_s
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zremrangebyscore(presence_key(kind), "-inf", stale)
            ask_living(pipeline, kind, within_s)
            return int(pipeline.execute()[-1])

    def has_host(self, kind: ProcessKind, host: str, *, within_s: float = ALIVE_S) -> bool:
        """Whether a process of this host, by the beginning of its name, was heard of lately."""
        since = time.time() - within_s
        names = cast(list[bytes], self._redis.zrangebyscore(presence_key(kind), since, "+inf"))
        return any(name.decode().startswith(f"{host}-") for name in names)


def ask_living(pipeline: Pipeline, kind: ProcessKind, within_s: float = ALIVE_S) -> None:
    """Add to a pipeline: how many processes of a kind were heard of lately."""
    pipeline.zcount(presence_key(kind), time.time() - within_s, "+inf")
