"""Everything between a request to make a video and its 202.

    key, scope, rate              the route's own, before this
    length, idempotency, places   before a byte of the body is read
    the form                      while it arrives (`service.upload`)
    a text                        read by the voice server (`service.speech`)
    fingerprint, decoding         with what arrived; videos are only looked at
    files, then the ledger        all of it stored, or none

Whatever goes wrong, the place and the idempotency key are given back. A client that leaves before
its files are stored costs no more work.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from anyio import CancelScope, to_thread
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from service.dependencies import Resources
from service.fingerprint import fingerprint
from service.problems import ProblemError
from service.provenance.policy import check_consent, check_label
from service.quotas import Place
from service.retention import retention_of
from service.schemas.form import TalkingFaceOptions
from service.security import Principal
from service.speech import check_speech, speak
from service.upload import Received, pieces, receive_form
from service.webhook_targets import check_target
from worker.contract.artifacts import StorageFullError
from worker.contract.errors import ErrorCode
from worker.contract.idempotency import (
    IdempotencyKey,
    IdempotencyRecord,
    IdempotencyTakenError,
)
from worker.contract.intake.entry import take_in_later
from worker.contract.intake.file_names import stored_files
from worker.contract.ledger_records import to_json
from worker.contract.logs import bound, get_logger
from worker.contract.messages import JobInput, JobRecord, JobState, needed_schema

_RENEW_EVERY_S: Final = 8.0
_log = get_logger(__name__)


@dataclass(frozen=True)
class Accepted:
    """A job, and whether an earlier request made it."""

    record: JobRecord
    is_replayed: bool


class Acceptance:
    """One request on its way to become a job.

    Args:
        request: The request; its body has not been read.
        principal: Who asks.
        request_id: Of this request.
        idempotency_key: The header's value.
        resources: The process's.
    """

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
        self._job_id = uuid4().hex
        self._key: IdempotencyKey | None = None
        if idempotency_key is not None:
            self._key = IdempotencyKey(principal=principal.id, key=idempotency_key)
        self._earlier: IdempotencyRecord | None = None
        self._folder = Path()
        self._place: Place | None = None
        self._renewed_at = time.monotonic()
        self._client_left = threading.Event()
        self._is_in_thread = False

    async def run(self) -> Accepted:
        """The whole way.

        Raises:
            ProblemError, IntakeError, RequestValidationError, HTTPException: The request is refused.
            RedisError: Redis cannot be reached; the job may have been accepted all the same.
            ClientDisconnect: The client left.
        """
        held = ExitStack()
        try:
            await run_in_threadpool(self._before_body, held)
            received = await self._receive()
            if received.options.text is not None and self._earlier is None:
                sound = await speak(received.options, self._resources.settings, self._folder)
                received.files["audio"] = [sound]
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
                resources.quotas.place(self._principal, self._job_id, upload_bytes=declared)
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

    async def _receive(self) -> Received:
        with self._resources.receiving.body() as count:
            body: AsyncIterator[bytes] = self._request.stream()
            return await receive_form(
                self._request.headers,
                pieces(body, count, self._keep_key),
                self._folder,
                self._resources.settings.intake_limits,
                self._check_options,
            )

    def _check_options(self, options: TalkingFaceOptions) -> None:
        """Refuse what this deployment, or this caller's key, does not allow."""
        self._retention_s(options)
        check_speech(options, self._resources.settings)
        check_label(options, self._resources.settings)
        if options.callback_url is not None:
            try:
                check_target(options.callback_url, self._resources.webhook_targets)
            except ValueError as error:
                problem = {"loc": ("body", "callback_url"), "msg": str(error)}
                raise RequestValidationError([problem]) from None

    def _retention_s(self, options: TalkingFaceOptions) -> float | None:
        """How long the result is kept, in seconds; None for ever."""
        settings = self._resources.settings
        return retention_of(self._principal, options.retention_s, settings)

    async def _keep_key(self) -> None:
        """A slow upload must not lose its idempotency key on the way."""
        if self._key is None or time.monotonic() - self._renewed_at < _RENEW_EVERY_S:
            return
        self._renewed_at = time.monotonic()
        await run_in_threadpool(self._resources.ledger.idempotency_renew, self._key)

    # --- after the body -----------------------------------------------------------------------------

    async def _while_client_waits(self, received: Received) -> Accepted:
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

    def _finish(self, received: Received) -> Accepted:
        self._is_in_thread = True
        self._check_client()
        if self._key is not None:
            self._key = self._key.model_copy(update={"fingerprint": fingerprint(received)})
        if self._earlier is not None:
            return self._replay(self._earlier)
        with bound(job_id=self._job_id):
            try:
                return Accepted(self._accept(received), is_replayed=False)
            except IdempotencyTakenError as error:
                # Our reservation ran out, and another request with this key was faster.
                return self._replay(error.record)

    def _accept(self, received: Received) -> JobRecord:
        """Decode, store, and write the job into the ledger."""
        resources = self._resources
        began = time.perf_counter()
        # Only now is the form complete, and before a file is decoded.
        check_consent(received.options, resources.settings)
        for digest in received.digests():
            resources.refused.check(digest)
        job_input = take_in_later(
            received.uploads(),
            self._folder,
            received.options.sampling(),
            resources.settings.intake_limits,
            self._check_client,
        ).model_copy(update={"consent": received.options.consent})
        self._check_client()
        decoded = time.perf_counter()
        assert self._place is not None, "only a replay has no place"
        self._place.charge(job_input.audio.seconds)
        record = self._store(received, job_input)
        decode_s, store_s = decoded - began, time.perf_counter() - decoded
        resources.metrics.accepted("decode", decode_s)
        resources.metrics.accepted("store", store_s)
        _log.info(
            "job_accepted",
            audio_s=job_input.audio.seconds,
            decode_s=round(decode_s, 3),
            store_s=round(store_s, 3),
        )
        return record

    def _check_client(self) -> None:
        if self._client_left.is_set():
            raise ClientDisconnect

    def _store(self, received: Received, job_input: JobInput) -> JobRecord:
        resources = self._resources
        record = JobRecord(
            id=self._job_id,
            state=JobState.QUEUED,
            principal=self._principal.id,
            created_at=datetime.now(UTC),
            retention_s=self._retention_s(received.options),
            callback_url=received.options.callback_url,
            metadata=received.options.metadata,
            request_id=self._request_id,
            schema_version=needed_schema(job_input),
            input=job_input,
        )
        (self._folder / "job.json").write_text(to_json(record))
        prefix, names = f"inputs/{self._job_id}", [*stored_files(job_input), "job.json"]
        stored_bytes = sum((self._folder / name).stat().st_size for name in names)
        try:
            for name in names:
                resources.artifacts.put(f"{prefix}/{name}", self._folder / name)
        except StorageFullError:
            resources.artifacts.delete_prefix(prefix)
            raise
        # Before the ledger: a job without a line would be worse than a line without a job.
        resources.audit.write(
            "made", self._job_id, by=self._principal.id, request_id=self._request_id
        )
        # If this raises `RedisError`, the job may have been accepted all the same, so its files
        # stay; the sweep finds them if it was not.
        return resources.ledger.accept(
            record,
            idempotency=self._key,
            share=self._principal.quota_id,
            stored_bytes=stored_bytes,
        )

    def _replay(self, found: IdempotencyRecord) -> Accepted:
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
        record = self._resources.ledger.get(job_id) if job_id is not None else None
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
