"""Waiting for a job's end: `?wait=30` of a GET, `Prefer: wait=30` of a POST (RFC 7240)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from service.job_views import JobViews
from service.problems import ProblemError
from service.security import Principal
from service.watch import JobWatch, WatchFullError
from worker.contract.errors import ErrorCode

MAX_WAIT_S: Final = 60.0
# How often who waits looks at the job itself: an event may have been trimmed, a client have gone.
_LOOK_S: Final = 5.0
_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=,|;|$)", re.IGNORECASE)


def preferred_wait_s(prefer: str) -> float:
    """Seconds that a `Prefer` header asks for, at most `MAX_WAIT_S`; 0 where it does not.

    A preference that cannot be understood is no error: the header only asks.
    """
    found = _WAIT.search(prefer)
    return min(float(found[1]), MAX_WAIT_S) if found else 0.0


def check_place(watch: JobWatch, caller: str | None) -> None:
    """Return if one more may wait.

    Args:
        watch: Knows how many do.
        caller: Under what name the caller is counted; None: not at all.

    Raises:
        ProblemError: concurrency_limited.
    """
    if watch.is_full(caller):
        whose = "" if watch.is_full() else " of yours"
        raise ProblemError(
            ErrorCode.CONCURRENCY_LIMITED,
            f"Too many clients{whose} wait for events here. Try again, or ask for the job now and "
            "then.",
            headers={"Retry-After": "5"},
        )


async def wait_for_end(
    job_id: str,
    request: Request,
    principal: Principal,
    views: JobViews,
    watch: JobWatch,
    wait_s: float,
) -> None:
    """Return when the job has ended, the time is over, the client gone, or the server stops."""

    async def has_ended() -> bool:
        record = await run_in_threadpool(views.find, job_id, principal)
        return record.state.is_terminal

    record = await run_in_threadpool(views.find, job_id, principal)
    caller = principal.waits_as(record.principal)
    if record.state.is_terminal or watch.is_full(caller):
        return
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    # Somebody else may have taken the last place at this moment.
    with contextlib.suppress(WatchFullError):
        async with watch.subscribe(job_id, caller=caller) as events:
            while (left_s := until - loop.time()) > 0:
                event = await events.next(min(left_s, _LOOK_S))
                if event is not None and not event.state.is_terminal:
                    continue
                if event is not None or events.is_closed or await request.is_disconnected():
                    return
                if await has_ended():
                    return
