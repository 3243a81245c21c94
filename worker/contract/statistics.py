"""Counters that outlive every process, for the service's `/metrics`.

The ledger's scripts count in the same step that changes a job, so each event is counted once whatever
is killed, and every API process tells the same figures.

    jobs|<state>|<code>   jobs that ended           <histogram>|<bound>   observations in this bucket
    frames, redeliveries, quarantined, webhooks|<outcome>        <histogram>|sum       their sum in seconds

A histogram is `queued`, `total` or `stage|<stage>`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from redis import Redis

from worker.contract.ledger_scripts import (
    OPEN,
    OUTBOX,
    QUARANTINE,
    SPEED,
    STATISTICS,
    STATISTICS_BOUNDS_S,
    job_key,
    presence_key,
)
from worker.contract.messages import JobState
from worker.contract.presence import ALIVE_S, ProcessKind
from worker.contract.queues import open_queues

INFINITE: Final = "+Inf"
# Among so many of the oldest open jobs one that waits is looked for; the others run.
_OLDEST: Final = 256


@dataclass
class Histogram:
    """How often a duration fell between two bounds.

    Args:
        counts: Observations by upper bound as text, not cumulative.
        sum_s: All observations together, in seconds.
    """

    counts: dict[str, int] = field(default_factory=dict)
    sum_s: float = 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus' buckets: how many were at most as long as each bound."""
        total, buckets = 0, []
        for bound in (*map(bound_name, STATISTICS_BOUNDS_S), INFINITE):
            total += self.counts.get(bound, 0)
            buckets.append((bound, float(total)))
        return buckets


@dataclass
class Statistics:
    """What was counted since the ledger was made.

    Args:
        jobs: Jobs that ended, by state and error code (empty where there is none).
        frames: Frames of videos that were finished.
        redeliveries: Attempts after the first.
        quarantined: Jobs that were ever kept aside.
        webhooks: Deliveries of webhooks, by outcome.
        queued: Seconds from acceptance to the first attempt.
        total: Seconds from acceptance to the end.
        stages: Seconds of each stage, of jobs that ended.
    """

    jobs: dict[tuple[str, str], int] = field(default_factory=dict)
    frames: int = 0
    redeliveries: int = 0
    quarantined: int = 0
    webhooks: dict[str, int] = field(default_factory=dict)
    queued: Histogram = field(default_factory=Histogram)
    total: Histogram = field(default_factory=Histogram)
    stages: dict[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The ledger's figures at one moment.

    Args:
        statistics: What was counted since the ledger was made.
        queue_depth: Deliveries that wait, by queue.
        open_jobs: Jobs that have not ended.
        oldest_queued_s: How long the oldest job that waits has waited, in seconds; 0 = none waits.
        live_workers: Processes that were heard of lately, by kind.
        speeds: Seconds of rendering per second of video, by preset.
        webhooks_waiting: Webhooks that are not delivered yet.
        quarantined: Jobs that some process could not handle.
    """

    statistics: Statistics
    queue_depth: dict[str, int] = field(default_factory=dict)
    open_jobs: int = 0
    oldest_queued_s: float = 0.0
    live_workers: dict[str, int] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    webhooks_waiting: int = 0
    quarantined: int = 0


class StatisticsReader:
    """Reads the figures in one Redis; may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def snapshot(self) -> Snapshot:
        """The figures of this moment."""
        now = time.time()
        queues = open_queues(self._redis).values()
        kinds = {
            "render": ProcessKind.WORKER,
            "inspect": ProcessKind.INSPECTOR,
            "validate": ProcessKind.VALIDATOR,
            "reconcile": ProcessKind.RECONCILER,
        }
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(STATISTICS)
            pipeline.hgetall(SPEED)
            pipeline.zcard(OPEN)
            pipeline.zcard(OUTBOX)
            pipeline.hlen(QUARANTINE)
            pipeline.zrange(OPEN, 0, _OLDEST - 1, withscores=True)
            for kind in kinds.values():
                pipeline.zcount(presence_key(kind), now - ALIVE_S, "+inf")
            for queue in queues:
                pipeline.llen(queue.key)
            answers = pipeline.execute()
        counted, speeds, num_open, num_webhooks, num_quarantined, oldest, *numbers = answers
        return Snapshot(
            statistics=read_statistics(counted),
            queue_depth={
                queue.name: int(depth)
                for queue, depth in zip(queues, numbers[len(kinds) :], strict=True)
            },
            open_jobs=int(num_open),
            oldest_queued_s=self._oldest_queued_s(oldest, now),
            live_workers=dict(zip(kinds, map(int, numbers[: len(kinds)]), strict=True)),
            # `job` is the seconds of a whole job, which the ledger needs for its estimates.
            speeds={
                preset.decode(): float(factor)
                for preset, factor in speeds.items()
                if preset != b"job"
            },
            webhooks_waiting=int(num_webhooks),
            quarantined=int(num_quarantined),
        )

    def _oldest_queued_s(self, oldest: list[tuple[bytes, float]], now: float) -> float:
        """Age of the first of these open jobs that waits, in seconds."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for job_id, _ in oldest:
                pipeline.hget(job_key(job_id.decode()), "state")
            # What is stored under one job's key may be no job; that must not hide the figures.
            states = pipeline.execute(raise_on_error=False)
        ages = (
            max(0.0, now - score)
            for (_, score), state in zip(oldest, states, strict=True)
            if state == JobState.QUEUED.value.encode()
        )
        return next(ages, 0.0)


def bound_name(bound_s: float) -> str:
    """How a bound is written in the ledger and in Prometheus' `le`."""
    return f"{bound_s:g}"


def read_statistics(raw: Mapping[bytes, bytes]) -> Statistics:
    """Read the ledger's hash; what an older or newer version counted is passed over."""
    told = Statistics()
    for name, value in raw.items():
        match name.decode().split("|"):
            case ["jobs", state, code]:
                told.jobs[state, code] = int(value)
            case ["frames"]:
                told.frames = int(value)
            case ["redeliveries"]:
                told.redeliveries = int(value)
            case ["quarantined"]:
                told.quarantined = int(value)
            case ["webhooks", outcome]:
                told.webhooks[outcome] = int(value)
            case ["queued", bound]:
                _put(told.queued, bound, value)
            case ["total", bound]:
                _put(told.total, bound, value)
            case ["stage", stage, bound]:
                _put(told.stages.setdefault(stage, Histogram()), bound, value)
    return told


def _put(histogram: Histogram, bound: str, value: bytes) -> None:
    if bound == "sum":
        histogram.sum_s = float(value)
    else:
        histogram.counts[bound] = int(value)
