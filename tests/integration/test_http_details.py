"""HEAD, conditional requests and forms, as RFC 9110 and a careful client have them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from tests.integration.conftest import StartWorker, eventually
from tests.uploads import picture, tone


@pytest.fixture
def video(client: TestClient, start_worker: StartWorker, post: Callable[..., str]) -> str:
    """Path of a finished video."""
    job_id = post(0.3)
    start_worker()
    eventually(
        lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "succeeded", "it is drawn"
    )
    return f"/v1/jobs/{job_id}/content"


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/events", "/metrics", "/openapi.json"],
)
def test_head_is_wherever_get_is(client: TestClient, post: Callable[..., str], path: str) -> None:
    answer = client.head(path.format(id=post()))

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"]
    assert client.head("/v1/jobs/none").status_code == 404
    assert client.put("/v1/jobs").headers["allow"] == "GET, HEAD"


def test_a_head_tells_of_the_whole_video_and_any_copy_is_current(
    client: TestClient, video: str
) -> None:
    whole = client.get(video)

    head = client.head(video, headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert "content-range" not in head.headers
    assert client.get(video, headers={"If-None-Match": "*"}).status_code == 304
    part = client.get(video, headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)


def send(client: TestClient, data: list[tuple[str, str]], name: str = "i.jpg") -> tuple[int, str]:
    boundary = "b0undary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in data
    ]
    for field, filename, content in (("audio", "a.wav", tone(0.3)), ("image", name, picture())):
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"'
        )
        parts.append(f"{head}\r\n\r\n".encode() + content + b"\r\n")
    answer = client.post(
        "/v1/talking-face",
        content=b"".join(parts) + f"--{boundary}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    return answer.status_code, answer.text


def test_an_option_that_is_sent_twice_is_refused(client: TestClient) -> None:
    assert send(client, [("seed", "1")])[0] == 202
    status, text = send(client, [("seed", "1"), ("seed", "2")])

    assert status == 422 and "This option was sent twice" in text


def test_a_file_name_that_is_too_long_is_told(client: TestClient) -> None:
    status, text = send(client, [], name="i" * 5000)

    assert status == 400 and "name is too long. Shorten the name" in text


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_another_kind_of_body_is_told_which_kind_is_taken(
    client: TestClient, content_type: str
) -> None:
    answer = client.post("/v1/talking-face", content=b"{}", headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert f"The body is {content_type}; expected multipart/form-data" in answer.json()["detail"]
    assert answer.headers["accept-post"] == "multipart/form-data"
