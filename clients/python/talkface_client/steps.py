"""What the client does, without doing it: generators that ask for requests and pauses.

`Client` and `AsyncClient` carry the steps out, each in its way; everything that decides is here and
exists once.

    steps ──▶ Request, Download, Pause      what shall happen
          ◀── Answer, or TransportError     what came of it
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from talkface_client.errors import ApiError, DownloadError, JobEndedError, UnreachableError
from talkface_client.form import Form
from talkface_client.models import JobPublic, JobState, Problem, Readiness
from talkface_client.retries import RetryPolicy

OPEN: Final = frozenset({JobState.queued, JobState.running})
_WAIT_S: Final = 30
"""How long one request waits for a job's end."""
_PROGRESS_WAIT_S: Final = 1
"""The same, where somebody wants to hear of the progress."""
_Model = TypeVar("_Model", bound=BaseModel)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Request:
    """One request whose answer is read whole."""

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Form = field(default_factory=Form)


@dataclass(frozen=True)
class Download:
    """One request whose answer goes into a file, unless it is an error."""

    path: str
    target: Path

    @contextmanager
    def receiving(self) -> Iterator[Callable[[bytes], object]]:
        """What takes the pieces of the file, from its first byte on."""
        with self.target.open("wb") as out:
            yield out.write


@dataclass(frozen=True)
class Watch:
    """One request whose answer is handed on as it comes, unless it is an error."""

    path: str


