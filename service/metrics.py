"""Prometheus metrics: what this process sees, and what the ledger counted for all processes.

`tf_http_*`, `tf_accept_seconds` and `tf_watchers` are this process's own: behind several API
processes, scrape each. All else is read from Redis at each scrape and is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from worker.contract.statistics import Snapshot, Statistics

_REQUEST_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
_Families = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Metrics:
    """What this process counts; a registry of its own, so that several fit into one test."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tf_http_requests",
            "Requests that were answered; status 0: the client went away.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "tf_http_request_seconds",
            "Seconds from a request's first byte to the answer's last one.",
            ["method", "route"],
            buckets=_REQUEST_BOUNDS_S,
            registry=self._registry,
        )
        self._accept = Histogram(
            "tf_accept_seconds",
            "Seconds of accepting a job: decoding its files; storing them and the job.",
            ["step"],
            buckets=_REQUEST_BOUNDS_S,
            registry=self._registry,
        )
        self._watchers = Gauge(
            "tf_watchers", "Clients that wait for a job.", registry=self._registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; `route` is the template of its path, empty for none of ours."""
        # A client may invent methods and paths; labels are ours.
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def accepted(self, step: Literal["decode", "store"], seconds: float) -> None:
        """Note how long a step of accepting a job took."""
        self._accept.labels(step).observe(seconds)

    def collect(self, *, watchers: int) -> Iterable[Metric]:
        """What this process counts, as `prometheus_client` wants it."""
        self._watchers.set(watchers)
        return self._registry.collect()

    def exposition(self, snapshot: Snapshot | None, *, watchers: int) -> bytes:
        """All metrics in Prometheus' text format.

        Args:
            snapshot: The ledger's figures, or None where Redis cannot be reached.
            watchers: Clients that wait now.
        """
        registry = CollectorRegistry()
        self._watchers.set(watchers)
        registry.register(SnapshotCollector(snapshot))
        return generate_latest(self._registry) + generate_latest(registry)


class SnapshotCollector(Collector):
    """What the ledger counted; None: Redis cannot be reached."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[_Families]:
        """See `prometheus_client`."""
        yield _gauge("tf_store_up", "Whether Redis answers.", int(self._snapshot is not None))
        if self._snapshot is None:
            return
        yield from _counted(self._snapshot.statistics)
        yield from _standing(self._snapshot)


def _counted(told: Statistics) -> Iterator[_Families]:
    jobs = CounterMetricFamily(
        "tf_jobs", "Jobs that ended, by state and error code.", labels=["state", "code"]
    )
    for (state, code), count in sorted(told.jobs.items()):
        jobs.add_metric([state, code], count)
    yield jobs
    yield CounterMetricFamily("tf_frames", "Frames of finished videos.", value=told.frames)
    yield CounterMetricFamily(
        "tf_redeliveries", "Attempts after the first.", value=told.redeliveries
    )
    yield CounterMetricFamily(
        "tf_quarantined",
        "Jobs that were kept aside because a process could not handle them.",
        value=told.quarantined,
    )
    webhooks = CounterMetricFamily(
        "tf_webhook_deliveries", "Tries to deliver a webhook.", labels=["outcome"]
    )
    for outcome, count in sorted(told.webhooks.items()):
        webhooks.add_metric([outcome], count)
    yield webhooks
    yield HistogramMetricFamily(
        "tf_queue_seconds",
        "Seconds from acceptance to the first attempt.",
        buckets=told.queued.cumulative(),
        sum_value=told.queued.sum_s,
    )
    yield HistogramMetricFamily(
        "tf_job_seconds",
        "Seconds from acceptance to the end.",
        buckets=told.total.cumulative(),
        sum_value=told.total.sum_s,
    )
    stages = HistogramMetricFamily(
        "tf_stage_seconds", "Seconds of each stage of a finished job.", labels=["stage"]
    )
    for stage, histogram in sorted(told.stages.items()):
        stages.add_metric([stage], histogram.cumulative(), histogram.sum_s)
    yield stages


def _standing(snapshot: Snapshot) -> Iterator[_Families]:
    depth = GaugeMetricFamily("tf_queue_depth", "Deliveries that wait.", labels=["queue"])
    for queue, count in sorted(snapshot.queue_depth.items()):
        depth.add_metric([queue], count)
    yield depth
    yield _gauge("tf_open_jobs", "Jobs that have not ended.", snapshot.open_jobs)
    yield _gauge(
        "tf_oldest_queued_seconds",
        "How long the oldest job that waits has waited.",
        snapshot.oldest_queued_s,
    )
    workers = GaugeMetricFamily("tf_live_workers", "Processes heard of lately.", labels=["kind"])
    for kind, count in sorted(snapshot.live_workers.items()):
        workers.add_metric([kind], count)
    yield workers
    speeds = GaugeMetricFamily(
        "tf_realtime_factor",
        "Seconds of rendering per second of video, moving average.",
        labels=["preset"],
    )
    for preset, factor in sorted(snapshot.speeds.items()):
        speeds.add_metric([preset], factor)
    yield speeds
    yield _gauge("tf_quarantined_jobs", "Jobs that are kept aside now.", snapshot.quarantined)
    yield _gauge("tf_webhooks_waiting", "Webhooks not delivered yet.", snapshot.webhooks_waiting)


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)
