"""`POST /v1/talking-face`: a portrait or a video, and a voice, become a job."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from anyio import to_thread
from fastapi import APIRouter, Form, Header, Request, Response, UploadFile

from service.dependencies import (
    JobViewsDep,
    RequestIdDep,
    Resources,
    ResourcesDep,
    WriterDep,
)
from service.fingerprint import fingerprint
from service.job_views import JobViews
from service.problems import RETRY_AFTER, ProblemError, problem_responses
from service.schemas.examples import QUEUED_JOB
from service.schemas.form import TalkingFaceForm
from service.schemas.job import JobPublic
from service.security import Principal
from worker.contract.artifacts import ArtifactStore, StorageFullError
from worker.contract.errors import ErrorCode
from worker.contract.idempotency import (
    IdempotencyKey,
    IdempotencyRecord,
    IdempotencyTakenError,
)
from worker.contract.inputs import (
    Uploads,
    WrongCombinationError,
    check_combination,
    input_files,
    take_in,
)
from worker.contract.intake import IntakeLimits
from worker.contract.ledger_records import to_json
from worker.contract.logs import bound, get_logger
from worker.contract.messages import SCHEMA, JobRecord, JobState

router = APIRouter(tags=["jobs"])
_log = get_logger(__name__)


@dataclass(frozen=True)
class _Request:
    """What a caller asks for.

    Args:
        form: Files and options.
        principal: Who asks.
        request_id: Of this request.
        idempotency_key: The header's value.
    """

    form: TalkingFaceForm
    principal: Principal
    request_id: str
    idempotency_key: str | None


@dataclass(frozen=True)
class _Answer:
    """A job, and whether an earlier request made it."""

    job: JobPublic
    is_replayed: bool


@router.post(
    "/v1/talking-face",
    status_code=202,
    summary="Animate a portrait, or dub a video, with a voice",
    responses={
        202: {
            "description": "The job and its files are stored; it will end in one final state",
            "content": {"application/json": {"example": QUEUED_JOB}},
            "headers": {
                "Location": {"description": "The job.", "schema": {"type": "string"}},
                "Retry-After": RETRY_AFTER,
                "Idempotency-Replayed": {
                    "description": "`true` where an earlier request with this key made the job.",
                    "schema": {"type": "string"},
                },
            },
        },
        **problem_responses(
            "malformed_request",
            "file_too_large",
            "unsupported_media_type",
            "undecodable_media",
            "audio_too_short",
            "audio_too_long",
            "video_too_short",
            "video_too_long",
            "face_too_small",
            "idempotency_conflict",
            "idempotency_in_progress",
            "concurrency_limited",
            "queue_full",
            "insufficient_storage",
        ),
    },
)
async def create_talking_face(
    form: Annotated[TalkingFaceForm, Form(media_type="multipart/form-data")],
    request: Request,
    response: Response,
    resources: ResourcesDep,
    principal: WriterDep,
    views: JobViewsDep,
    request_id: RequestIdDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A word of your own for this request. Sent again within 24 h with the same "
            "files and options, the same job is the answer.",
        ),
    ] = None,
) -> JobPublic:
    """Check the files, keep them, and put a job into the queue.

    Send `audio` with `image` (and perhaps `driving_video`), or with `video`. Everything that can be
    wrong with the files themselves is told here; the face is looked for afterwards. A 202 answer
    means that the job and its files are stored.
    """
    await _check_sent_once(request)
    check_combination(
        num_images=len(form.image),
        has_video=form.video is not None,
        has_driving_video=form.driving_video is not None,
    )
    limiter = resources.accept_limiter
    if limiter.statistics().tasks_waiting >= resources.settings.max_waiting_uploads > 0:
        raise ProblemError(
            ErrorCode.QUEUE_FULL,
            "Too many uploads wait to be decoded. Try again in a moment.",
            headers={"Retry-After": "5"},
        )
    asked = _Request(form, principal, request_id, idempotency_key)
    answer = await to_thread.run_sync(_answer, asked, resources, views, limiter=limiter)
    job = answer.job
    response.headers["Location"] = job.links.self
    response.headers["Retry-After"] = "1"
    response.headers["Cache-Control"] = "no-store"
    if answer.is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return job


async def _check_sent_once(request: Request) -> None:
    """Refuse a file that was sent twice: the framework would take the last one silently."""
    parts = await request.form()  # read already, and kept by the request
    for name in ("audio", "video", "driving_video"):
        if (times := len(parts.getlist(name))) > 1:
            raise WrongCombinationError(name, f"`{name}` was sent {times} times. Send it once.")


def _answer(asked: _Request, resources: Resources, views: JobViews) -> _Answer:
    """Everything that blocks: the key, decoding, storing, and the ledger's transaction."""
    # Before the work of decoding: without the store no job can be accepted.
    num_open = resources.ledger.count_all_open()
    with resources.artifacts.scratch() as folder:
        uploads = _copies(asked.form, folder)
        key: IdempotencyKey | None = None
        if asked.idempotency_key is not None:
            key = IdempotencyKey(
                principal=asked.principal.id,
                key=asked.idempotency_key,
                fingerprint=fingerprint(uploads, asked.form),
            )
            if (found := resources.ledger.idempotency_reserve(key)) is not None:
                return _replay(found, key, resources, views)
        try:
            _check_room(num_open, resources)
            record = _accept(asked, uploads, folder, key, resources)
        except IdempotencyTakenError as error:
            # Our reservation ran out, and another request with this key was faster.
            assert key is not None
            return _replay(error.record, key, resources, views)
        except BaseException:
            if key is not None:
                resources.ledger.idempotency_release(key)
            raise
    return _Answer(views.public(record), is_replayed=False)


