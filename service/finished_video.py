"""The video of a job that succeeded, as an answer: whole, in part, or not changed."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from service.head_requests import is_head
from service.problems import ProblemError
from service.ranges import parse_range
from worker.contract.artifacts import ArtifactStore
from worker.contract.errors import ErrorCode
from worker.contract.messages import JobRecord, JobState
from worker.contract.results import JobResult

RETRY: Final = {"Retry-After": "1"}
"""Headers of an answer about a job that is open."""
MP4: Final[dict[str, Any]] = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}
"""For the OpenAPI document."""


def no_video(record: JobRecord) -> ProblemError:
    """What is answered where a job has no video."""
    return ProblemError(
        ErrorCode.RESULT_NOT_AVAILABLE,
        f"The job is {record.state.value}; it has no video"
        + (", and the job object says why." if record.state is JobState.FAILED else " yet."),
        params={"state": record.state.value},
        headers={} if record.state.is_terminal else RETRY,
    )


def video_answer(
    request: Request, artifacts: ArtifactStore, job_id: str, result: JobResult
) -> Response:
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
    if lists_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    url = artifacts.download_url(
        result.key,
        content_type=result.content_type,
        disposition=headers["Content-Disposition"],
    )
    # A link is for GET alone; what HEAD asks, this answer tells.
    if url is not None and not is_head(request):
        moved = {"Location": url, "Vary": "Accept", "Cache-Control": "no-store"}
        return Response(status_code=307, headers=moved)
    span = None
    # A range of another version of the file is worthless: RFC 9110 section 13.1.5.
    if request.headers.get("if-range", etag) == etag:
        span = parse_range(request.headers.get("range", ""), size)
    start, stop = span or (0, size)
    headers["Content-Length"] = str(stop - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(
        artifacts.read_range(result.key, start, stop),
        status_code=200 if span is None else 206,
        headers=headers,
        media_type=result.content_type,
    )


def lists_etag(header: str, etag: str) -> bool:
    """Whether `If-None-Match` has an entity tag, compared weakly, or any (RFC 9110 section 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return etag in tags or header.strip() == "*"
