"""What a request sees of its connection when it is answered before its body was read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

App = Callable[[Any, Any, Any], Awaitable[None]]


class AnswerTransport(asyncio.Transport):
    """A transport whose owner decides how it is closed.

    Args:
        transport: Where answers are written.
        on_close: Called in place of closing it.
    """

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._on_close = on_close

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send a piece of the answer."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._transport.is_closing()

    def close(self) -> None:
        """The answer is complete, or cannot be completed."""
        self._on_close()


def closing_if_early(cycle: RequestResponseCycle, app: App) -> App:
    """The application; an answer that it gives before the body was read ends the connection.

    Nobody knows how long the rest of the body is, or how slow.

    Args:
        cycle: The request.
        app: What answers it.
    """

    async def run(scope: Any, receive: Any, send: Any) -> None:
        async def send_last(message: Any) -> None:
            if message["type"] == "http.response.start" and cycle.more_body:
                # Makes uvicorn say `Connection: close`.
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_last)

    return run
