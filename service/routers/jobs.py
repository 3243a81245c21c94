"""`/v1/jobs`: how jobs stand, their videos, and their end."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.dependencies import (
    ArtifactsDep,
    AuditDep,
    ContentReaderDep,
    JobViewsDep,
    LedgerDep,
    ListerDep,
    PrincipalDep,
    RequestIdDep,
    WatchDep,
    WriterDep,
)
from service.finished_video import MP4, RETRY, lists_etag, no_video, video_answer
from service.job_views import JobViews
from service.keys import Scope
from service.problems import RETRY_AFTER, ProblemError, problem_responses
from service.query_parameters import Moment, check_known_parameters
from service.schemas.examples import (
    CANCELLED_JOB,
    CANCELLING_JOB,
    FAILED_JOB,
    QUEUED_JOB,
    RUNNING_JOB,
    SUCCEEDED_JOB,
)
from service.schemas.job import JobPage, JobPublic
from service.schemas.problem import FieldError
from service.security import Principal
from service.waiting import MAX_WAIT_S, wait_for_end
from worker.contract.answers import CancelOutcome
from worker.contract.artifacts import ArtifactStore
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.ledger_reader import CursorError, JobFilter
from worker.contract.messages import JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(description="The `id` of a job.")]
_JPEG = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}


@router.get(
    "",
    summary="Your jobs, newest first",
    responses=problem_responses(),
)
async def list_jobs(
    request: Request,
    response: Response,
    principal: ListerDep,
    ledger: LedgerDep,
    views: JobViewsDep,
    limit: Annotated[int, Query(ge=1, le=100, description="Most jobs of a page.")] = 20,
    cursor: Annotated[
        str | None, Query(max_length=100, description="`next_cursor` of the page before.")
    ] = None,
    state: Annotated[
        list[JobState] | None,
        Query(description="Only jobs that stand so; may be sent again for another state."),
    ] = None,
    created_after: Annotated[
        Moment | None, Query(description="Only jobs that were accepted at this time or later.")
    ] = None,
    created_before: Annotated[
        Moment | None, Query(description="Only jobs that were accepted before this time.")
    ] = None,
) -> JobPage:
    """A page of the caller's jobs, of everyone's for a key with the scope admin.

    `next_cursor` leads to what is older. Only it says whether that was all: where few jobs
    are wanted of very many, a page may have fewer than `limit`.
    """
    response.headers["Cache-Control"] = "no-store"
    check_known_parameters(request)
    wanted = JobFilter(
        states=frozenset(state or ()),
        after=None if created_after is None else created_after.timestamp(),
        before=None if created_before is None else created_before.timestamp(),
    )
    return await run_in_threadpool(_page, principal, ledger, views, cursor, limit, wanted)


@router.get(
    "/{job_id}",
    summary="How a job stands, or its video",
    response_model=JobPublic,
    responses={
        200: {
            "description": "The job object; with `Accept: video/mp4` the video, once there is one",
            "content": {
                "application/json": {
                    "examples": {
                        "queued": {"value": QUEUED_JOB},
                        "running": {"value": RUNNING_JOB},
                        "succeeded": {"value": SUCCEEDED_JOB},
                        "failed": {"value": FAILED_JOB},
                        "cancelled": {"value": CANCELLED_JOB},
                    }
                },
                **MP4,
            },
            "headers": {"Retry-After": RETRY_AFTER | {"description": "While the job is open."}},
        },
        206: {"content": MP4, "description": "The range of the video that was asked for"},
        304: {"description": "The client's copy of the video is the current one"},
        **problem_responses(
            "job_not_found", "result_not_available", "result_expired", "range_not_satisfiable"
        ),
    },
)
async def get_job(
    job_id: JobId,
    request: Request,
    principal: PrincipalDep,
    views: JobViewsDep,
    artifacts: ArtifactsDep,
    watch: WatchDep,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the end of an open job."),
    ] = 0.0,
) -> Response:
    """The job object; with `Accept: video/mp4` a job that succeeded answers with its video.

    With `wait` the answer comes when the job has ended, or after so many seconds.
    """
    if wait > 0 and not watch.is_full():
        await wait_for_end(job_id, request, principal, views, watch, wait)
    return await run_in_threadpool(_job_or_video, job_id, request, principal, views, artifacts)


@router.get(
    "/{job_id}/content",
    summary="The video, for players",
    response_class=Response,
    responses={
        200: {"content": MP4, "description": "The whole video"},
        206: {"content": MP4, "description": "The range that was asked for"},
        304: {"description": "The client's copy is the current one"},
        **problem_responses(
            "job_not_found", "result_not_available", "result_expired", "range_not_satisfiable"
        ),
    },
)
def get_content(
    job_id: JobId,
    request: Request,
    principal: ContentReaderDep,
    views: JobViewsDep,
    artifacts: ArtifactsDep,
) -> Response:
    """The MP4 whatever `Accept` says, in one piece or in the range that is asked for."""
    record = views.find_kept(job_id, principal)
    if record.result is None:
        raise no_video(record)
    return video_answer(request, artifacts, record.id, record.result)


@router.get(
    "/{job_id}/thumbnail",
    summary="A frame of the video, as JPEG",
    response_class=Response,
    responses={
        200: {"content": _JPEG, "description": "At most 320 pixels wide and high"},
        304: {"description": "The client's copy is the current one"},
        **problem_responses("job_not_found", "result_not_available", "result_expired"),
    },
)
def get_thumbnail(
    job_id: JobId,
    request: Request,
    principal: ContentReaderDep,
    views: JobViewsDep,
    artifacts: ArtifactsDep,
) -> Response:
    """A small picture for lists; erased with the video."""
    record = views.find_kept(job_id, principal)
    if record.result is None or record.result.thumbnail_key is None:
        raise ProblemError(
            ErrorCode.RESULT_NOT_AVAILABLE,
            "There is no picture of this job's video."
            if record.state.is_terminal
            else f"The job is {record.state.value}; there is no picture of its video yet.",
            params={"state": record.state.value},
            headers={} if record.state.is_terminal else RETRY,
        )
    # The picture follows from the video.
    etag = f'"{record.result.sha256[:32]}-t"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if lists_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    with artifacts.local_copy(record.result.thumbnail_key) as path:
        return Response(path.read_bytes(), headers=headers, media_type="image/jpeg")


@router.post(
    "/{job_id}/cancel",
    summary="Stop a job",
    response_model=JobPublic,
    responses={
        200: {
            "description": "The job is cancelled, now or since before",
            "content": {"application/json": {"example": CANCELLED_JOB}},
        },
        202: {
            "description": "The job runs, and stops before its next batch of frames",
            "model": JobPublic,
            "content": {"application/json": {"example": CANCELLING_JOB}},
        },
        **problem_responses("job_not_found", "job_terminal"),
    },
)
def cancel_job(
    job_id: JobId, principal: WriterDep, views: JobViewsDep, ledger: LedgerDep
) -> Response:
    """A job that waits is cancelled at once; one that runs stops a moment later."""
    views.check(job_id, principal)
    outcome = ledger.request_cancel(job_id)
    if outcome is CancelOutcome.TERMINAL:
        record = views.find(job_id, principal)
        raise ProblemError(
            ErrorCode.JOB_TERMINAL,
            f"The job has {record.state.value}; there is nothing left to cancel.",
            params={"state": record.state.value},
        )
    job = views.public(views.find(job_id, principal))
    return _json(job, status=200 if outcome is CancelOutcome.CANCELLED else 202)


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Erase a job and everything of it",
    response_class=Response,
    responses={
        204: {"description": "Inputs, video, events and the job itself are erased"},
        **problem_responses("job_not_found"),
    },
)
def delete_job(
    job_id: JobId,
    principal: WriterDep,
    views: JobViewsDep,
    ledger: LedgerDep,
    artifacts: ArtifactsDep,
    audit: AuditDep,
    request_id: RequestIdDep,
) -> Response:
    """Nothing of a person's face or voice remains; a job that runs is stopped."""
    views.check(job_id, principal)
    audit.write("erased", job_id, by=principal.id, request_id=request_id)
    # The ledger first: should this process end in between, the sweep finds files without a job.
    ledger.delete(job_id)
    for kind in ("inputs", "results"):
        artifacts.delete_prefix(f"{kind}/{job_id}")
    return Response(status_code=204)


