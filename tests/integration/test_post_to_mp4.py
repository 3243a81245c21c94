"""The whole road over HTTP: POST, queue, worker process, MP4."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from tests.integration.conftest import StartWorker, eventually
from tests.uploads import picture, tone

PostJob = Callable[..., str]


def state_of(client: TestClient, job_id: str) -> str:
    return str(client.get(f"/v1/jobs/{job_id}").json()["state"])


def finished(client: TestClient, job_id: str) -> dict[str, Any]:
    eventually(lambda: state_of(client, job_id) in ("succeeded", "failed"), "the job ends")
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return job


def test_a_portrait_and_a_voice_become_an_mp4(
    client: TestClient, start_worker: StartWorker
) -> None:
    worker = start_worker()
    accepted = client.post(
        "/v1/talking-face",
        files={
            "audio": ("../../etc/passwd", tone(1.2), "audio/wav"),
            "image": ("portrait.jpg", picture(size=(97, 80)), "image/jpeg"),
        },
        data={"seed": "7", "preset": "fast", "fps": "20"},
        headers={"X-Request-ID": "follow-me"},
    )
    assert accepted.status_code == 202
    assert accepted.headers["retry-after"].isdecimal()
    job_id = accepted.json()["id"]
    assert accepted.headers["location"] == accepted.json()["links"]["self"] == f"/v1/jobs/{job_id}"
    assert accepted.json()["state"] == "queued"
    assert accepted.json()["links"]["content"] is None

    job = finished(client, job_id)

    assert job["state"] == "succeeded", job
    assert job["object"] == "job"
    assert job["progress"] == 1.0
    assert job["frames"] == {"done": 24, "total": 24}
    assert job["stage"] is None
    assert job["error"] is None
    assert job["attempt"] == 1
    assert job["input"]["options"] == {
        "seed": 7,
        "preset": "fast",
        "num_inference_steps": None,
        "fps": 20.0,
        "face_index": 0,
        "check_face": True,
        "lip_strength": 1.0,
        "motion": None,
        "blink": True,
        "loop": False,
        "seconds": None,
        "audio_offset_ms": 0,
        "ranges": None,
        "audio_for": "film",
        "video_shorter": "bounce",
        "video_longer": "cut",
        "frame": "source",
        "label": None,
        "label_language": None,
    }
    assert job["input"]["audio"]["seconds"] == 1.2
    assert (job["input"]["image"]["width"], job["input"]["image"]["height"]) == (98, 80)
    assert job["input"]["audio"]["sha256"] == hashlib.sha256(tone(1.2)).hexdigest()
    assert {"queued", "generating", "encoding", "total"} <= job["timings_s"].keys()
    result = job["result"]
    assert (result["width"], result["height"], result["fps"]) == (98, 80, 20.0)
    assert result["model_name"] == "test-card"
    assert result["url"] == job["links"]["content"]
    assert "key" not in result
    # One id from the request to the worker's log.
    assert '"request_id": "follow-me"' in worker.log()

    video = client.get(f"/v1/jobs/{job_id}", headers={"Accept": "video/mp4"})

    assert video.headers["content-type"] == "video/mp4"
    assert video.content[4:8] == b"ftyp"
    assert len(video.content) == result["bytes"]
    assert hashlib.sha256(video.content).hexdigest() == result["sha256"]
    assert video.headers["etag"] == f'"{result["sha256"]}"'
    assert video.headers["vary"] == "Accept"
    assert f"talkface-{job_id}.mp4" in video.headers["content-disposition"]


def test_the_video_is_served_to_players(
    client: TestClient, start_worker: StartWorker, post: PostJob
) -> None:
    start_worker()
    job_id = post(0.5)
    result = finished(client, job_id)["result"]
    url, etag = result["url"], f'"{result["sha256"]}"'
    whole = client.get(url, headers={"Accept": "*/*"}).content

    part = client.get(url, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, whole[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole)}"
    tail = client.get(url, headers={"Range": "bytes=-50", "If-Range": etag})
    assert (tail.status_code, tail.content) == (206, whole[-50:])
    changed = client.get(url, headers={"Range": "bytes=-50", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole)
    known = client.get(url, headers={"If-None-Match": f'"x", {etag}'})
    assert (known.status_code, known.content) == (304, b"")
    behind = client.get(url, headers={"Range": f"bytes={len(whole)}-"})
    assert (behind.status_code, behind.json()["code"]) == (416, "range_not_satisfiable")
    assert behind.headers["content-range"] == f"bytes */{len(whole)}"
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole))
    assert head.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("video/mp4", "video/mp4"),
        ("video/*", "video/mp4"),
        ("video/mp4, application/json;q=0.5", "video/mp4"),
        ("application/json, video/mp4;q=0.5", "application/json"),
        ("video/mp4;q=0", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "application/json"),
    ],
)
def test_accept_decides_between_the_job_and_its_video(
    client: TestClient, finished_job: str, accept: str, kind: str
) -> None:
    response = client.get(f"/v1/jobs/{finished_job}", headers={"Accept": accept})

    assert response.status_code == 200
    assert response.headers["content-type"] == kind
    assert response.headers["vary"] == "Accept"


@pytest.fixture
def finished_job(client: TestClient, start_worker: StartWorker, post: PostJob) -> str:
    start_worker()
    job_id = post(0.3)
    finished(client, job_id)
    return job_id


def test_before_the_video_there_is_the_job(client: TestClient, post: PostJob) -> None:
    job_id = post()

    job = client.get(f"/v1/jobs/{job_id}", headers={"Accept": "video/mp4"})
    content = client.get(f"/v1/jobs/{job_id}/content")

    assert (job.status_code, job.json()["state"]) == (200, "queued")
    assert job.headers["retry-after"].isdecimal()
    assert (content.status_code, content.json()["code"]) == (409, "result_not_available")
    assert content.headers["retry-after"].isdecimal()


@pytest.mark.parametrize("path", ["", "/content"])
def test_an_unknown_job_is_not_found(client: TestClient, path: str) -> None:
    response = client.get(f"/v1/jobs/{'0' * 32}{path}")

    assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"


@pytest.mark.parametrize(
    ("files", "options", "status", "code"),
    [
        ({"image": b"not an image"}, {}, 415, "unsupported_media_type"),
        ({"image": b""}, {}, 422, "undecodable_media"),
        ({"image": picture()[:300]}, {}, 422, "undecodable_media"),
        ({"image": picture(size=(80, 40))}, {}, 422, "face_too_small"),
        ({"audio": b"not audio"}, {}, 415, "unsupported_media_type"),
        ({"audio": b""}, {}, 422, "undecodable_media"),
        ({"audio": PLAYLIST}, {}, 415, "unsupported_media_type"),
        ({"audio": tone(0.1)}, {}, 422, "audio_too_short"),
        ({"audio": picture()}, {}, 415, "unsupported_media_type"),
        ({}, {"fps": "61"}, 422, "invalid_options"),
        ({}, {"seed": "-1"}, 422, "invalid_options"),
        ({}, {"preset": "best"}, 422, "invalid_options"),
        ({}, {"callback_url": "http://example.org"}, 422, "invalid_options"),
        ({}, {"image": "text"}, 422, "invalid_options"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    client: TestClient,
    redis: Redis,
    data_dir: Path,
    files: dict[str, bytes],
    options: dict[str, str],
    status: int,
    code: str,
) -> None:
    contents = {"audio": tone(0.5), "image": picture(), **files}
    parts = {name: (name, content) for name, content in contents.items() if name not in options}

    response = client.post("/v1/talking-face", files=parts, data=options)

    assert response.status_code == status
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["detail"].endswith(".")
    if code == "invalid_options":
        assert [error["field"] for error in problem["errors"]] == list(options)
    assert redis.keys("tf:*") == []
    assert [path for path in data_dir.rglob("*") if path.is_file()] == []


def test_a_file_over_its_own_limit_is_refused(client: TestClient) -> None:
    response = client.post(
        "/v1/talking-face",
        files={"audio": tone(0.5), "image": picture() + bytes(20 * 2**20)},
    )

    assert (response.status_code, response.json()["code"]) == (413, "file_too_large")


def test_readiness_needs_a_worker(client: TestClient, start_worker: StartWorker) -> None:
    alone = client.get("/readyz")
    start_worker("service.reconciler").wait_for("reconciler_started")
    start_worker().wait_for("worker_listening")

    assert (alone.status_code, alone.json()["code"]) == (503, "not_ready")
    assert alone.json()["params"]["redis"] is True
    eventually(lambda: client.get("/readyz").status_code == 200, "a worker is counted")
    assert client.get("/readyz").json()["live_workers"] == 1


def test_the_documentation_names_every_answer(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    assert set(paths) == {
        "/v1/talking-face",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/content",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/stream",
        "/v1/jobs/{job_id}/thumbnail",
        "/v1/jobs/{job_id}/cancel",
        "/v1/jobs/{job_id}/webhook",
        "/v1/webhook-secret",
        "/v1/avatars",
        "/v1/avatars/{avatar_id}",
        "/v1/files",
        "/v1/files/{file_id}",
        "/v1/faces",
        "/v1/verify",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    form = paths["/v1/talking-face"]["post"]["requestBody"]["content"]
    assert list(form) == ["multipart/form-data"]
    for operation in (paths["/v1/jobs/{job_id}"]["get"], paths["/v1/talking-face"]["post"]):
        problems = {status for status in operation["responses"] if status >= "400"}
        assert problems
        for status in problems:
            assert "application/problem+json" in operation["responses"][status]["content"]