@dataclass(frozen=True)
class Pause:
    """Nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """What came back; of a download that succeeded the content is in the file.

    `body` is what a `Watch` began to receive; whoever has it closes it.
    """

    status: int
    headers: httpx2.Headers
    content: bytes = b""
    body: httpx2.Response | None = None


Step = Request | Download | Watch | Pause
Steps = Generator[Step, Any, _T]
OnProgress = Callable[[JobPublic], None]


def send(step: Request | Download | Watch, retry: RetryPolicy) -> Steps[Answer]:
    """Send a request until it is answered with a success.

    Raises:
        ApiError: The service refused it.
        UnreachableError: No answer came, or none of this service.
    """
    began, tries = time.monotonic(), 0
    while True:
        tries += 1
        problem: ApiError | None = None
        try:
            answer: Answer = yield step
        except httpx2.TransportError as error:
            elapsed_s = time.monotonic() - began
            if (pause_s := retry.pause_s(tries, elapsed_s)) is None:
                word = str(error) or type(error).__name__
                raise UnreachableError(f"The service does not answer: {word}") from error
        else:
            if 200 <= answer.status < 300:
                return answer
            problem = _problem(answer)
            pause_s = retry.pause_s(
                tries,
                time.monotonic() - began,
                status=answer.status,
                code=problem.code if problem else None,
                retry_after_s=_retry_after_s(answer),
            )
            if pause_s is None:
                raise problem or UnreachableError(
                    f"Expected an answer of talkface, got status {answer.status} of something else."
                )
        yield Pause(pause_s)


def submit(
    form: Form, retry: RetryPolicy, *, idempotency_key: str | None, wait_s: float
) -> Steps[JobPublic]:
    """Make a job."""
    path = "/v1/talking-face"
    return (yield from post(path, JobPublic, form, retry, idempotency_key, wait_s))


def post(
    path: str,
    kind: type[_Model],
    form: Form,
    retry: RetryPolicy,
    idempotency_key: str | None = None,
    wait_s: float = 0,
) -> Steps[_Model]:
    """Send a form; what was made of it."""
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    if wait_s > 0:
        headers["Prefer"] = f"wait={wait_s:g}"
    answer = yield from send(Request("POST", path, headers=headers, form=form), retry)
    return _parsed(kind, answer)


def get(path: str, kind: type[_Model], retry: RetryPolicy) -> Steps[_Model]:
    """What is at an address."""
    return _parsed(kind, (yield from send(Request("GET", path), retry)))


def get_job(job_id: str, retry: RetryPolicy, *, wait_s: float = 0) -> Steps[JobPublic]:
    """A job as it stands now, or at its end."""
    params: dict[str, str | int] = {"wait": f"{wait_s:g}"} if wait_s > 0 else {}
    headers = {"Accept": "application/json"}
    answer = yield from send(Request("GET", f"/v1/jobs/{job_id}", params, headers), retry)
    return _parsed(JobPublic, answer)


def wait_for_end(
    job_id: str,
    retry: RetryPolicy,
    *,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
) -> Steps[JobPublic]:
    """A job when it has ended.

    Raises:
        TimeoutError: It has not ended in time.
    """
    began, wait_s = time.monotonic(), _PROGRESS_WAIT_S if on_progress else _WAIT_S
    while True:
        asked = time.monotonic()
        job = yield from get_job(job_id, retry, wait_s=wait_s)
        if on_progress is not None:
            on_progress(job)
        if job.state not in OPEN:
            return job
        if timeout_s is not None and time.monotonic() - began > timeout_s:
            raise TimeoutError(f"Job {job_id} is still {job.state} after {timeout_s:g} s.")
        # A server with too many who wait answers at once.
        yield Pause(max(0.0, min(1.0, asked + wait_s - time.monotonic())))


def download(job: JobPublic, target: Path, retry: RetryPolicy) -> Steps[Path]:
    """Save the video of a job; `target` is complete or does not change.

    Raises:
        JobEndedError: The job has no video.
        DownloadError: What came is not the video.
        OSError: The file cannot be written.
    """
    if job.result is None:
        raise JobEndedError(job)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield from send(Download(f"/v1/jobs/{job.id}/content", partial), retry)
        with partial.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if sha256 != job.result.sha256:
            raise DownloadError(
                f"Expected a video with the SHA-256 {job.result.sha256}, got one with {sha256}."
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def animate(
    form: Form,
    output: Path,
    retry: RetryPolicy,
    *,
    idempotency_key: str | None,
    on_progress: OnProgress | None,
    timeout_s: float | None,
) -> Steps[Path]:
    """Make a job, wait for it, and save its video.

    Raises:
        JobEndedError: The job has no video.
    """
    job = yield from submit(form, retry, idempotency_key=idempotency_key, wait_s=0)
    job = yield from wait_for_end(job.id, retry, on_progress=on_progress, timeout_s=timeout_s)
    if job.state is not JobState.succeeded:
        raise JobEndedError(job)
    return (yield from download(job, output, retry))


def watch(job_id: str, retry: RetryPolicy) -> Steps[httpx2.Response]:
    """Begin to watch a job's video; the response is the caller's to read and to close.

    Raises:
        JobEndedError: The job has no video, and will have none.
    """
    while True:
        try:
            answer = yield from send(Watch(f"/v1/jobs/{job_id}/stream"), retry)
        except ApiError as error:
            if error.code != "result_not_available":
                raise
            job = yield from get_job(job_id, retry)
            if job.state not in OPEN:
                # It may have ended between the two answers.
                if job.result is None:
                    raise JobEndedError(job) from error
                continue
            # It waits in a queue, or the service shows nothing before the end.
            yield Pause(error.retry_after_s or 1.0)
        else:
            assert answer.body is not None  # of a Watch that succeeded
            return answer.body


def cancel(job_id: str, retry: RetryPolicy) -> Steps[JobPublic]:
    """Stop a job."""
    answer = yield from send(Request("POST", f"/v1/jobs/{job_id}/cancel"), retry)
    return _parsed(JobPublic, answer)


def delete(path: str, retry: RetryPolicy) -> Steps[None]:
    """Erase what is at an address, and everything of it."""
    yield from send(Request("DELETE", path), retry)


def page(
    path: str, kind: type[_Model], retry: RetryPolicy, *, limit: int, cursor: str | None
) -> Steps[_Model]:
    """A page of what is the caller's at an address, newest first."""
    params: dict[str, str | int] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
    return _parsed(kind, (yield from send(Request("GET", path, params), retry)))


def read_bytes(path: str, retry: RetryPolicy) -> Steps[bytes]:
    """What lies at an address."""
    answer = yield from send(Request("GET", path), retry)
    return answer.content


def ready(retry: RetryPolicy) -> Steps[Readiness]:
    """What the service has, where it is ready."""
    answer = yield from send(Request("GET", "/readyz"), retry)
    return _parsed(Readiness, answer)


def _parsed(kind: type[_Model], answer: Answer) -> _Model:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise UnreachableError(f"The answer is no {kind.__name__} of talkface: {error}") from error


def _problem(answer: Answer) -> ApiError | None:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return None  # of a proxy, or of another service
    return ApiError(problem, _retry_after_s(answer))


def _retry_after_s(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
