"""A video in place of a portrait, a driving video and further images, over HTTP to the MP4."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from model.media.probe import probe
from tests.films import film
from tests.integration.conftest import ID, StartWorker, eventually, new_record
from tests.uploads import picture, tone
from worker.contract.ledger import Ledger

Parts = list[tuple[str, tuple[str, bytes]]]


def post(client: TestClient, *parts: tuple[str, bytes], **options: str) -> Any:
    """Send files; a name may come several times."""
    files: Parts = [(name, ("../name", content)) for name, content in parts]
    return client.post("/v1/talking-face", files=files, data=options)


def finished(client: TestClient, accepted: Any) -> dict[str, Any]:
    assert accepted.status_code == 202, accepted.text
    url = accepted.json()["links"]["self"]
    eventually(lambda: client.get(url).json()["state"] in ("succeeded", "failed"), "the job ends")
    job: dict[str, Any] = client.get(url).json()
    assert job["state"] == "succeeded", job
    return job


def test_a_video_is_dubbed(
    client: TestClient, start_worker: StartWorker, film_bytes: bytes, data_dir: Path, tmp_path: Path
) -> None:
    start_worker()
    audio = ("audio", tone(1.6))

    job = finished(client, post(client, audio, ("video", film_bytes), fps="20"))

    assert job["input"]["image"] is None
    assert job["input"]["video"] == {
        "width": 160,
        "height": 90,
        "fps": 20.0,
        "num_frames": 20,
        "seconds": 1.0,
        "format": "mov",
        "bytes": len(film_bytes),
        "sha256": hashlib.sha256(film_bytes).hexdigest(),
        "dubbed": None,
        "notes": [],
    }
    assert job["result"]["video"] == {
        "source_frames": 20,
        "held_frames": [],
        "looped": True,
        "audio_offset_ms": None,
    }
    assert job["result"]["num_frames"] == 32
    (tmp_path / "out.mp4").write_bytes(client.get(job["result"]["url"]).content)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.num_frames) == (160, 90, 32)
    assert (info.duration_s, info.audio_duration_s) == (1.6, pytest.approx(1.6, abs=0.04))
    kept = {path.name for path in (data_dir / "artifacts" / "inputs" / job["id"]).iterdir()}
    assert kept == {"input.mkv", "speech.flac", "sound.flac", "job.json", "validated.json"}


def test_parts_of_a_film_at_its_own_rate(
    client: TestClient, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker()
    moving = film(tmp_path / "film.mp4", fps="30000/1001", seconds=2).read_bytes()

    accepted = post(
        client,
        ("audio", tone(0.5)),
        ("video", moving),
        ranges="1-1.5",
        audio_for="ranges",
        frame="square",
    )
    assert accepted.json()["input"]["options"]["fps"] == 30000 / 1001
    job = finished(client, accepted)

    told = job["input"]
    assert (told["options"]["ranges"], told["options"]["frame"]) == ([[1.0, 1.5]], "square")
    assert (told["video"]["fps"], told["video"]["dubbed"]) == (30000 / 1001, [[1.0, 1.5]])
    assert told["audio"]["seconds"] == pytest.approx(told["video"]["seconds"], abs=0.002)
    assert any("no sound of its own" in note for note in told["audio"]["notes"])
    assert (job["result"]["fps"], job["result"]["num_frames"]) == (30000 / 1001, 60)


def test_ranges_that_only_decoding_can_judge_fail_the_job(
    client: TestClient, start_worker: StartWorker, film_bytes: bytes
) -> None:
    start_worker()

    accepted = post(client, ("audio", tone(0.5)), ("video", film_bytes), ranges="0.6-0.9")
    assert accepted.status_code == 202
    url = accepted.json()["links"]["self"]
    eventually(lambda: client.get(url).json()["state"] == "failed", "the job fails")

    error = client.get(url).json()["error"]
    assert (error["status"], error["code"]) == (422, "invalid_options")
    assert "begins behind the end of the audio" in error["detail"]


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"ranges": "3-1"}, "ranges", "ends before it begins"),
        ({"ranges": "0.1-0.5,0.4-0.8"}, "ranges", "overlap"),
        ({"ranges": "0-60"}, "ranges", "behind the end of the video"),
        ({"audio_for": "ranges"}, "audio_for", "none were sent"),
        ({"ranges": "0-0.5", "video_longer": "keep"}, "video_longer", "all of the video is kept"),
        ({"video_shorter": "sideways"}, "video_shorter", "bounce"),
        ({"frame": "round"}, "frame", "square"),
    ],
)
def test_parts_that_make_no_sense_are_told_at_once(
    client: TestClient,
    redis: Redis,
    film_bytes: bytes,
    options: dict[str, str],
    field: str,
    words: str,
) -> None:
    response = post(client, ("audio", tone(0.5)), ("video", film_bytes), **options)

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_options")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert words in problem["detail"]
    assert redis.keys("tf:*") == []


def test_a_sound_shorter_than_the_video_ends_it(
    client: TestClient, start_worker: StartWorker, film_bytes: bytes
) -> None:
    start_worker()

    job = finished(client, post(client, ("audio", tone(0.5)), ("video", film_bytes)))

    assert job["result"]["num_frames"] == 15
    assert job["result"]["video"] == {
        "source_frames": 30,
        "held_frames": [],
        "looped": False,
        "audio_offset_ms": None,
    }


def test_a_video_may_have_pictures_beside_it(
    client: TestClient, start_worker: StartWorker, film_bytes: bytes, data_dir: Path
) -> None:
    start_worker()
    images = [("image", picture(size=size)) for size in ((100, 80), (110, 80))]

    job = finished(client, post(client, ("audio", tone(0.3)), ("video", film_bytes), *images))

    assert job["input"]["image"] is None
    assert [reference["width"] for reference in job["input"]["references"]] == [100, 110]
    kept = {path.name for path in (data_dir / "artifacts" / "inputs" / job["id"]).iterdir()}
    assert kept >= {"input.mkv", "reference-1.png", "reference-2.png"}


def test_a_portrait_may_have_more_pictures_and_a_driving_video(
    client: TestClient, start_worker: StartWorker, film_bytes: bytes, data_dir: Path
) -> None:
    start_worker()
    images = [("image", picture(size=size)) for size in ((100, 80), (110, 80), (120, 80))]
    parts = [("audio", tone(0.3)), *images, ("driving_video", film_bytes)]

    job = finished(client, post(client, *parts))

    assert job["input"]["image"]["width"] == 100
    assert [reference["width"] for reference in job["input"]["references"]] == [110, 120]
    assert job["input"]["driving_video"]["num_frames"] == 30
    assert job["input"]["video"] is None
    assert job["result"]["video"] == {
        "source_frames": 30,
        "held_frames": [],
        "looped": False,
        "audio_offset_ms": None,
    }
    assert (job["result"]["width"], job["result"]["height"]) == (100, 80)
    kept = {path.name for path in (data_dir / "artifacts" / "inputs" / job["id"]).iterdir()}
    assert kept >= {"input.png", "driving.mkv", "reference-1.png", "reference-2.png"}


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (["audio"], "image"),
        (["audio", "driving_video"], "image"),
        (["image"], "audio"),
        (["video"], "audio"),
        (["audio", "video", "driving_video"], "driving_video"),
        (["audio", "image", "video", "driving_video"], "driving_video"),
        (["audio", *["image"] * 6], "image"),
        (["audio", "video", *["image"] * 5], "image"),
        (["audio", "video", "video"], "video"),
        (["audio", "audio", "image"], "audio"),
        (["audio", "image", "driving_video", "driving_video"], "driving_video"),
        (["audio", "image", "portrait"], "portrait"),
    ],
)
def test_files_that_do_not_go_together_are_told(
    client: TestClient,
    redis: Redis,
    data_dir: Path,
    film_bytes: bytes,
    names: list[str],
    field: str,
) -> None:
    contents = {"audio": tone(0.3), "video": film_bytes, "driving_video": film_bytes}

    response = post(client, *[(name, contents.get(name, picture())) for name in names])

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_options")
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["detail"].endswith(".")
    assert redis.keys("tf:*") == []
    assert not data_dir.exists() or not [p for p in data_dir.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("names", "options", "field", "other"),
    [
        (["audio", "video"], {"motion": "natural"}, "motion", "video"),
        (["audio", "video"], {"blink": "true"}, "blink", "video"),
        (["audio", "video"], {"loop": "true"}, "loop", "video"),
        (["audio", "image", "driving_video"], {"motion": "still"}, "motion", "driving_video"),
        (["audio", "image"], {"seconds": "2"}, "seconds", "audio"),
        (["image"], {}, "audio", "seconds"),
    ],
)
def test_an_option_that_does_not_go_with_the_files_is_told_and_names_both(
    client: TestClient,
    redis: Redis,
    film_bytes: bytes,
    names: list[str],
    options: dict[str, str],
    field: str,
    other: str,
) -> None:
    contents = {"audio": tone(0.3), "video": film_bytes, "driving_video": film_bytes}

    response = post(client, *[(name, contents.get(name, picture())) for name in names], **options)

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_options")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert field in problem["detail"] and other in problem["detail"]
    assert redis.keys("tf:*") == []


def test_a_photograph_listens(client: TestClient, start_worker: StartWorker) -> None:
    start_worker()

    job = finished(client, post(client, ("image", picture()), seconds="1.2", loop="true"))

    assert (job["input"]["audio"]["format"], job["input"]["audio"]["seconds"]) == ("silence", 1.2)
    chosen = job["input"]["options"]
    assert (chosen["seconds"], chosen["loop"], chosen["motion"]) == (1.2, True, None)
    assert (job["result"]["num_frames"], job["result"]["seconds"]) == (30, 1.2)


def test_more_files_than_any_job_has_are_refused(client: TestClient) -> None:
    response = post(client, *[("image", picture())] * 8)

    assert (response.status_code, response.json()["code"]) == (422, "invalid_options")


@pytest.mark.parametrize(
    ("part", "content", "status", "code"),
    [
        ("video", b"not a video", 415, "unsupported_media_type"),
        ("video", b"", 422, "undecodable_media"),
        ("video", picture(), 415, "unsupported_media_type"),
        ("driving_video", b"\0\0\0\x14ftypisom\0\0\0\0isom", 422, "undecodable_media"),
    ],
)
def test_a_bad_video_is_refused_and_leaves_nothing(
    client: TestClient,
    redis: Redis,
    data_dir: Path,
    part: str,
    content: bytes,
    status: int,
    code: str,
) -> None:
    parts = [("audio", tone(0.5)), (part, content)]
    parts += [("image", picture())] if part == "driving_video" else []

    response = post(client, *parts)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert part.replace("_", " ") in response.json()["detail"]
    assert redis.keys("tf:*") == []
    assert [path for path in data_dir.rglob("*") if path.is_file()] == []


def test_a_bad_reference_is_refused(client: TestClient) -> None:
    response = post(client, ("audio", tone(0.5)), ("image", picture()), ("image", b"no picture"))

    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_a_job_from_before_there_were_videos_is_still_shown(
    client: TestClient, ledger: Ledger, redis: Redis
) -> None:
    record = new_record()
    ledger.accept(record)
    old = record.input.model_dump_json(exclude={"video", "driving_video", "references"})
    redis.hset(f"tf:{{j}}:job:{ID}", "input", old)

    job = client.get(f"/v1/jobs/{ID}").json()

    assert job["state"] == "queued"
    assert job["input"]["image"]["width"] == 64
    assert (job["input"]["video"], job["input"]["references"]) == (None, [])


def test_the_documentation_shows_what_may_be_sent(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    form = document["paths"]["/v1/talking-face"]["post"]["requestBody"]["content"]
    fields = form["multipart/form-data"]["schema"]
    assert "of `audio`, `audio_id`, `text` and `seconds`" in fields["description"]
    assert fields["properties"]["image"]["type"] == "array"
    assert {"video", "driving_video"} <= fields["properties"].keys()