def _page(
    principal: Principal,
    ledger: Ledger,
    views: JobViews,
    cursor: str | None,
    limit: int,
    wanted: JobFilter,
) -> JobPage:
    # An operator looks after everyone's jobs; that of `up` without keys has all that there are.
    sees_all = principal.may(Scope.ADMIN) and not principal.is_operator
    listed = ledger.list_all if sees_all else partial(ledger.list_jobs, principal.id)
    try:
        page = listed(cursor=cursor, limit=limit, wanted=wanted)
    except CursorError as error:
        detail = f"The cursor is not valid: {error}."
        raise ProblemError(
            ErrorCode.INVALID_OPTIONS,
            detail,
            errors=[FieldError(field="cursor", message=str(error))],
        ) from None
    return JobPage(
        data=[views.public(record) for record in page.records], next_cursor=page.next_cursor
    )


def _job_or_video(
    job_id: str,
    request: Request,
    principal: Principal,
    views: JobViews,
    artifacts: ArtifactStore,
) -> Response:
    record = views.find_kept(job_id, principal)
    if record.result is not None and _prefers_video(request.headers.get("accept", "")):
        return video_answer(request, artifacts, record.id, record.result)
    headers = {"Vary": "Accept"}
    if not record.state.is_terminal:
        headers |= RETRY
    return _json(views.public(record), headers=headers)


def _json(job: JobPublic, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        job.model_dump_json(),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def _prefers_video(accept: str) -> bool:
    """Whether the client names video/mp4 and likes it no less than JSON; `*/*` alone means JSON."""
    weights = {"video/mp4": 0.0, "application/json": 0.0}
    for entry in accept.lower().split(","):
        kind, *parameters = [part.strip() for part in entry.split(";")]
        kind = {"video/*": "video/mp4", "application/*": "application/json"}.get(kind, kind)
        if kind in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    return 0.0 < weights["video/mp4"] >= weights["application/json"]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
