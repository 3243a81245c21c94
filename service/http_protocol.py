"""uvicorn's HTTP/1.1 connection, with bounds on what a client may send and how long it may take.

    waiting ──head complete──▶ busy ──answer complete──▶ waiting (keep-alive)
       │                        │
       ▼ too slow, too large    ▼ body too slow, answered before the body was read
       └──────────────▶ lingering ──▶ closed

A connection lingers after an early answer: our side is shut down and what still arrives is thrown
away for a moment. A connection that is closed with unread bytes is reset, and a reset may destroy
the answer before the client has read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.connections import ConnectionTable
from service.early_answers import AnswerTransport, closing_if_early
from service.raw_answers import raw_problem
from worker.contract.errors import ErrorCode, ParamValue

# How long and how many bytes are thrown away after an early answer. Most clients send their whole
# file before they read; a head has no reason to go on.
_LINGER_S: Final = 2.0
_LINGER_BODY_BYTES: Final = 64 * 2**20
_LINGER_HEAD_BYTES: Final = 2**20
# A client that reads nothing for so long, in seconds, does not get the end of an answer.
_UNREAD_S: Final = 60.0
# Requests that may be sent ahead on one connection; each costs memory before it is looked at.
_MAX_PIPELINED: Final = 32
# What keeping a header costs beside its bytes, as HTTP/2 counts it (RFC 9113, 6.5.2).
_BYTES_A_HEADER: Final = 32


class _RefusedError(Exception):
    """Raised inside the parser's callbacks to stop it."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection, within the limits of its process's table.

    Args:
        config: Has the table of connections as `connections`.
        server_state: uvicorn's.
        app_state: What the application made at its start.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._table = cast(ConnectionTable, config.connections)  # type: ignore[attr-defined]
        self._limits = self._table.limits
        # Reading: what the parser was given since it last completed a head or gave out body, and
        # what it has told of it.
        self._awaits_head = True
        self._head_began = False
        self._held_bytes = 0
        self._parsed_bytes = 0
        self._has_moved = False
        self._has_served = False
        self._is_too_large = False
        # Waiting, busy, lingering; times are seconds of the loop's clock.
        self._head_due_at = 0.0
        self._running: RequestResponseCycle | None = None
        self._body_began_at = 0.0
        self._body_moved_at = 0.0
        self._linger_until: float | None = None
        self._linger_bytes = 0
        self._unsent_bytes = -1
        self._unsent_since = 0.0

    # --- what the transport calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place in the table, or say that there is none."""
        super().connection_made(transport)
        self._head_due_at = self.loop.time() + self._limits.header_timeout_s
        if not self._table.add(self):
            self._table.count_closed("no_place")
            self._refuse(
                ErrorCode.QUEUE_FULL,
                "Too many requests are under way. Try again in a moment.",
                linger_bytes=_LINGER_HEAD_BYTES,
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up the place and tell the application."""
        self._table.remove(self)
        if self._running is not None:
            self._disconnect(self._running)
            self._running = None
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what a client sends, or throw it away after an early answer."""
        if self._linger_until is not None:
            self._discard(len(data))
            return
        if self._awaits_head:
            self._begin_head()
        self._has_moved = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # There is nothing to upgrade to, so the request was an ordinary one.
            pass
        except httptools.HttpParserError:
            if self._is_too_large:
                self._refuse_head_size()
            else:
                self._table.count_closed("malformed")
                self._refuse(
                    ErrorCode.MALFORMED_REQUEST,
                    "This is not an HTTP/1.1 request.",
                    linger_bytes=_LINGER_HEAD_BYTES,
                )
            return
        if not self._has_moved:
            self._held_bytes += len(data)
            if self._held_bytes > self._limits.max_header_bytes:
                self._refuse_head_size()

    # --- what the parser calls -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request line begins."""
        self._begin_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._count_parsed(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind a body in chunks."""
        self._count_parsed(len(name) + len(value) + _BYTES_A_HEADER)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request begins, or has to wait for the one before it."""
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise _RefusedError
        self._move()
        self._awaits_head = self._head_began = False
        super().on_headers_complete()
        self._table.mark_busy(self)

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._move()
        if self.cycle is self._running:
            self._body_moved_at = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request; the next byte begins another one."""
        self._move()
        self._awaits_head = True
        super().on_message_complete()

    # --- what requests and the server call -------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._has_served = True
        self._body_began_at = self._body_moved_at = self.loop.time()
        cycle.transport = AnswerTransport(self.transport, self.close_after_answer)
        super()._start_asgi_task(cycle, cast(Any, closing_if_early(cycle, app)))

    def on_response_complete(self) -> None:
        """Begin the next request that was sent ahead, or wait for one."""
        self._running = None
        super().on_response_complete()
        # The table's pass closes what is idle.
        self._unset_keepalive_if_required()
        if not self._is_busy() and not self.transport.is_closing():
            limits = self._limits
            wait_s = limits.header_timeout_s if self._head_began else limits.keep_alive_s
            self._head_due_at = self.loop.time() + wait_s
            self._table.mark_waiting(self)

    def close_after_answer(self) -> None:
        """Close; if the client is still sending, in such a way that it can read the answer."""
        cycle = self._running
        if cycle is not None and cycle.response_complete and cycle.more_body:
            self._linger(_LINGER_BODY_BYTES)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Close, or finish the request that is under way first."""
        self._table.begin_shutdown()
        if self._running is None:
            self.transport.close()
        else:
            super().shutdown()

    # --- what the table calls --------------------------------------------------------------------

    def check(self, now: float) -> bool:
        """Close what is overdue.

        Args:
            now: Seconds of the loop's clock.

        Returns:
            Whether something was done.
        """
        if self.transport.is_closing():
            return self._check_unsent(now)
        if self._linger_until is not None:
            if now >= self._linger_until:
                self.transport.close()
            return False
        if self._running is None:
            return self._check_head(now)
        return self._check_body(now, self._running)

    def evict(self) -> None:
        """Close at once: another connection needs the place."""
        self.transport.abort()

    # --- how it is done --------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return self._running is not None

    def _begin_head(self) -> None:
        if self._head_began:
            return
        self._head_began = True
        # The first head has to come soon after the connection was opened.
        if self._has_served and self._running is None:
            self._head_due_at = self.loop.time() + self._limits.header_timeout_s

    def _move(self) -> None:
        """The parser holds nothing back but what came after this moment."""
        self._has_moved = True
        self._held_bytes = self._parsed_bytes = 0

    def _count_parsed(self, num_bytes: int) -> None:
        self._parsed_bytes += num_bytes
        if self._parsed_bytes > self._limits.max_header_bytes:
            self._is_too_large = True
            raise _RefusedError

    def _check_head(self, now: float) -> bool:
        if now < self._head_due_at:
            return False
        if not self._head_began:
            if not self._has_served:
                self._table.count_closed("silent")
            self.transport.close()
            return True
        self._table.count_closed("slow_header")
        self._refuse(
            ErrorCode.REQUEST_TIMEOUT,
            "The headers of the request did not arrive in time. Send it again.",
            params={"limit_s": self._limits.header_timeout_s},
            linger_bytes=_LINGER_HEAD_BYTES,
        )
        return True

    def _check_body(self, now: float, cycle: RequestResponseCycle) -> bool:
        # Where the next request has begun already, this one's body is complete.
        if not cycle.more_body or cycle is not self.cycle:
            return False
        if self.flow.read_paused or cycle.waiting_for_100_continue:
            # It is the application that lets the client wait.
            self._body_moved_at = now
        limit_s = self._limits.body_stall_s
        is_overdue = now - self._body_moved_at >= limit_s
        if not is_overdue:
            limit_s = self._limits.body_timeout_s
            is_overdue = now - self._body_began_at >= limit_s
        if not is_overdue:
            return False
        self._table.count_closed("slow_body")
        self._refuse(
            ErrorCode.REQUEST_TIMEOUT,
            "The body of the request did not arrive in time. Send it again.",
            params={"limit_s": limit_s},
            linger_bytes=_LINGER_BODY_BYTES,
        )
        return True

    def _check_unsent(self, now: float) -> bool:
        """A connection that is being closed waits until the client has read all of the answer."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self._unsent_since = unsent_bytes, now
        elif now - self._unsent_since >= _UNREAD_S:
            self._table.count_closed("unread_answer")
            self.transport.abort()
            return True
        return False

    def _refuse_head_size(self) -> None:
        self._table.count_closed("header_too_large")
        limit_bytes = self._limits.max_header_bytes
        self._refuse(
            ErrorCode.HEADER_TOO_LARGE,
            f"The request line and headers have more than {limit_bytes} bytes. Send fewer.",
            params={"limit_bytes": limit_bytes},
            linger_bytes=_LINGER_HEAD_BYTES,
        )

    def _refuse(
        self,
        code: ErrorCode,
        detail: str,
        *,
        params: Mapping[str, ParamValue] | None = None,
        linger_bytes: int,
    ) -> None:
        """Answer in place of the application, which sees a client that has gone; then close."""
        cycle, self._running = self._running, None
        if cycle is not None:
            self._disconnect(cycle)
            # Half an answer, or one that others wait behind, cannot be replaced by another.
            if cycle is not self.cycle or cycle.response_started:
                self.transport.close()
                return
        answer = raw_problem(code, detail, params=params, headers=self.server_state.default_headers)
        self.transport.write(answer)
        self._linger(linger_bytes)

    def _disconnect(self, cycle: RequestResponseCycle) -> None:
        """Tell the application that nobody waits for its answer."""
        cycle.disconnected = True
        cycle.message_event.set()
        # It may be waiting for the client to read.
        self.flow.resume_writing()

    def _linger(self, num_bytes: int) -> None:
        self.pipeline.clear()
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._linger_until = self.loop.time() + _LINGER_S
        self._linger_bytes = num_bytes
        self.transport.write_eof()
        self.flow.resume_reading()
        # There is nothing more to do for this client; others may need the place.
        self._table.mark_waiting(self)

    def _discard(self, num_bytes: int) -> None:
        self._linger_bytes -= num_bytes
        if self._linger_bytes < 0:
            self.transport.close()
