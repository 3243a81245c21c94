"""HEAD wherever GET is: the same answer without its body (RFC 9110 section 9.3.2)."""

from __future__ import annotations

from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MARK: Final = "talkface.is_head"


class _HungUpError(OSError):
    """Nobody reads the body of an answer to HEAD."""


class HeadMiddleware:
    """Asks the application as if it were a GET, and hangs up on it when the headers are there.

    `Range` is for GET alone (section 14.2), so a HEAD tells of the whole.

    Args:
        app: What comes next.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        as_get = {**scope, "method": "GET", "headers": headers, _MARK: True}
        is_answered = False

        async def send_headers(message: Message) -> None:
            nonlocal is_answered
            if message["type"] != "http.response.body":
                await send(message)
            elif not is_answered:
                is_answered = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                if message.get("more_body"):
                    # A stream would go on and on: to it the client has gone.
                    raise _HungUpError

        try:
            await self._app(as_get, receive, send_headers)
        except (ClientDisconnect, _HungUpError):
            if not is_answered:
                raise
        finally:
            # For the log and the metrics around this.
            scope["route"] = as_get.get("route")


def is_head(request: Request) -> bool:
    """Whether a client asked for the headers alone."""
    return bool(request.scope.get(_MARK, False))
