"""What the client sends, how often, and what it makes of the answers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from service.schemas.examples import CANCELLED_JOB, QUEUED_JOB, SUCCEEDED_JOB
from talkface_client import (
    ApiError,
    Client,
    DownloadError,
    JobEndedError,
    JobPublic,
    RetryPolicy,
    UnreachableError,
)

Handler = Callable[[httpx2.Request], httpx2.Response]
QUICK = RetryPolicy(for_s=5.0, first_pause_s=0.01)


def problem(code: str, status: int, **headers: str) -> httpx2.Response:
    content = {
        "type": f"urn:talkface:problem:{code}",
        "title": code,
        "status": status,
        "detail": "Because.",
        "code": code,
        "errors": [{"field": "fps", "message": "too many"}],
    }
    return httpx2.Response(status, json=content, headers=headers)


class Server:
    """Answers in turn, the last one for ever; keeps what it was asked."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(server: Server, retry: RetryPolicy = QUICK, api_key: str | None = None) -> Client:
    return Client(
        "http://service/prefix",
        api_key=api_key,
        retry=retry,
        transport=httpx2.MockTransport(server),
    )


def test_every_try_is_the_same_request(tmp_path: Path) -> None:
    picture = tmp_path / "me.jpg"
    picture.write_bytes(b"PICTURE")
    server = Server(
        httpx2.ConnectError("refused"),
        problem("queue_full", 503),
        httpx2.Response(502, text="<html>"),
        problem("idempotency_in_progress", 409),
        httpx2.Response(202, json=QUEUED_JOB),
    )

    job = client(server).submit(picture, io.BytesIO(b"VOICE"), seed=7, loop=True)

    assert job.id == QUEUED_JOB["id"]
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert len(server.requests) == 5 and len(keys) == 1
    for request in server.requests:
        assert str(request.url) == "http://service/prefix/v1/talking-face"
        body = request.content
        assert b"PICTURE" in body and b"VOICE" in body and b'name="seed"\r\n\r\n7\r\n' in body
        assert b'name="loop"\r\n\r\ntrue\r\n' in body


def test_the_key_of_a_request_may_be_chosen() -> None:
    server = Server(httpx2.Response(202, json=QUEUED_JOB))

    client(server, api_key="tf_1").submit(b"i", b"a", idempotency_key="mine", wait_s=5)

    [request] = server.requests
    assert request.headers["idempotency-key"] == "mine"
    assert request.headers["prefer"] == "wait=5"
    assert request.headers["authorization"] == "Bearer tf_1"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem("invalid_options", 422), "invalid_options"),
        # Tomorrow is too late for who waits now.
        (problem("quota_exceeded", 429, **{"Retry-After": "40000"}), "quota_exceeded"),
    ],
)
def test_a_final_answer_is_told_at_once(answer: httpx2.Response, code: str) -> None:
    server = Server(answer)

    with pytest.raises(ApiError, match="Because") as caught:
        client(server).submit(b"i", b"a")

    assert caught.value.code == code
    assert "fps: too many" in str(caught.value)
    assert len(server.requests) == 1


def test_a_server_that_stays_away_is_given_up() -> None:
    server = Server(httpx2.ConnectError("refused"))

    with pytest.raises(UnreachableError, match="refused"):
        client(server, RetryPolicy(for_s=0.1, first_pause_s=0.02)).job("1")

    assert len(server.requests) > 2


@pytest.mark.parametrize(
    "answer",
    [httpx2.Response(200, text="<html>"), httpx2.Response(404, text="<html>nginx</html>")],
)
def test_an_answer_of_something_else_is_told(answer: httpx2.Response) -> None:
    with pytest.raises(UnreachableError, match="talkface"):
        client(Server(answer), RetryPolicy(for_s=0)).job("1")


def test_a_newer_service_is_understood() -> None:
    newer = {
        **SUCCEEDED_JOB,
        "stage": "polishing",
        "mood": "fine",
        "input": {**SUCCEEDED_JOB["input"], "options": {"preset": "ultra", "seed": -1, "glow": 2}},
    }

    job = client(Server(httpx2.Response(200, json=newer))).job("1")

    assert (job.stage, job.input.options.preset) == ("polishing", "ultra")


def test_a_missing_file_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    server = Server(httpx2.Response(202, json=QUEUED_JOB))

    with pytest.raises(FileNotFoundError):
        client(server).submit(tmp_path / "none.jpg", b"a")

    assert server.requests == []


def test_progress_is_told_until_the_end() -> None:
    states = [QUEUED_JOB, {**QUEUED_JOB, "state": "running", "progress": 0.5}, SUCCEEDED_JOB]
    told: list[JobPublic] = []

    client(Server(*(httpx2.Response(200, json=state) for state in states))).wait(
        "1", on_progress=told.append
    )

    assert [job.progress for job in told] == [0.0, 0.5, 1.0]


def test_a_video_is_watched_once_there_is_something_to_see() -> None:
    queued = httpx2.Response(200, json=QUEUED_JOB)
    server = Server(
        problem("result_not_available", 409, **{"Retry-After": "0"}),
        queued,
        httpx2.Response(200, content=b"HEAD-FRAGMENT"),
    )

    assert b"".join(client(server).stream("1")) == b"HEAD-FRAGMENT"
    assert [request.url.path.rpartition("/")[2] for request in server.requests] == [
        "stream",
        "1",
        "stream",
    ]


def test_a_job_without_a_video_cannot_be_watched() -> None:
    cancelled = httpx2.Response(200, json=CANCELLED_JOB)
    server = Server(problem("result_not_available", 409), cancelled)

    with pytest.raises(JobEndedError):
        next(client(server).stream("1"))


def test_a_video_that_breaks_off_is_no_whole_video() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"HEAD"
        raise httpx2.RemoteProtocolError("incomplete chunked read")

    server = Server(httpx2.Response(200, content=pieces()))
    stream = client(server).stream("1")

    assert next(stream) == b"HEAD"
    with pytest.raises(DownloadError, match="incomplete"):
        next(stream)
