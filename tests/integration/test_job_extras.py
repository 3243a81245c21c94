"""What a job carries beside its video: a caller's words, a small picture, and answers that wait."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.integration.conftest import StartWorker, eventually
from tests.uploads import picture, tone

FILES = {"audio": ("a.wav", tone(0.4)), "image": ("i.jpg", picture(size=(640, 480)))}


def send(client: TestClient, headers: dict[str, str] | None = None, **options: str) -> Any:
    return client.post("/v1/talking-face", files=FILES, data=options, headers=headers or {})


@pytest.mark.parametrize("prefer", ["wait=30", "respond-async, wait=30"])
def test_who_prefers_to_wait_gets_the_finished_job(
    client: TestClient, start_worker: StartWorker, prefer: str
) -> None:
    start_worker()

    answer = send(client, {"Prefer": prefer})

    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    ("prefer", "applied"), [("wait=1", "wait=1"), ("wait=soon", None), ("handling=lenient", None)]
)
def test_a_job_that_is_not_ready_in_time_is_accepted(
    client: TestClient, prefer: str, applied: str | None
) -> None:
    answer = send(client, {"Prefer": prefer})

    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers.get("preference-applied") == applied


def test_a_callers_words_come_back(client: TestClient) -> None:
    words = {"shot": "12", "Szene": "Tür"}

    job = send(client, metadata=json.dumps(words)).json()

    assert job["metadata"] == words
    assert client.get(job["links"]["self"]).json()["metadata"] == words


@pytest.mark.parametrize(
    "metadata",
    [
        "shot 12",
        '["shot"]',
        '{"shot": 12}',
        '{"": "1"}',
        json.dumps({"a": "x" * 257}),
        json.dumps({str(n): "" for n in range(17)}),
    ],
)
def test_words_that_are_no_short_strings_are_refused(client: TestClient, metadata: str) -> None:
    answer = send(client, metadata=metadata)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_options")
    assert answer.json()["errors"][0]["field"].startswith("metadata")


def test_other_words_are_another_request(client: TestClient) -> None:
    key = {"Idempotency-Key": "1"}
    first = send(client, key, metadata='{"shot": "12"}')

    again = send(client, key, metadata='{"shot": "12"}')
    other = send(client, key, metadata='{"shot": "13"}')

    assert again.json()["id"] == first.json()["id"]
    assert other.json()["code"] == "idempotency_conflict"


def test_a_video_has_a_small_picture_until_it_is_erased(
    client: TestClient, start_worker: StartWorker, data_dir: Path
) -> None:
    job = send(client).json()
    early = client.get(f"{job['links']['self']}/thumbnail")
    assert (early.status_code, early.json()["code"]) == (409, "result_not_available")
    assert job["links"]["thumbnail"] is None

    start_worker()
    self_link = job["links"]["self"]
    eventually(lambda: client.get(self_link).json()["state"] == "succeeded", "it succeeds")
    link = client.get(self_link).json()["links"]["thumbnail"]
    answer = client.get(link)

    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as small:
        assert (small.format, small.size) == ("JPEG", (320, 240))
    same = client.get(link, headers={"If-None-Match": answer.headers["etag"]})
    assert same.status_code == 304

    assert client.delete(self_link).status_code == 204
    assert client.get(link).status_code == 404
    assert not list((data_dir / "artifacts" / "results").rglob("*.jpg"))


def test_a_job_that_has_no_picture_says_so(client: TestClient, post: Callable[..., str]) -> None:
    job_id = post()
    client.post(f"/v1/jobs/{job_id}/cancel")

    answer = client.get(f"/v1/jobs/{job_id}/thumbnail")

    assert answer.json()["detail"] == "There is no picture of this job's video."
