"""The pieces of a video that is being drawn, as they come, for one who watches.

    JobWatch ──fragment──▶ count in Redis ──▶ piece in the artifact store ──▶ client

A client that reads slowly is left behind and loses nothing: pieces stay until the job's end and some time
longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from redis import RedisError
from starlette.concurrency import run_in_threadpool

from service.job_views import JobViews
from service.problems import ProblemError
from service.security import Principal
from service.watch import JobWatch
from worker.contract.artifacts import ArtifactNotFoundError, ArtifactStore
from worker.contract.live_films import LiveFilms, PieceCount, piece_key

SILENCE_S: Final = 5.0
FREE_BOX: Final = b"\x00\x00\x00\x08free"
"""What players skip (ISO/IEC 14496-12, 8.1.2): proxies close a connection that is silent for a minute."""
_PAUSE_S: Final = 0.5


class VideoEndedError(Exception):
    """No further piece will come, though the video is not complete."""


@dataclass(frozen=True)
class LiveVideo:
    """A job's video while it is drawn.

    Args:
        job_id: The job.
        principal: Who watches.
        views: Tell whether they may, and whether the job has ended.
        films: Knows how many pieces there are.
        artifacts: Has them.
        watch: Wakes who waits.
        caller: Under what name who watches is counted; None: not at all.
    """

    job_id: str
    principal: Principal
    views: JobViews
    films: LiveFilms
    artifacts: ArtifactStore
    watch: JobWatch
    caller: str | None

    async def pieces(self, silence_s: float = SILENCE_S) -> AsyncGenerator[bytes, None]:
        """The head and each fragment; b"" where none came for so many seconds.

        Raises:
            VideoEndedError: The job ended or was erased before its video was complete, or the server stops.
            WatchFullError: Too many wait already.
            redis.RedisError: Redis cannot be reached at the beginning.
        """
        newest = await self.watch.newest_id(self.job_id)
        async with self.watch.subscribe(self.job_id, newest, caller=self.caller) as events:
            sent, has_ended = 0, False
            while True:
                count = await self._count()
                while sent < count.done:
                    yield await self._read(sent)
                    sent += 1
                    if sent == count.done:
                        # Who reads slowly finds more when it comes back.
                        count = await self._count()
                if sent == count.total:
                    return
                # Asked before the count, so that what was told last is in it.
                if has_ended or events.is_closed:
                    raise VideoEndedError
                event = await events.next(silence_s)
                while event is not None and event.kind == "progress":
                    event = await events.next(silence_s)
                if event is None:
                    yield b""
                if event is None or event.state.is_terminal:
                    has_ended = await run_in_threadpool(self._has_ended)

    async def _count(self) -> PieceCount:
        while True:
            try:
                return await run_in_threadpool(self.films.count, self.job_id)
            except RedisError:
                # Like all who wait: Redis may be away for a while.
                if self.watch.is_closed:
                    raise VideoEndedError from None
                await asyncio.sleep(_PAUSE_S)

    async def _read(self, number: int) -> bytes:
        try:
            return await run_in_threadpool(_content, self.artifacts, piece_key(self.job_id, number))
        except ArtifactNotFoundError:
            raise VideoEndedError from None

    def _has_ended(self) -> bool:
        try:
            return self.views.find(self.job_id, self.principal).state.is_terminal
        except ProblemError:
            return True
        except RedisError:
            return False


def _content(artifacts: ArtifactStore, key: str) -> bytes:
    return b"".join(artifacts.read_range(key, 0, artifacts.stat(key).bytes))
