"""What happens around every request: id, log line, last resort, size of the body."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
import uuid
from http import HTTPStatus
from typing import Final

from redis import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import ProblemError, problem_response
from service.security import Guard
from worker.contract.errors import ErrorCode
from worker.contract.logs import bound, get_logger

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TOO_MANY: Final = "Too many uploads are on their way. Try again in a moment."
_log = get_logger(__name__)


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
                _log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(seconds, 3),
                )


class BodyLimitMiddleware:
    """Stops reading request bodies at limits, declared or not, before they fill the disk.

    FastAPI's own `max_body_size` answers a declared excess in plain text, whatever handlers say,
    and a disk that is full while a form is read would pass for a broken form.

    Args:
        app: What comes next.
        max_body_bytes: The limit for one body.
        max_receiving_bytes: The limit for all bodies of unfinished requests together.
        min_free_bytes: What must stay free where bodies are kept while they are read.
    """

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, max_receiving_bytes: int, min_free_bytes: int
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_receiving_bytes = max_receiving_bytes
        self._min_free_bytes = min_free_bytes
        self._receiving_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        declared = int(length) if length.isdecimal() else 0
        if (refusal := await self._refusal(scope["method"], declared)) is not None:
            await refusal(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            num_bytes = len(message.get("body", b""))
            received += num_bytes
            self._receiving_bytes += num_bytes
            if received > self._max_body_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._detail)
            if self._receiving_bytes > self._max_receiving_bytes:
                raise HTTPException(
                    HTTPStatus.SERVICE_UNAVAILABLE, _TOO_MANY, headers={"Retry-After": "5"}
                )
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._receiving_bytes -= received

    async def _refusal(self, method: str, declared: int) -> Response | None:
        """What can be said before a byte of the body is read."""
        if declared > self._max_body_bytes:
            return problem_response(
                ErrorCode.FILE_TOO_LARGE,
                self._detail,
                params={"bytes": declared, "limit_bytes": self._max_body_bytes},
                headers={"Connection": "close"},
            )
        if self._receiving_bytes + declared > self._max_receiving_bytes:
            return problem_response(
                ErrorCode.QUEUE_FULL,
                _TOO_MANY,
                headers={"Connection": "close", "Retry-After": "5"},
            )
        if method == "POST" and declared != 0:
            usage = await run_in_threadpool(shutil.disk_usage, tempfile.gettempdir())
            if usage.free - declared < self._min_free_bytes:
                _log.error("storage_full")
                return problem_response(
                    ErrorCode.INSUFFICIENT_STORAGE,
                    "The server's storage is full; try again later.",
                    headers={"Connection": "close"},
                )
        return None

    @property
    def _detail(self) -> str:
        return f"The request is larger than the limit of {self._max_body_bytes} bytes."


class KeyBeforeBodyMiddleware:
    """Asks the guard before a request's body is read.

    The framework reads the whole form before it asks who sent it; strangers could fill the disk.

    Args:
        app: What comes next.
        guard: Says who may send.
    """

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            try:
                await self._guard.check_before_body(Request(scope))
            except ProblemError as error:
                response = problem_response(
                    error.code,
                    error.detail,
                    params=error.params,
                    headers={**error.headers, "Connection": "close"},
                )
                await response(scope, receive, send)
                return
            except RedisError as error:
                _log.warning("store_unavailable", kind=type(error).__name__)
                response = problem_response(
                    ErrorCode.STORE_UNAVAILABLE,
                    "The job store cannot be reached; try again shortly.",
                    headers={"Connection": "close"},
                )
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
