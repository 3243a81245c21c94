"""From a request to make a video to its 202; the road of every upload is `service.upload_request`'s.

a text                        read by the voice server (`service.speech`)
avatar and file               of those that are kept here, linked into the folder (`service.kept_files`)
decoding                      with what arrived; videos are only looked at
files, then the ledger        all of it stored, or none
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from fastapi.exceptions import RequestValidationError

from service.fingerprint import fingerprint
from service.job_form import Received, receive_form
from service.kept_files import use_kept
from service.provenance.policy import check_consent, check_label
from service.schemas.form import TalkingFaceOptions
from service.speech import check_speech, speak
from service.upload_request import UploadRequest
from service.webhook_targets import check_target
from worker.contract.artifacts import StorageFullError
from worker.contract.intake.entry import take_in_later
from worker.contract.intake.file_names import stored_files
from worker.contract.ledger_records import to_json
from worker.contract.logs import get_logger
from worker.contract.messages import JobInput, JobRecord, JobState, needed_schema

_log = get_logger(__name__)


class Acceptance(UploadRequest[Received, JobRecord]):
    """One request on its way to become a job."""

    async def _receive_form(self, stream: AsyncIterator[bytes]) -> Received:
        limits = self._resources.settings.intake_limits
        headers = self._request.headers
        return await receive_form(headers, stream, self._folder, limits, self._check_options)

    async def _complete(self, received: Received) -> None:
        if received.options.text is not None:
            sound = await speak(received.options, self._resources.settings, self._folder)
            received.files["audio"] = [sound]

    def _fingerprint(self, received: Received) -> str:
        return fingerprint(received)

    def _find(self, made_id: str) -> JobRecord | None:
        return self._resources.ledger.get(made_id)

    def _check_options(self, options: TalkingFaceOptions) -> None:
        """Refuse what this deployment, or this caller's key, does not allow."""
        self._retention_s(options.retention_s)
        check_speech(options, self._resources.settings)
        check_label(options, self._resources.settings)
        if options.callback_url is not None:
            try:
                check_target(options.callback_url, self._resources.webhook_targets)
            except ValueError as error:
                problem = {"loc": ("body", "callback_url"), "msg": str(error)}
                raise RequestValidationError([problem]) from None

    def _accept(self, received: Received) -> JobRecord:
        """Decode, store, and write the job into the ledger."""
        resources = self._resources
        began = time.perf_counter()
        # Only now is the form complete, and before a file is decoded.
        check_consent(received.options.consent, resources.settings)
        kept = use_kept(received, self._principal, resources, self._folder)
        for digest in received.digests():
            resources.refused.check(digest)
        job_input = take_in_later(
            received.uploads(),
            self._folder,
            received.options.sampling(),
            resources.settings.intake_limits,
            self._check_client,
        ).model_copy(update={"consent": received.options.consent, **kept})
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

    def _store(self, received: Received, job_input: JobInput) -> JobRecord:
        resources = self._resources
        record = JobRecord(
            id=self._id,
            state=JobState.QUEUED,
            principal=self._principal.id,
            created_at=datetime.now(UTC),
            retention_s=self._retention_s(received.options.retention_s),
            callback_url=received.options.callback_url,
            metadata=received.options.metadata,
            request_id=self._request_id,
            schema_version=needed_schema(job_input),
            input=job_input,
        )
        (self._folder / "job.json").write_text(to_json(record))
        prefix, names = f"inputs/{self._id}", [*stored_files(job_input), "job.json"]
        stored_bytes = sum((self._folder / name).stat().st_size for name in names)
        try:
            for name in names:
                resources.artifacts.put(f"{prefix}/{name}", self._folder / name)
        except StorageFullError:
            resources.artifacts.delete_prefix(prefix)
            raise
        # Before the ledger: a job without a line would be worse than a line without a job.
        resources.audit.write("made", self._id, by=self._principal.id, request_id=self._request_id)
        # If this raises `RedisError`, the job may have been accepted all the same, so its files
        # stay; the sweep finds them if it was not.
        return resources.ledger.accept(
            record,
            idempotency=self._key,
            share=self._principal.quota_id,
            stored_bytes=stored_bytes,
        )
