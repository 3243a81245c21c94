"""Videos are decoded after the 202: by the validator, or else by the renderer; never by the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from tests.films import film
from tests.integration.conftest import StartWorker, eventually
from tests.uploads import picture, tone
from worker.contract.ledger import Ledger
from worker.contract.presence import ProcessKind
from worker.contract.queues import open_queue


def post(client: TestClient, *files: tuple[str, bytes], **options: str) -> dict[str, Any]:
    parts = [(name, ("f", content)) for name, content in files]
    response = client.post("/v1/talking-face", files=parts, data=options)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


def dub(client: TestClient, video: bytes) -> str:
    return str(post(client, ("audio", tone(0.4)), ("video", video))["id"])


def job_of(client: TestClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return job


def names(data_dir: Path, job_id: str) -> set[str]:
    return {path.name for path in (data_dir / "artifacts" / "inputs" / job_id).iterdir()}


@pytest.fixture
def broken_late(film_bytes: bytes) -> bytes:
    """A film whose head is whole: only decoding finds that its pictures are not."""
    start = film_bytes.index(b"mdat") + 8
    spoilt = bytearray(film_bytes)
    spoilt[start : start + 4000] = bytes(4000)
    return bytes(spoilt)


@pytest.fixture(scope="session")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Takes seconds to decode."""
    path = tmp_path_factory.mktemp("film") / "long.mp4"
    return film(path, size="1280x720", seconds=12.0).read_bytes()


def test_a_video_is_stored_as_it_came_and_decoded_by_the_validator(
    client: TestClient, start_worker: StartWorker, data_dir: Path, film_bytes: bytes, ledger: Ledger
) -> None:
    ledger.presence.beat(ProcessKind.VALIDATOR, "soon")
    job = post(client, ("audio", tone(0.4)), ("video", film_bytes))
    job_id = str(job["id"])

    assert job["input"]["pending"]["files"] == ["audio", "video"]
    assert (job["input"]["audio"]["seconds"], job["input"]["video"]["width"]) == (0.4, None)
    assert job["queue_position"] == 0
    assert names(data_dir, job_id) == {"upload-audio", "upload-video", "job.json"}

    validator = start_worker("worker.validation")
    eventually(lambda: job_of(client, job_id)["input"]["pending"] is None, "it is decoded")
    decoded = job_of(client, job_id)
    assert (decoded["state"], decoded["stage"], decoded["attempt"]) == ("queued", None, 1)
    assert (decoded["input"]["video"]["width"], decoded["input"]["video"]["num_frames"]) == (
        160,
        30,
    )
    validator.wait_for("validated")
    assert names(data_dir, job_id) == {
        *("input.mkv", "speech.flac", "sound.flac"),
        *("job.json", "validated.json"),
    }
    start_worker()
    eventually(lambda: job_of(client, job_id)["state"] == "succeeded", "it is rendered")
    assert job_of(client, job_id)["attempt"] == 1


def test_what_only_decoding_finds_fails_the_job_with_the_same_problem(
    client: TestClient, start_worker: StartWorker, broken_late: bytes
) -> None:
    start_worker("worker.validation").wait_for("worker_listening")

    job_id = dub(client, broken_late)

    eventually(lambda: job_of(client, job_id)["state"] == "failed", "it cannot be decoded")
    error = job_of(client, job_id)["error"]
    assert (error["code"], error["status"]) == ("undecodable_media", 422)
    assert "video" in error["detail"]


def test_limits_of_length_hold_after_the_answer(
    client: TestClient, start_worker: StartWorker, film_bytes: bytes
) -> None:
    start_worker("worker.validation").wait_for("worker_listening")
    # The head says nothing wrong: it is the sound that turns out too short.
    job = post(client, ("audio", tone(0.1)), ("video", film_bytes))

    eventually(lambda: job_of(client, job["id"])["state"] == "failed", "it is too short")
    error = job_of(client, job["id"])["error"]
    assert error["code"] == "audio_too_short"
    assert error["params"] == {"seconds": 0.1, "min_seconds": 0.2}


