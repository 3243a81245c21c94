"""`GET /v1/jobs/<id>/events`: what happens to a job, as Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel
from redis import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.dependencies import EventsReaderDep, JobViewsDep, WatchDep
from service.job_views import JobViews
from service.problems import ProblemError, problem_responses
from service.routers.jobs import JobId
from service.schemas.event import DeletedEvent, public_event
from service.schemas.examples import EVENT_STREAM
from service.security import Principal
from service.waiting import check_place
from service.watch import JobWatch, WatchFullError, parse_event_id
from worker.contract.events import FIRST
from worker.contract.logs import get_logger

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_log = get_logger(__name__)

# Proxies close a connection that is silent for a minute; a stream that outlived its job is ended.
_SILENCE_S: Final = 15.0
_HEADERS: Final = {
    "Cache-Control": "no-store",
    # nginx would keep events until its buffer is full.
    "X-Accel-Buffering": "no",
}


@router.get(
    "/{job_id}/events",
    summary="What happens to a job, as it happens",
    response_class=Response,
    responses={
        200: {
            "description": "Events named `state`, `progress` and, as the last one, `job`",
            "content": {"text/event-stream": {"example": EVENT_STREAM}},
        },
        204: {"description": "The last event is known already; there is nothing to wait for"},
        **problem_responses("job_not_found", "concurrency_limited"),
    },
)
async def get_events(
    job_id: JobId,
    principal: EventsReaderDep,
    views: JobViewsDep,
    watch: WatchDep,
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event that was received.")
    ] = None,
) -> Response:
    """Everything so far, then what happens, until the job has ended.

    `state` and `progress` events, at most four of these a second; the last event is `job`, and its
    data is the job object. With `Last-Event-ID` the stream begins after that event.
    """
    record = await run_in_threadpool(views.find_kept, job_id, principal)
    caller = principal.waits_as(record.principal)
    check_place(watch, caller)
    known = parse_event_id(last_event_id or "")
    newest = parse_event_id(await watch.newest_id(job_id))
    if known is not None and newest is not None and known > newest:
        # Not an id of this stream, so it says nothing about what is known.
        known = None
    if known is not None and known == newest and record.state.is_terminal:
        # An EventSource comes again after the last event; this status makes it stop.
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    after_id = FIRST if known is None else f"{known[0]}-{known[1]}"
    return StreamingResponse(
        _until_it_fails(_stream(job_id, principal, views, watch, after_id, caller)),
        media_type="text/event-stream",
        headers=_HEADERS,
    )


async def _until_it_fails(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """End a stream that cannot go on: its client comes again and resumes, or is told why not."""
    try:
        async for piece in stream:
            yield piece
    except RedisError as error:
        _log.warning("events_interrupted", kind=type(error).__name__)
    except WatchFullError:
        # Others took the last places between the answer's headers and its first event.
        return


async def _stream(
    job_id: str,
    principal: Principal,
    views: JobViews,
    watch: JobWatch,
    after_id: str,
    caller: str | None,
) -> AsyncIterator[bytes]:
    last_id: str | None = None
    yield b"retry: 2000\n\n"
    async with watch.subscribe(job_id, after_id, caller=caller) as events:
        while True:
            event = await events.next(_SILENCE_S)
            if event is None:
                if events.is_closed:
                    # The server stops; the client comes again and resumes elsewhere.
                    return
                if await run_in_threadpool(_has_ended, job_id, principal, views):
                    break
                yield b": still here\n\n"
            elif event.state.is_terminal:
                last_id = event.id
                break
            elif event.kind != "fragment":
                yield _encoded(event.kind, public_event(event), event.id)
    try:
        record = await run_in_threadpool(views.find, job_id, principal)
        job = await run_in_threadpool(views.public, record)
    except ProblemError:
        yield _encoded("deleted", DeletedEvent(id=job_id), None)
    else:
        yield _encoded("job", job, last_id)


def _has_ended(job_id: str, principal: Principal, views: JobViews) -> bool:
    """Whether the job ended, or was deleted, without an event that is still kept."""
    try:
        return views.find(job_id, principal).state.is_terminal
    except ProblemError:
        return True


def _encoded(name: str, data: BaseModel, event_id: str | None) -> bytes:
    id_line = "" if event_id is None else f"id: {event_id}\n"
    return f"{id_line}event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
