"""`POST /v1/talking-face`: a portrait or a video, and a voice, become a job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from service.acceptance import Acceptance
from service.dependencies import JobViewsDep, RequestIdDep, ResourcesDep, WatchDep, WriterDep
from service.problems import RETRY_AFTER, problem_responses
from service.schemas.examples import QUEUED_JOB, SUCCEEDED_JOB
from service.schemas.form import TalkingFaceForm, request_body
from service.schemas.job import JobPublic
from service.waiting import preferred_wait_s, wait_for_end

router = APIRouter(tags=["jobs"])


@router.post(
    "/v1/talking-face",
    status_code=202,
    summary="Animate a portrait, or dub a video, with a voice",
    # Not a parameter: the framework would read the whole body before it asks who sends it.
    openapi_extra={"requestBody": request_body(TalkingFaceForm)},
    responses={
        200: {
            "description": "With `Prefer: wait`: the job has ended within that time",
            "model": JobPublic,
            "content": {"application/json": {"example": SUCCEEDED_JOB}},
        },
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
            "avatar_not_found",
            "file_not_found",
            "idempotency_conflict",
            "idempotency_in_progress",
            "concurrency_limited",
            "quota_exceeded",
            "queue_full",
            "speech_unavailable",
            "insufficient_storage",
        ),
    },
)
async def create_talking_face(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    principal: WriterDep,
    views: JobViewsDep,
    request_id: RequestIdDep,
    watch: WatchDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A word of your own for this request. Sent again within 24 h with the same "
            "files and options, the same job is the answer.",
        ),
    ] = None,
    prefer: Annotated[
        str,
        Header(
            max_length=200,
            description="`wait=30`: answer when the job has ended, or after so many seconds (at most "
            "60) as it stands then.",
        ),
    ] = "",
) -> JobPublic:
    """Check the files, keep them, and put a job into the queue.

    Send `audio` (or `text`, where there is a voice server) with `image` (and perhaps
    `driving_video`), or with `video`. What is wrong with pictures, or with a voice beside pictures,
    is told here; a video, and the voice beside it, are looked at here and decoded afterwards, and
    the face is looked for afterwards. A 202 answer means that the job and its files are stored.
    """
    acceptance = Acceptance(request, principal, request_id, idempotency_key, resources)
    accepted = await acceptance.run()
    record = accepted.record
    if (wait_s := preferred_wait_s(prefer)) > 0:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
        if not watch.is_full():
            await wait_for_end(record.id, request, principal, views, watch, wait_s)
        record = await run_in_threadpool(views.find, record.id, principal)
        if record.state.is_terminal:
            response.status_code = 200
    job = await run_in_threadpool(views.public, record)
    response.headers["Location"] = job.links.self
    if not record.state.is_terminal:
        response.headers["Retry-After"] = "1"
    response.headers["Cache-Control"] = "no-store"
    if accepted.is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return job
