"""All open connections of a server process: how many there may be, and how long each may wait.

No connection has a timer of its own. One pass a second looks at all of them, in small steps, so that
thousands that are due at the same time do not hold up the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from service.descriptors import connections_within, descriptor_limit
from service.settings import ServiceSettings
from worker.contract.logs import get_logger

# Pause between two passes, in seconds.
_PASS_EVERY_S: Final = 1.0
# One step of a pass looks at so many connections, or closes so many, then lets others work.
_MOST_LOOKED_AT: Final = 1000
_MOST_CLOSED: Final = 8
_STEP_PAUSE_S: Final = 0.01
_log = get_logger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may take, and how many there may be.

    Args:
        max_connections: Connections of this process.
        max_header_bytes: Request line and headers of a request.
        header_timeout_s: Seconds until the head of a request must be complete.
        keep_alive_s: Seconds that a connection may be idle between two requests.
        body_stall_s: Seconds without a byte of the body.
        body_timeout_s: Seconds until the body must be complete.
    """

    max_connections: int
    max_header_bytes: int
    header_timeout_s: float
    keep_alive_s: float
    body_stall_s: float
    body_timeout_s: float

    @classmethod
    def of(cls, settings: ServiceSettings) -> ConnectionLimits:
        """The limits that a deployment sets, within what this process may hold open."""
        return cls(
            max_connections=min(settings.max_connections, connections_within(descriptor_limit())),
            max_header_bytes=settings.max_header_bytes,
            header_timeout_s=settings.header_timeout_s,
            keep_alive_s=settings.keep_alive_s,
            body_stall_s=settings.body_stall_s,
            body_timeout_s=settings.body_timeout_s,
        )


class Connection(Protocol):
    """What the table asks of a connection."""

    def check(self, now: float) -> bool:
        """Close what is overdue at `now`, in seconds of the loop's clock; whether it was."""

    def evict(self) -> None:
        """Close at once, without an answer."""


class ConnectionTable:
    """Keeps the connections of a server process within their limits.

    Args:
        limits: The limits.
        on_shutdown: Called when the server begins to stop, before connections are closed.
    """

    def __init__(self, limits: ConnectionLimits, on_shutdown: Callable[[], None]) -> None:
        self.limits = limits
        self._on_shutdown = on_shutdown
        self._all: set[Connection] = set()
        # Those without a complete request, the longest waiting first.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._unchecked: list[Connection] = []
        self._is_sweeping = False
        self._closed: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> bool:
        """Take in a new connection, if need be in place of the one that waits longest.

        Returns:
            Whether there was a place. If not, the connection is watched all the same until it has
            been told so, and the next one may take its place.
        """
        has_place = len(self._all) < self.limits.max_connections or self._evict_longest_waiting()
        self._all.add(connection)
        self._waiting[connection] = None
        if not self._is_sweeping:
            self._is_sweeping = True
            asyncio.get_running_loop().call_later(_PASS_EVERY_S, self._begin_pass)
        return has_place

    def mark_busy(self, connection: Connection) -> None:
        """A request of the connection is complete up to its body."""
        self._waiting.pop(connection, None)

    def mark_waiting(self, connection: Connection) -> None:
        """The connection has no request under way any more."""
        if connection in self._all:
            self._waiting[connection] = None

    def remove(self, connection: Connection) -> None:
        """The connection is closed."""
        self._all.discard(connection)
        self._waiting.pop(connection, None)

    def count_closed(self, reason: str) -> None:
        """Note for the log that a connection was closed by the server."""
        self._closed[reason] += 1

    def begin_shutdown(self) -> None:
        """The server stops: let go whoever waits for something to happen."""
        self._on_shutdown()

    def _evict_longest_waiting(self) -> bool:
        if not self._waiting:
            return False
        connection, _ = self._waiting.popitem(last=False)
        self._all.discard(connection)
        self.count_closed("evicted")
        connection.evict()
        return True

    def _begin_pass(self) -> None:
        self._unchecked = list(self._all)
        self._take_step()

    def _take_step(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        num_looked_at = num_closed = 0
        while self._unchecked and num_looked_at < _MOST_LOOKED_AT and num_closed < _MOST_CLOSED:
            num_looked_at += 1
            connection = self._unchecked.pop()
            if connection not in self._all:
                continue  # closed since the pass began
            try:
                num_closed += connection.check(now)
            except Exception:  # noqa: BLE001 - one broken connection must not keep all others open
                _log.exception("connection_check_failed")
                self.remove(connection)
                connection.evict()
        if self._unchecked:
            loop.call_later(_STEP_PAUSE_S, self._take_step)
            return
        # One line for all: whoever opens thousands of connections must not fill the log.
        if self._closed:
            _log.info("connections_closed", open=len(self._all), **self._closed)
            self._closed.clear()
        if self._all:
            loop.call_later(_PASS_EVERY_S, self._begin_pass)
        else:
            self._is_sweeping = False
