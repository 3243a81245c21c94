"""The inspector: hopeless pictures are told while others wait."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image
from redis import Redis
from starlette.testclient import TestClient

from tests.integration.conftest import StartWorker, eventually
from tests.uploads import picture, tone


def portrait() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(skimage.data.astronaut())).save(buffer, format="PNG")
    return buffer.getvalue()


def post(client: TestClient, image: bytes, **options: str) -> str:
    files = {"audio": ("a.wav", tone(1.0)), "image": ("i", image)}
    response = client.post("/v1/talking-face", files=files, data=options)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def job_of(client: TestClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return job


@pytest.mark.long
def test_a_picture_without_a_face_is_told_behind_twenty_renders(
    client: TestClient, redis: Redis, start_worker: StartWorker
) -> None:
    # Nobody inspects yet, so these wait for a renderer, whatever they show.
    for _ in range(20):
        post(client, picture())
    start_worker("worker.inspection").wait_for("worker_listening")
    eventually(lambda: redis.zcard("tf:{j}:inspectors"), "the inspector beats")

    hopeless = post(client, picture())
    hopeful = post(client, portrait())
    too_many = post(client, portrait(), face_index="9")

    eventually(lambda: job_of(client, hopeless)["state"] == "failed", "the picture is refused")
    eventually(lambda: job_of(client, too_many)["state"] == "failed", "the choice is refused")
    eventually(lambda: redis.llen("rq:queue:render") == 21, "the portrait is sent on")
    assert job_of(client, hopeless)["error"]["code"] == "no_face_found"
    assert job_of(client, too_many)["error"]["code"] == "several_faces"
    passed = redis.hgetall(f"tf:{{j}}:job:{hopeful}")
    assert (passed[b"state"], passed[b"queue"]) == (b"queued", b"render")
    ((left, top, right, bottom),) = json.loads(passed[b"face_boxes"])
    assert 100 < left < right < 300 and 0 < top < bottom < 300, "where the astronaut's face is"


def test_an_idle_inspector_stops_on_a_signal(start_worker: StartWorker) -> None:
    inspector = start_worker("worker.inspection")
    inspector.wait_for("worker_listening")

    assert inspector.terminate() == 0