def _check_room(num_open: int, resources: Resources) -> None:
    most = resources.settings.max_open_jobs
    if num_open >= most:
        raise ProblemError(
            ErrorCode.QUEUE_FULL,
            f"{num_open} jobs are waiting; at most {most} may. Try again later.",
            params={"open_jobs": num_open, "max_open_jobs": most},
            headers={"Retry-After": "30"},
        )


def _replay(
    found: IdempotencyRecord, key: IdempotencyKey, resources: Resources, views: JobViews
) -> _Answer:
    """Answer with what the key leads to."""
    # A request in flight may not have a fingerprint yet.
    if found.job_id is not None and found.fingerprint != key.fingerprint:
        raise ProblemError(
            ErrorCode.IDEMPOTENCY_CONFLICT,
            "This Idempotency-Key was used with other files or options. Use a new key for a new "
            "request.",
        )
    record = resources.ledger.get(found.job_id) if found.job_id is not None else None
    if record is None:
        # In flight; or the job was deleted at this moment, and its key with it.
        raise ProblemError(
            ErrorCode.IDEMPOTENCY_IN_PROGRESS,
            "A request with this Idempotency-Key is being worked on. Send it again in a moment.",
            headers={"Retry-After": "1"},
        )
    return _Answer(views.public(record), is_replayed=True)


def _accept(
    asked: _Request,
    uploads: Uploads,
    folder: Path,
    key: IdempotencyKey | None,
    resources: Resources,
) -> JobRecord:
    """Decode, store, and write the job into the ledger."""
    job_id = uuid4().hex
    with bound(job_id=job_id), resources.quotas.place(asked.principal, job_id):
        began = time.perf_counter()
        limits: IntakeLimits = resources.settings.intake_limits
        job_input = take_in(uploads, folder, asked.form.options(), limits)
        decoded = time.perf_counter()
        record = JobRecord(
            id=job_id,
            state=JobState.QUEUED,
            principal=asked.principal.id,
            created_at=datetime.now(UTC),
            retention_s=resources.settings.retention_s or None,
            callback_url=asked.form.callback_url,
            request_id=asked.request_id,
            schema_version=SCHEMA,
            input=job_input,
        )
        (folder / "job.json").write_text(to_json(record))
        names = [*input_files(job_input), "job.json"]
        _publish(resources.artifacts, f"inputs/{job_id}", folder, names)
        # If this raises `RedisError`, the job may have been accepted all the same, so its files
        # stay; the sweep finds them if it was not.
        record = resources.ledger.accept(record, idempotency=key)
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


def _publish(artifacts: ArtifactStore, prefix: str, folder: Path, names: list[str]) -> None:
    """Keep the normalised files, all or none of them."""
    try:
        for name in names:
            artifacts.put(f"{prefix}/{name}", folder / name)
    except StorageFullError:
        artifacts.delete_prefix(prefix)
        raise


def _copies(form: TalkingFaceForm, folder: Path) -> Uploads:
    """The uploads as files under names of ours."""
    return Uploads(
        audio=_copy(form.audio, folder / "upload-audio"),
        images=tuple(
            _copy(image, folder / f"upload-image-{number}")
            for number, image in enumerate(form.image)
        ),
        video=_copy(form.video, folder / "upload-video") if form.video else None,
        driving_video=_copy(form.driving_video, folder / "upload-driving")
        if form.driving_video
        else None,
    )


def _copy(upload: UploadFile, path: Path) -> Path:
    # The name is ours; what the client called its file goes nowhere.
    with path.open("xb") as copy:
        shutil.copyfileobj(upload.file, copy, 2**20)
    return path
