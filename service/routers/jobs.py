"""`GET /v1/jobs/<id>`: how a job stands, and its video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import JSONResponse, StreamingResponse

from service.dependencies import ArtifactsDep, BaseUrlDep, LedgerDep
from service.problems import ProblemError, problem_responses
from service.ranges import parse_range
from service.schemas.job import JobPublic, public_job
from worker.contract.artifacts import ArtifactStore
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.messages import JobRecord, JobResult, JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_JOB_ID = re.compile(r"[0-9a-f]{32}")
_RETRY = {"Retry-After": "1"}
JobId = Annotated[str, Path(description="The `id` of a job.")]
_MP4 = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}


@router.get(
    "/{job_id}",
    summary="How a job stands, or its video",
    response_model=JobPublic,
    responses={
        200: {"content": _MP4},
        **problem_responses(404, 409, 422, 503),
    },
)
def get_job(
    job_id: JobId,
    request: Request,
    ledger: LedgerDep,
    artifacts: ArtifactsDep,
    base_url: BaseUrlDep,
) -> Response:
    """The job object; with `Accept: video/mp4` a job that succeeded answers with its video."""
    record = _find(ledger, job_id)
    if record.result is not None and _prefers_video(request.headers.get("accept", "")):
        return _video(request, artifacts, record.id, record.result)
    headers = {"Vary": "Accept", "Cache-Control": "no-store"}
    if not record.state.is_terminal:
        headers |= _RETRY
    return JSONResponse(public_job(record, base_url).model_dump(mode="json"), headers=headers)


@router.get(
    "/{job_id}/content",
    summary="The video, for players",
    response_class=Response,
    responses={
        200: {"content": _MP4},
        206: {"content": _MP4, "description": "The range that was asked for"},
        304: {"description": "The client's copy is the current one"},
        **problem_responses(404, 409, 416, 422, 503),
    },
)
def get_content(
    job_id: JobId, request: Request, ledger: LedgerDep, artifacts: ArtifactsDep
) -> Response:
    """The MP4 whatever `Accept` says, in one piece or in the range that is asked for."""
    record = _find(ledger, job_id)
    if record.result is None:
        raise ProblemError(
            ErrorCode.RESULT_NOT_AVAILABLE,
            f"The job is {record.state.value}; it has no video"
            + (", and the job object says why." if record.state is JobState.FAILED else " yet."),
            params={"state": record.state.value},
            headers={} if record.state.is_terminal else _RETRY,
        )
    return _video(request, artifacts, record.id, record.result)


@router.head("/{job_id}/content", include_in_schema=False)
def head_content(
    job_id: JobId, request: Request, ledger: LedgerDep, artifacts: ArtifactsDep
) -> Response:
    """The headers of the video."""
    return get_content(job_id, request, ledger, artifacts)


def _find(ledger: Ledger, job_id: str) -> JobRecord:
    # An id that cannot be ours is not found either; there is nothing to learn from the difference.
    record = ledger.get(job_id) if _JOB_ID.fullmatch(job_id) else None
    if record is None:
        raise ProblemError(ErrorCode.JOB_NOT_FOUND, "There is no job of this id.")
    return record


def _video(request: Request, artifacts: ArtifactStore, job_id: str, result: JobResult) -> Response:
    """The MP4 or the part of it that the request asks for."""
    size = artifacts.stat(result.key).bytes
    etag = f'"{result.sha256}"'
    headers = {
        "ETag": etag,
        "Vary": "Accept",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="talkface-{job_id}.mp4"',
        "X-Content-Type-Options": "nosniff",
    }
    if etag in _listed(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    span = None
    # A range of another version of the file is worthless: RFC 9110 section 13.1.5.
    if request.headers.get("if-range", etag) == etag:
        span = parse_range(request.headers.get("range", ""), size)
    start, stop = span or (0, size)
    headers["Content-Length"] = str(stop - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    body: Iterator[bytes] = (
        iter(()) if request.method == "HEAD" else artifacts.read_range(result.key, start, stop)
    )
    return StreamingResponse(
        body,
        status_code=200 if span is None else 206,
        headers=headers,
        media_type=result.content_type,
    )


def _listed(header: str) -> set[str]:
    """The entity tags of `If-None-Match`, compared weakly as RFC 9110 section 13.1.2 says."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


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
