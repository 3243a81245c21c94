"""What the worker finds out about a face, with the model that ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from model.media.video import probe


@pytest.fixture(scope="module")
def model_server(run_up: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data_dir = tmp_path_factory.mktemp("model") / "data"
    with run_up(data_dir, environment={"TALKFACE_RENDERER": "pipeline"}) as up:
        yield up


def save(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def assert_failed(server: Any, answer: Any, code: str) -> None:
    assert answer.status_code == 202, answer.text
    job = server.wait_for_end(answer.json())
    assert job["state"] == "failed", job
    assert job["result"] is None
    assert job["error"]["code"] == code
    assert job["error"]["status"] == 422
    assert len(job["error"]["detail"]) > 20
    content = server.client.get(f"{job['links']['self']}/content")
    assert content.json()["code"] == "result_not_available"


def test_a_picture_without_a_face_fails_with_a_reason(
    model_server: Any, tmp_path: Path, voice: Path
) -> None:
    picture = save(skimage.data.coffee(), tmp_path / "coffee.png")

    assert_failed(model_server, model_server.post(picture, voice), "no_face_found")


def test_a_face_that_is_too_small_fails_with_a_reason(
    model_server: Any, tmp_path: Path, voice: Path
) -> None:
    small = Image.fromarray(skimage.data.astronaut()).resize((230, 230))
    picture = save(np.asarray(small), tmp_path / "small.png")

    assert_failed(model_server, model_server.post(picture, voice), "face_too_small")


def test_a_face_index_past_the_last_face_fails_with_a_reason(
    model_server: Any, portrait: Path, voice: Path
) -> None:
    answer = model_server.post(portrait, voice, face_index="3")

    assert_failed(model_server, answer, "several_faces")


def test_the_service_goes_on_and_makes_a_film(
    model_server: Any, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    answer = model_server.post(portrait, voice, preset="preview")
    job = model_server.wait_for_end(answer.json())
    assert job["state"] == "succeeded", job

    film = tmp_path / "film.mp4"
    film.write_bytes(model_server.client.get(job["links"]["content"]).content)

    info = probe(film)
    assert (info.video_codec, info.audio_codec, info.num_frames) == ("h264", "aac", 25)
