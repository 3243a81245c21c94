"""`POST /v1/talking-face`: a portrait or a video, and a voice, become a job."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from anyio import to_thread
from fastapi import APIRouter, Form, Request, Response, UploadFile

from service.dependencies import (
    BaseUrlDep,
    RequestIdDep,
    Resources,
    ResourcesDep,
)
from service.problems import problem_responses
from service.schemas.form import TalkingFaceForm
from service.schemas.job import JobPublic, public_job
from worker.contract.artifacts import ArtifactStore, StorageFullError
from worker.contract.inputs import (
    Uploads,
    WrongCombinationError,
    check_combination,
    input_files,
    take_in,
)
from worker.contract.intake import IntakeLimits
from worker.contract.logs import bound, get_logger
from worker.contract.messages import JobInput, JobRecord, JobState

router = APIRouter(tags=["jobs"])
_log = get_logger(__name__)


@router.post(
    "/v1/talking-face",
    status_code=202,
    summary="Animate a portrait, or dub a video, with a voice",
    responses={
        202: {
            "headers": {
                "Location": {"description": "The job.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
            }
        },
        **problem_responses(400, 413, 415, 422, 503, 507),
    },
)
async def create_talking_face(
    form: Annotated[TalkingFaceForm, Form(media_type="multipart/form-data")],
    request: Request,
    response: Response,
    resources: ResourcesDep,
    base_url: BaseUrlDep,
    request_id: RequestIdDep,
) -> JobPublic:
    """Check the files, keep them, and put a job into the queue.

    Send `audio` with `image` (and perhaps `driving_video`), or with `video`. Everything that can be
    wrong with the files themselves is told here; the face is looked for by the worker. A 202 answer
    means that the job and its files are stored.
    """
    await _check_sent_once(request)
    check_combination(
        num_images=len(form.image),
        has_video=form.video is not None,
        has_driving_video=form.driving_video is not None,
    )
    record = await to_thread.run_sync(
        _accept, form, resources, request_id, limiter=resources.accept_limiter
    )
    job = public_job(record, base_url)
    response.headers["Location"] = job.links.self
    response.headers["Retry-After"] = "1"
    response.headers["Cache-Control"] = "no-store"
    return job


async def _check_sent_once(request: Request) -> None:
    """Refuse a file that was sent twice: the framework would take the last one silently."""
    parts = await request.form()  # read already, and kept by the request
    for name in ("audio", "video", "driving_video"):
        if (times := len(parts.getlist(name))) > 1:
            raise WrongCombinationError(name, f"`{name}` was sent {times} times. Send it once.")


def _accept(form: TalkingFaceForm, resources: Resources, request_id: str) -> JobRecord:
    """Everything that blocks: decoding, storing, and the ledger's transaction."""
    # Before the work of decoding: without the store no job can be accepted.
    resources.ledger.ping()
    job_id = uuid4().hex
    with bound(job_id=job_id), resources.artifacts.scratch() as folder:
        job_input = _take_in(form, folder, resources.settings.intake_limits)
        record = JobRecord(
            id=job_id,
            state=JobState.QUEUED,
            created_at=datetime.now(UTC),
            request_id=request_id,
            input=job_input,
        )
        (folder / "job.json").write_text(record.model_dump_json())
        names = [*input_files(job_input), "job.json"]
        _publish(resources.artifacts, f"inputs/{job_id}", folder, names)
        # If this raises, the job may have been accepted all the same, so its files stay.
        resources.ledger.accept(record)
        _log.info("job_accepted", audio_s=job_input.audio.seconds)
    return record


def _publish(artifacts: ArtifactStore, prefix: str, folder: Path, names: list[str]) -> None:
    """Keep the normalised files, all or none of them."""
    try:
        for name in names:
            artifacts.put(f"{prefix}/{name}", folder / name)
    except StorageFullError:
        artifacts.delete_prefix(prefix)
        raise


def _take_in(form: TalkingFaceForm, folder: Path, limits: IntakeLimits) -> JobInput:
    """Bring the uploads through the intake into `folder`."""
    uploads = Uploads(
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
    return take_in(uploads, folder, form.options(), limits)


def _copy(upload: UploadFile, path: Path) -> Path:
    # The name is ours; what the client called its file goes nowhere.
    with path.open("xb") as copy:
        shutil.copyfileobj(upload.file, copy, 2**20)
    return path
