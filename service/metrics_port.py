"""`/metrics` on a port of its own, for a scraper that has no key and a network that has no callers."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Protocol

from prometheus_client import Metric, start_http_server
from redis import RedisError

from service.metrics import Metrics, SnapshotCollector
from worker.contract.logs import get_logger
from worker.contract.start import StartError
from worker.contract.statistics import Snapshot, StatisticsReader

_log = get_logger(__name__)


class HasWaiting(Protocol):
    """Knows how many clients wait."""

    @property
    def num_waiting(self) -> int:
        """How many."""


class MetricsPort:
    """Serves the metrics of this process until it is closed.

    Args:
        host: Address to listen on.
        first_port: Port; each process that shares the host takes the next one that is free.
        num_ports: How many may be tried.
        metrics: What this process counts.
        statistics: What the ledger counted.
        watch: Who waits.

    Raises:
        StartError: No port can be had.
    """

    def __init__(
        self,
        host: str,
        first_port: int,
        num_ports: int,
        metrics: Metrics,
        statistics: StatisticsReader,
        watch: HasWaiting,
    ) -> None:
        registry = _Everything(metrics, statistics, watch)
        for port in range(first_port, first_port + num_ports):
            try:
                # The library asks a registry for `collect` alone.
                self._server, self._thread = start_http_server(port, host, registry)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and port + 1 < first_port + num_ports:
                    continue
                raise StartError(
                    f"cannot serve metrics on {host}:{port}: {error.strerror}. Choose another "
                    "TALKFACE_METRICS_PORT"
                ) from None
            self.port = port
            _log.info("metrics_port", host=host, port=port)
            return

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Everything:
    """What this process counted and what Redis knows, read anew at each scrape."""

    def __init__(self, metrics: Metrics, statistics: StatisticsReader, watch: HasWaiting) -> None:
        self._metrics = metrics
        self._statistics = statistics
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client`."""
        yield from self._metrics.collect(watchers=self._watch.num_waiting)
        yield from SnapshotCollector(read_snapshot(self._statistics)).collect()


def read_snapshot(statistics: StatisticsReader) -> Snapshot | None:
    """What the ledger counted, or None where Redis cannot be reached."""
    try:
        return statistics.snapshot()
    except RedisError as error:
        _log.warning("statistics_unavailable", kind=type(error).__name__)
        return None