@pytest.mark.parametrize("part", ["video", "driving_video"])
def test_the_renderer_decodes_where_nobody_else_does(
    client: TestClient, start_worker: StartWorker, film_bytes: bytes, data_dir: Path, part: str
) -> None:
    files = [("audio", tone(0.4)), (part, film_bytes)]
    files += [("image", picture())] if part == "driving_video" else []
    job_id = str(post(client, *files)["id"])

    start_worker()

    eventually(lambda: job_of(client, job_id)["state"] == "succeeded", "it is rendered")
    job = job_of(client, job_id)
    assert job["input"]["pending"] is None
    assert job["input"][part]["num_frames"] == 30
    assert not {"upload-audio", "upload-video"} & names(data_dir, job_id)


def test_a_broken_video_fails_in_the_renderer_too(
    client: TestClient, start_worker: StartWorker, broken_late: bytes
) -> None:
    start_worker()

    job_id = dub(client, broken_late)

    eventually(lambda: job_of(client, job_id)["state"] == "failed", "it cannot be decoded")
    job = job_of(client, job_id)
    assert (job["error"]["code"], job["attempt"]) == ("undecodable_media", 1)


def test_photographs_do_not_wait_for_videos(
    client: TestClient, redis: Redis, ledger: Ledger, film_bytes: bytes, start_worker: StartWorker
) -> None:
    ledger.presence.beat(ProcessKind.VALIDATOR, "busy for ever")
    films = [dub(client, film_bytes) for _ in range(3)]

    photograph = post(client, ("audio", tone(0.4)), ("image", picture()))

    assert open_queue(redis, "render").job_ids == [f"{photograph['id']}_1"]
    assert job_of(client, photograph["id"])["queue_position"] == 0
    start_worker()
    eventually(lambda: job_of(client, photograph["id"])["state"] == "succeeded", "it is drawn")
    assert [job_of(client, film)["state"] for film in films] == ["queued"] * 3


def test_a_portrait_with_a_driving_video_is_decoded_and_then_inspected(
    client: TestClient, ledger: Ledger, film_bytes: bytes, start_worker: StartWorker, redis: Redis
) -> None:
    ledger.presence.beat(ProcessKind.INSPECTOR, "later")
    start_worker("worker.validation").wait_for("worker_listening")

    files = [("audio", tone(0.4)), ("image", picture()), ("driving_video", film_bytes)]
    job_id = str(post(client, *files)["id"])

    eventually(lambda: open_queue(redis, "inspect").count == 1, "it waits for the inspector")
    assert job_of(client, job_id)["input"]["pending"] is None


def test_a_validator_that_is_killed_loses_nothing(
    client: TestClient, start_worker: StartWorker, long_film: bytes
) -> None:
    validator = start_worker("worker.validation", lease_s=1)
    validator.wait_for("worker_listening")
    job_id = dub(client, long_film)
    eventually(lambda: job_of(client, job_id)["stage"] == "validating", "it is being decoded")

    validator.kill()

    start_worker("service.reconciler", reconcile_every_s=0.2, lost_after_s=0.5)
    start_worker()
    eventually(lambda: job_of(client, job_id)["state"] == "succeeded", "another process did it")
    assert job_of(client, job_id)["attempt"] == 2


@pytest.mark.long
def test_a_validator_that_is_stopped_hands_its_job_back(
    client: TestClient, start_worker: StartWorker, long_film: bytes, data_dir: Path
) -> None:
    validator = start_worker("worker.validation")
    validator.wait_for("worker_listening")
    job_id = dub(client, long_film)
    eventually(lambda: job_of(client, job_id)["stage"] == "validating", "it is being decoded")

    assert validator.terminate() == 0

    job = job_of(client, job_id)
    assert (job["state"], job["stage"], job["attempt"]) == ("queued", None, 2)
    assert list((data_dir / "scratch").iterdir()) == []
    start_worker("worker.validation")
    eventually(lambda: job_of(client, job_id)["input"]["pending"] is None, "the next one did it")


def test_a_job_that_is_cancelled_is_decoded_no_further(
    client: TestClient, start_worker: StartWorker, long_film: bytes, data_dir: Path
) -> None:
    validator = start_worker("worker.validation", lease_s=1)
    validator.wait_for("worker_listening")
    job_id = dub(client, long_film)
    eventually(lambda: job_of(client, job_id)["stage"] == "validating", "it is being decoded")

    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"

    validator.wait_for("lease_lost")
    assert "input.mkv" not in names(data_dir, job_id)
