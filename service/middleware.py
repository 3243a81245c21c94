"""What happens around every request: id, log line, last resort."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import problem_response
from worker.contract.errors import ErrorCode
from worker.contract.logs import bound, get_logger

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TOO_MANY: Final = "Too many uploads are on their way. Try again in a moment."
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_log = get_logger(__name__)


class BrokenOffError(Exception):
    """An answer that cannot be completed; to its client the connection breaks."""


class RequestMiddleware:
    """Gives each request an id, logs it, and answers what nothing else caught.

    `X-Request-ID` is taken from the client if it is short and plain, else made; it is in the
    response, in every log line, and stays with the job.

    Args:
        app: What comes next.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with bound(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                # Nobody is there to be answered; the status stays 0.
                _log.info("client_left")
            except BrokenOffError:
                # The server closes the connection of an answer that was not completed.
                _log.info("answer_broken_off")
            except Exception:
                _log.exception("unhandled_error")
                if status:
                    # Half a response is out; only a broken connection can tell the client.
                    raise
                response = problem_response(
                    ErrorCode.INTERNAL_ERROR,
                    "Something went wrong here. Tell the operator this request id.",
                )
                await response(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - began
                # The route's template, never the path: an id in a label would make a series each.
                route = getattr(scope.get("route"), "path", "")
                self._metrics.request(scope["method"], route, status, seconds)
                # Probes come every few seconds and say nothing while all is well.
                is_probe = route in _PROBES and status == 200
                _log.log(
                    logging.DEBUG if is_probe else logging.INFO,
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=int(status),
                    seconds=round(seconds, 3),
                    client=scope["client"][0] if scope.get("client") else None,
                    key=scope["state"].get("key"),
                )
