"""A problem with a file says which form field the file came in, at once or when the job fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.films import film
from tests.integration.conftest import MakeClient, StartWorker, eventually
from tests.uploads import picture, tone

TEXT = b"This is neither a picture nor a sound. " * 30
GOOD = {"audio": tone(0.4), "image": picture()}


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"image": TEXT}, "unsupported_media_type", "image"),
        ({"image": picture()[:400]}, "undecodable_media", "image"),
        ({"image": picture(size=(40, 30))}, "face_too_small", "image"),
        ({"image": b""}, "undecodable_media", "image"),
        ({"image": picture() + bytes(2**20)}, "file_too_large", "image"),
        ({"audio": TEXT}, "unsupported_media_type", "audio"),
        ({"audio": tone(0.05)}, "audio_too_short", "audio"),
        ({"audio": tone(3)}, "audio_too_long", "audio"),
        ({"driving_video": TEXT}, "unsupported_media_type", "driving_video"),
    ],
)
def test_a_refused_file_is_named(
    make_client: MakeClient, changes: dict[str, bytes], code: str, field: str
) -> None:
    client = make_client(max_image_bytes=2**20, max_audio_s=2.0)
    files = {name: ("f", data) for name, data in (GOOD | changes).items()}

    answer = client.post("/v1/talking-face", files=files)

    problem = answer.json()
    assert problem["code"] == code, answer.text
    assert problem["errors"] == [{"field": field, "message": problem["detail"]}]


def test_a_film_that_fails_later_is_named_in_the_job(
    client: TestClient, start_worker: StartWorker, tmp_path: Path
) -> None:
    short = film(tmp_path / "short.mp4", seconds=0.08).read_bytes()
    files = {"audio": ("a", tone(0.4)), "video": ("v", short)}
    answer = client.post("/v1/talking-face", files=files)
    assert answer.status_code == 202, answer.text

    # Where nobody validates the renderer decodes.
    start_worker()

    path = answer.headers["location"]
    eventually(lambda: client.get(path).json()["state"] == "failed", "the film is refused")
    problem = client.get(path).json()["error"]
    assert problem["code"] == "video_too_short"
    assert problem["errors"] == [{"field": "video", "message": problem["detail"]}]
