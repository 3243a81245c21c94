"""The client for programs that do other things meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import httpx2

from talkface_client import steps
from talkface_client.errors import DownloadError
from talkface_client.form import Media, make_form
from talkface_client.models import (
    AvatarPage,
    AvatarPublic,
    FacesPublic,
    FilePage,
    FilePublic,
    JobPage,
    JobPublic,
    Readiness,
)
from talkface_client.retries import RetryPolicy
from talkface_client.settings import http_options
from talkface_client.steps import Answer, Download, OnProgress, Request, Steps, Watch

_T = TypeVar("_T")
_TIMEOUT_S: Final = 90.0


class AsyncClient:
    """A talkface service; `async with` closes its connections.

    Args:
        url: Where it is; None: TALKFACE_URL, else `http://127.0.0.1:8000`.
        api_key: None: TALKFACE_API_KEY, else none.
        retry: How long a request is tried again that found nobody, or a server that was busy.
        timeout_s: Longest silence of the service in seconds.
        transport: What carries the requests; None: the network.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        timeout_s: float = _TIMEOUT_S,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        options = http_options(url, api_key, timeout_s)
        self._http = httpx2.AsyncClient(**options, transport=transport)
        self._retry = retry or RetryPolicy()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --- videos -------------------------------------------------------------------------------------

    async def animate(
        self,
        image: Media | Sequence[Media] | None,
        audio: Media | None,
        output: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        **chosen: Any,
    ) -> Path:
        """Make a video and save it.

        Args:
            image: The portrait, or several pictures of the same person; None beside a `video`.
            audio: The voice; None beside `text` or `seconds`.
            output: Where the MP4 goes; what is there is replaced once the video is complete.
            on_progress: Called with the job about once a second, and at its end.
            timeout_s: Give up after so many seconds; the job goes on.
            idempotency_key: The same word for the same video finds a job that exists already.
            chosen: `video` and `driving_video`, and options by the names that the API has.

        Returns:
            `output`.

        Raises:
            ApiError: The service refused the request.
            JobEndedError: The job failed or was cancelled.
            UnreachableError: No answer came.
            TimeoutError: The job has not ended in time.
        """
        return await self._run(
            steps.animate(
                make_form(image, audio, chosen),
                Path(output),
                self._retry,
                idempotency_key=idempotency_key,
                on_progress=on_progress,
                timeout_s=timeout_s,
            )
        )

    async def submit(
        self,
        image: Media | Sequence[Media] | None = None,
        audio: Media | None = None,
        *,
        wait_s: float = 0,
        idempotency_key: str | None = None,
        **chosen: Any,
    ) -> JobPublic:
        """Make a job; the answer is the accepted job, or with `wait_s` perhaps the ended one.

        Raises:
            ApiError: The service refused the request.
            UnreachableError: No answer came.
        """
        form = make_form(image, audio, chosen)
        return await self._run(
            steps.submit(form, self._retry, idempotency_key=idempotency_key, wait_s=wait_s)
        )

    # --- jobs ---------------------------------------------------------------------------------------

    async def job(self, job_id: str, *, wait_s: float = 0) -> JobPublic:
        """A job as it stands, or as it ends within `wait_s` seconds (at most 60)."""
        return await self._run(steps.get_job(job_id, self._retry, wait_s=wait_s))

    async def wait(
        self,
        job_id: str,
        *,
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
    ) -> JobPublic:
        """A job when it has ended, well or not.

        Raises:
            TimeoutError: It has not ended in time.
        """
        return await self._run(
            steps.wait_for_end(job_id, self._retry, on_progress=on_progress, timeout_s=timeout_s)
        )

    async def download(self, job: JobPublic | str, output: str | os.PathLike[str]) -> Path:
        """Save the video of a job; what is at `output` is replaced once the video is complete.

        Raises:
            JobEndedError: The job has no video.
            DownloadError: What came has another digest than the job says.
        """
        known = await self.job(job) if isinstance(job, str) else job
        return await self._run(steps.download(known, Path(output), self._retry))

    async def stream(self, job_id: str) -> AsyncIterator[bytes]:
        """The video of a job in pieces, while it is drawn: a fragmented MP4, or the finished file.

        Waits while the job does. Where the service shows nothing before the end, it begins then.

        Raises:
            JobEndedError: The job has no video, and will have none.
            DownloadError: The video broke off; what came until then plays.
        """
        response = await self._run(steps.watch(job_id, self._retry))
        try:
            async for piece in response.aiter_bytes():
                yield piece
        except httpx2.TransportError as error:
            raise DownloadError(f"The video of job {job_id} broke off: {error}") from error
        finally:
            await response.aclose()

    async def thumbnail(self, job_id: str) -> bytes:
        """A JPEG of a frame of the video."""
        return await self._run(steps.read_bytes(f"/v1/jobs/{job_id}/thumbnail", self._retry))

    async def cancel(self, job_id: str) -> JobPublic:
        """Stop a job."""
        return await self._run(steps.cancel(job_id, self._retry))

    async def delete(self, job_id: str) -> None:
        """Erase a job, what was sent for it, and its video."""
        await self._run(steps.delete(f"/v1/jobs/{job_id}", self._retry))

    async def jobs(self) -> AsyncIterator[JobPublic]:
        """Your jobs, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            asked = steps.page("/v1/jobs", JobPage, self._retry, limit=100, cursor=cursor)
            page = await self._run(asked)
            for job in page.data:
                yield job
            if (cursor := page.next_cursor) is None:
                return

    # --- what is kept -------------------------------------------------------------------------------

    async def create_avatar(
        self,
        image: Media | None = None,
        *,
        wait_s: float = 0,
        idempotency_key: str | None = None,
        **chosen: Any,
    ) -> AvatarPublic:
        """Keep a portrait, or with `video` a film; `avatar_id=...` of its id then takes its place.

        Args:
            image: The portrait; None beside a `video`.
            wait_s: Answer when it is prepared, or after so many seconds (at most 60).
            idempotency_key: The same word for the same avatar finds one that exists already.
            chosen: `video`, and options by the names that the API has.

        Raises:
            ApiError: The service refused it.
            UnreachableError: No answer came.
        """
        form = make_form(image, None, chosen)
        todo = steps.post("/v1/avatars", AvatarPublic, form, self._retry, idempotency_key, wait_s)
        return await self._run(todo)

    async def avatar(self, avatar_id: str) -> AvatarPublic:
        """An avatar as it stands."""
        return await self._run(steps.get(f"/v1/avatars/{avatar_id}", AvatarPublic, self._retry))

    async def avatars(self) -> AsyncIterator[AvatarPublic]:
        """Your avatars, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            asked = steps.page("/v1/avatars", AvatarPage, self._retry, limit=100, cursor=cursor)
            page = await self._run(asked)
            for avatar in page.data:
                yield avatar
            if (cursor := page.next_cursor) is None:
                return

    async def delete_avatar(self, avatar_id: str) -> None:
        """Erase an avatar; jobs that were made with it go on."""
        await self._run(steps.delete(f"/v1/avatars/{avatar_id}", self._retry))

    async def create_file(
        self, audio: Media, *, idempotency_key: str | None = None, **chosen: Any
    ) -> FilePublic:
        """Keep a voice; `audio_id=...` of its id then takes its place.

        Raises:
            ApiError: The service refused it.
            UnreachableError: No answer came.
        """
        form = make_form(None, audio, chosen)
        todo = steps.post("/v1/files", FilePublic, form, self._retry, idempotency_key)
        return await self._run(todo)

    async def file(self, file_id: str) -> FilePublic:
        """What a file is."""
        return await self._run(steps.get(f"/v1/files/{file_id}", FilePublic, self._retry))

    async def files(self) -> AsyncIterator[FilePublic]:
        """Your files, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            asked = steps.page("/v1/files", FilePage, self._retry, limit=100, cursor=cursor)
            page = await self._run(asked)
            for file in page.data:
                yield file
            if (cursor := page.next_cursor) is None:
                return

    async def delete_file(self, file_id: str) -> None:
        """Erase a file; jobs that were made with it go on."""
        await self._run(steps.delete(f"/v1/files/{file_id}", self._retry))

    async def faces(self, image: Media) -> FacesPublic:
        """The faces in a picture, and who of them would be refused; nothing is kept.

        Raises:
            ApiError: The picture cannot be used; not_ready, nobody looks at the moment.
            UnreachableError: No answer came.
        """
        form = make_form(image, None, {})
        return await self._run(steps.post("/v1/faces", FacesPublic, form, self._retry))

    # ------------------------------------------------------------------------------------------------

    async def ready(self) -> Readiness:
        """What the service has, where it is ready.

        Raises:
            ApiError: not_ready, and what is missing.
        """
        return await self._run(steps.ready(self._retry))

    # --- how steps are carried out ------------------------------------------------------------------

    async def _run(self, todo: Steps[_T]) -> _T:
        answer: Answer | None = None
        failure: httpx2.TransportError | None = None
        while True:
            try:
                step = todo.send(answer) if failure is None else todo.throw(failure)
            except StopIteration as end:
                result: _T = end.value
                return result
            answer = failure = None
            try:
                if isinstance(step, Request):
                    answer = await self._request(step)
                elif isinstance(step, Download):
                    answer = await self._download(step)
                elif isinstance(step, Watch):
                    answer = await self._watch(step)
                else:
                    await asyncio.sleep(step.seconds)
            except httpx2.TransportError as error:
                failure = error

    async def _request(self, step: Request) -> Answer:
        with step.form.opened() as files:
            response = await self._http.request(
                step.method,
                step.path,
                params=dict(step.params),
                headers=dict(step.headers),
                data=dict(step.form.data) or None,
                files=files or None,
            )
        return Answer(response.status_code, response.headers, response.content)

    async def _download(self, step: Download) -> Answer:
        async with self._http.stream("GET", step.path) as response:
            if response.status_code != 200:
                content = await response.aread()
                return Answer(response.status_code, response.headers, content)
            with step.receiving() as receive:
                async for piece in response.aiter_bytes():
                    receive(piece)
        return Answer(200, response.headers)

    async def _watch(self, step: Watch) -> Answer:
        response = await self._http.send(self._http.build_request("GET", step.path), stream=True)
        if response.status_code == 200:
            return Answer(200, response.headers, body=response)
        try:
            return Answer(response.status_code, response.headers, await response.aread())
        finally:
            await response.aclose()
