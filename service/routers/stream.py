"""`GET /v1/jobs/<id>/stream`: the video, from the first second that is drawn."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.dependencies import (
    ArtifactsDep,
    ContentReaderDep,
    JobViewsDep,
    LiveFilmsDep,
    SettingsDep,
    WatchDep,
)
from service.finished_video import MP4, RETRY, no_video, video_answer
from service.live_video import FREE_BOX, SILENCE_S, LiveVideo, VideoEndedError
from service.middleware import BrokenOffError
from service.problems import ProblemError, problem_responses
from service.routers.jobs import JobId
from service.waiting import MAX_WAIT_S, check_place
from service.watch import WatchFullError
from worker.contract.errors import ErrorCode
from worker.contract.messages import JobRecord

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_SILENCES: Final = 3
"""After so many of them a sign of life is sent."""
_LEAST_S: Final = 0.05
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Accept-Ranges": "none",
    "X-Content-Type-Options": "nosniff",
    # nginx would keep fragments until its buffer is full.
    "X-Accel-Buffering": "no",
}


@router.get(
    "/{job_id}/stream",
    summary="The video, while it is drawn",
    response_class=Response,
    responses={
        200: {
            "content": MP4,
            "description": "A fragmented MP4 that goes on as the video is drawn; of a job that succeeded "
            "the finished file. A connection that breaks off before its last chunk: the video did not "
            "become complete this way, and the job object says why",
        },
        206: {"content": MP4, "description": "The range of the finished file that was asked for"},
        304: {"description": "The client's copy of the finished file is the current one"},
        **problem_responses(
            "job_not_found",
            "result_not_available",
            "result_expired",
            "range_not_satisfiable",
            "concurrency_limited",
        ),
    },
)
async def get_stream(
    job_id: JobId,
    request: Request,
    principal: ContentReaderDep,
    views: JobViewsDep,
    artifacts: ArtifactsDep,
    films: LiveFilmsDep,
    watch: WatchDep,
    settings: SettingsDep,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the first picture."),
    ] = MAX_WAIT_S,
) -> Response:
    """The MP4 from its first frame on, with its visible label and without a signature.

    The answer begins when there is a picture. What was sent is final: where another worker has to
    begin anew, the stream goes on at the next fragment.
    """
    record = await run_in_threadpool(views.find_kept, job_id, principal)
    if record.state.is_terminal:
        return await run_in_threadpool(_finished, request, record, artifacts)
    if not settings.stream:
        raise ProblemError(
            ErrorCode.RESULT_NOT_AVAILABLE,
            f"The job is {record.state.value}, and videos cannot be watched here before they are "
            "complete. Wait for its end.",
            params={"state": record.state.value},
            headers=RETRY,
        )
    caller = principal.waits_as(record.principal)
    check_place(watch, caller)
    video = LiveVideo(job_id, principal, views, films, artifacts, watch, caller)
    pieces = video.pieces(max(_LEAST_S, min(wait, SILENCE_S)))
    until = time.monotonic() + wait
    head = b""
    try:
        async for head in pieces:
            if head or time.monotonic() >= until or await request.is_disconnected():
                break
    except WatchFullError:
        check_place(watch, caller)
    except VideoEndedError:
        pass
    if not head:
        await pieces.aclose()
        record = await run_in_threadpool(views.find_kept, job_id, principal)
        return await run_in_threadpool(_finished, request, record, artifacts)
    headers = {"Content-Disposition": f'inline; filename="talkface-{job_id}.mp4"', **_HEADERS}
    return StreamingResponse(_going_on(head, pieces), media_type="video/mp4", headers=headers)


async def _going_on(head: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes]:
    yield head
    silences = 0
    try:
        async for piece in pieces:
            silences = 0 if piece else silences + 1
            if piece:
                yield piece
            elif silences % _SILENCES == 0:
                yield FREE_BOX
    except VideoEndedError:
        # A body that ended well would say that this is the whole video.
        raise BrokenOffError from None


def _finished(request: Request, record: JobRecord, artifacts: ArtifactsDep) -> Response:
    if record.result is None:
        raise no_video(record)
    return video_answer(request, artifacts, record.id, record.result)
