"""The road that every upload takes, whatever becomes of it: a job, an avatar, a file.

    key, scope, rate              the route's own, before this
    length, idempotency, places   before a byte of the body is read
    the form                      while it arrives (`service.upload`)
    the rest                      in a thread, as long as the client waits for it

Whatever goes wrong, the place and the idempotency key are given back. A client that leaves before
its files are stored costs no more work.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar
from uuid import uuid4

from anyio import CancelScope, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from service.dependencies import Resources
from service.problems import ProblemError
from service.quotas import Place
from service.retention import retention_of
from service.security import Principal
from service.upload import pieces
from worker.contract.artifacts import StorageFullError
from worker.contract.errors import ErrorCode
from worker.contract.idempotency import (
    IdempotencyKey,
    IdempotencyRecord,
    IdempotencyTakenError,
)
from worker.contract.logs import bound

_RENEW_EVERY_S: Final = 8.0
Form = TypeVar("Form")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Accepted(Generic[Made]):
    """What was made, and whether an earlier request made it."""

    record: Made
    is_replayed: bool


class UploadRequest(Generic[Form, Made]):
    """One request on its way to become something that is stored.

    Args:
        request: The request; its body has not been read.
        principal: Who asks.
        request_id: Of this request.
        idempotency_key: The header's value.
        resources: The process's.
    """

    scope = ""
    """What an idempotency key is told apart by from the same words at another address."""

    def __init__(
        self,
        request: Request,
        principal: Principal,
        request_id: str,
        idempotency_key: str | None,
        resources: Resources,
    ) -> None:
        self._request = request
        self._principal = principal
        self._request_id = request_id
        self._resources = resources
        self._id = uuid4().hex
        self._key: IdempotencyKey | None = None
        if idempotency_key is not None:
            self._key = IdempotencyKey(principal=principal.id, key=self._scoped(idempotency_key))
        self._earlier: IdempotencyRecord | None = None
        self._folder = Path()
        self._place: Place | None = None
        self._renewed_at = time.monotonic()
        self._client_left = threading.Event()
        self._is_in_thread = False

    def _scoped(self, key: str) -> str:
        if not self.scope:
            return key
        return f"{self.scope}:{hashlib.sha256(key.encode()).hexdigest()}"

    # --- what differs -----------------------------------------------------------------------------------------------

    async def _receive_form(self, stream: AsyncIterator[bytes]) -> Form:
        """Read the body."""
        raise NotImplementedError

    def _fingerprint(self, received: Form) -> str:
        """What makes two requests the same."""
        raise NotImplementedError

    def _accept(self, received: Form) -> Made:
        """Decode, store and write down; in a thread."""
        raise NotImplementedError

    def _find(self, made_id: str) -> Made | None:
        """What an earlier request made."""
        raise NotImplementedError

    async def _complete(self, received: Form) -> None:
        """What is still to be fetched for a new request, before the thread."""

    # --- the whole way ----------------------------------------------------------------------------------------------

    async def run(self) -> Accepted[Made]:
        """Take the whole way.

        Raises:
            ProblemError, IntakeError, RequestValidationError, HTTPException: The request is refused.
            RedisError: Redis cannot be reached; it may have been accepted all the same.
            ClientDisconnect: The client left.
        """
        held = ExitStack()
        try:
            await run_in_threadpool(self._before_body, held)
            received = await self._receive()
            if self._earlier is None:
                await self._complete(received)
            accepted = await self._while_client_waits(received)
        except BaseException as error:
            # Also when the server stops: what is held must not stay held.
            with CancelScope(shield=True):
                await run_in_threadpool(held.__exit__, type(error), error, error.__traceback__)
            raise
        await run_in_threadpool(held.close)
        return accepted

    # --- before the body ----------------------------------------------------------------------------

    def _before_body(self, held: ExitStack) -> None:
        resources = self._resources
        declared = self._declared_bytes()
        # The ledger first: without it no job can be accepted.
        num_open = resources.ledger.count_all_open()
        if self._key is not None:
            self._earlier = resources.ledger.idempotency_reserve(self._key)
            if self._earlier is None:
                held.callback(resources.ledger.idempotency_release, self._key)
            elif self._earlier.job_id is None:
                raise _in_progress()
        if self._earlier is None:
            # Who asks again for a job that exists needs no place for another one.
            self._check_room(num_open)
            self._place = held.enter_context(
                resources.quotas.place(self._principal, self._id, upload_bytes=declared)
            )
        self._check_disk(declared)
        self._folder = held.enter_context(resources.artifacts.scratch())

    def _declared_bytes(self) -> int:
        """`Content-Length`, 0 where there is none."""
        length = self._request.headers.get("content-length", "")
        declared = int(length) if length.isdecimal() else 0
        limit_bytes = self._resources.settings.max_body_bytes
        if declared > limit_bytes:
            raise ProblemError(
                ErrorCode.FILE_TOO_LARGE,
                f"The request has {declared} bytes; the limit is {limit_bytes}. Send smaller files.",
                params={"bytes": declared, "limit_bytes": limit_bytes},
            )
        self._resources.receiving.check_room(declared)
        return declared

    def _check_room(self, num_open: int) -> None:
        most = self._resources.settings.max_open_jobs
        if num_open >= most:
            raise ProblemError(
                ErrorCode.QUEUE_FULL,
                f"{num_open} jobs are waiting; at most {most} may. Try again later.",
                params={"open_jobs": num_open, "max_open_jobs": most},
                headers={"Retry-After": "30"},
            )
        waiting = self._resources.accept_limiter.statistics().tasks_waiting
        if waiting >= self._resources.settings.max_waiting_uploads > 0:
            raise ProblemError(
                ErrorCode.QUEUE_FULL,
                "Too many uploads wait to be decoded. Try again in a moment.",
                headers={"Retry-After": "5"},
            )

    def _check_disk(self, declared: int) -> None:
        settings = self._resources.settings
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(settings.data_dir).free - declared < settings.min_free_bytes:
            raise StorageFullError(f"no room for {declared} bytes")

    # --- the body -----------------------------------------------------------------------------------

    async def _receive(self) -> Form:
        with self._resources.receiving.body() as count:
            body: AsyncIterator[bytes] = self._request.stream()
            return await self._receive_form(pieces(body, count, self._keep_key))

    def _retention_s(self, asked_s: int | None) -> float | None:
        """How long what is made is kept, in seconds; None for ever."""
        return retention_of(self._principal, asked_s, self._resources.settings)

    async def _keep_key(self) -> None:
        """A slow upload must not lose its idempotency key on the way."""
        if self._key is None or time.monotonic() - self._renewed_at < _RENEW_EVERY_S:
            return
        self._renewed_at = time.monotonic()
        await run_in_threadpool(self._resources.ledger.idempotency_renew, self._key)

    # --- after the body -----------------------------------------------------------------------------

    async def _while_client_waits(self, received: Form) -> Accepted[Made]:
        """Do the rest in a thread; stop where nobody waits for it any more."""
        limiter = self._resources.accept_limiter
        work = asyncio.ensure_future(to_thread.run_sync(self._finish, received, limiter=limiter))
        left = asyncio.ensure_future(self._until_client_leaves())
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            if not work.done():
                # The client left, or the server stops.
                self._client_left.set()
                if not self._is_in_thread:
                    work.cancel()
                # A thread sees the event, and has to be waited for: it works in our folder.
                await asyncio.wait({work})
        if work.cancelled():
            raise ClientDisconnect
        return work.result()

    async def _until_client_leaves(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _finish(self, received: Form) -> Accepted[Made]:
        self._is_in_thread = True
        self._check_client()
        if self._key is not None:
            self._key = self._key.model_copy(update={"fingerprint": self._fingerprint(received)})
        if self._earlier is not None:
            return self._replay(self._earlier)
        with bound(job_id=self._id):
            try:
                return Accepted(self._accept(received), is_replayed=False)
            except IdempotencyTakenError as error:
                # Our reservation ran out, and another request with this key was faster.
                return self._replay(error.record)

    def _check_client(self) -> None:
        if self._client_left.is_set():
            raise ClientDisconnect

    def _replay(self, found: IdempotencyRecord) -> Accepted[Made]:
        """Answer with what the key leads to."""
        assert self._key is not None
        # A request in flight may not have a fingerprint yet.
        if found.job_id is not None and found.fingerprint != self._key.fingerprint:
            raise ProblemError(
                ErrorCode.IDEMPOTENCY_CONFLICT,
                "This Idempotency-Key was used with other files or options. Use a new key for a "
                "new request.",
            )
        job_id = found.job_id
        record = self._find(job_id) if job_id is not None else None
        if record is None:
            # In flight; or the job was deleted at this moment, and its key with it.
            raise _in_progress()
        return Accepted(record, is_replayed=True)


def _in_progress() -> ProblemError:
    return ProblemError(
        ErrorCode.IDEMPOTENCY_IN_PROGRESS,
        "A request with this Idempotency-Key is being worked on. Send it again in a moment.",
        headers={"Retry-After": "1"},
    )
