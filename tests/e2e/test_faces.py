"""What the worker finds out about a face, with the model that ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from model.media.probe import probe
from model.media.video_reader import read_frames
from tests.films import H264, ffmpeg, film

# One service for them all: starting one costs more than they do.
pytestmark = pytest.mark.xdist_group("model")


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


@pytest.fixture(scope="module")
def moving_face(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 30 frames a second: the portrait sways, and turns grey for a while."""
    path = tmp_path_factory.mktemp("media") / "moving.mp4"
    sway = "crop=270:270:x='15+12*sin(3*t)':y='15+10*cos(2*t)'"
    away = "drawbox=color=gray:t=fill:enable='between(t,0.8,1.2)'"
    ffmpeg(
        *("-loop", "1", "-framerate", "30", "-t", "2", "-i", portrait),
        *("-vf", f"{sway},{away}", "-crf", "12", *H264, path),
    )
    return path


def test_a_moving_face_is_dubbed_and_the_rest_stays(
    model_server: Any, moving_face: Path, voice: Path, tmp_path: Path
) -> None:
    files = ("video", moving_face), ("audio", voice)
    answer = model_server.post_files(*files, preset="preview", label="off")
    job = model_server.wait_for_end(answer.json())
    assert job["state"] == "succeeded", job

    dubbed = tmp_path / "dubbed.mp4"
    dubbed.write_bytes(model_server.client.get(job["links"]["content"]).content)

    # The voice lasts one second.
    info = probe(dubbed)
    assert (info.width, info.height, info.num_frames, info.fps) == (270, 270, 30, 30.0)
    assert abs(info.duration_s - info.audio_duration_s) <= 0.040
    video = job["result"]["video"]
    assert (video["source_frames"], video["looped"]) == (60, False)
    # The face is away from 0.8 s on, and one second is used.
    assert video["held_frames"]
    assert all(number >= 23 for number in video["held_frames"])
    before = np.stack(list(read_frames(moving_face, fps=30.0)))[:30].astype(int)
    after = np.stack(list(read_frames(dubbed, fps=30.0))).astype(int)
    change = np.abs(after - before)
    # Hair and wall stay but for the encoder; the mouth no longer smiles.
    assert change[:, :60].mean() < 4
    assert change[:18, 110:140, 100:150].mean() > 3 * change[:18, :60].mean()


@pytest.mark.long
def test_an_avatar_makes_the_video_that_an_upload_makes(
    model_server: Any, moving_face: Path, voice: Path, tmp_path: Path
) -> None:
    sent = {"video": ("film.mp4", moving_face.read_bytes())}
    answer = model_server.client.post("/v1/avatars", files=sent, headers={"Prefer": "wait=60"})
    avatar = answer.json()
    assert (avatar["state"], len(avatar["faces"])) == ("ready", 1)
    films = []
    for name, files, kept in (
        ("upload", [("video", moving_face)], {}),
        ("avatar", [], {"avatar_id": avatar["id"]}),
    ):
        answer = model_server.post_files(
            *files, ("audio", voice), preset="preview", label="off", **kept
        )
        job = model_server.wait_for_end(answer.json())
        assert job["state"] == "succeeded", job
        assert job["input"]["has_faces"] is (name == "avatar")
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(model_server.client.get(job["links"]["content"]).content)
        films.append(np.stack(list(read_frames(path, fps=30.0))))

    np.testing.assert_array_equal(*films)


def test_a_driving_video_moves_the_portrait(
    model_server: Any, portrait: Path, moving_face: Path, voice: Path, tmp_path: Path
) -> None:
    answer = model_server.post_files(
        *(("image", portrait), ("image", portrait), ("driving_video", moving_face)),
        ("audio", voice),
        preset="preview",
    )
    job = model_server.wait_for_end(answer.json())
    assert job["state"] == "succeeded", job

    film_path = tmp_path / "driven.mp4"
    film_path.write_bytes(model_server.client.get(job["links"]["content"]).content)

    assert probe(film_path).num_frames == 30  # the driver's rate
    frames = np.stack(list(read_frames(film_path))).astype(int)
    # The eyes go where the driver's go.
    assert np.abs(frames[18, 60:120] - frames[0, 60:120]).mean() > 3


def test_a_video_without_any_face_fails_with_a_reason(
    model_server: Any, voice: Path, tmp_path: Path
) -> None:
    video = film(tmp_path / "pattern.mp4", size="320x240", seconds=0.4)

    answer = model_server.post_files(("video", video), ("audio", voice))

    assert_failed(model_server, answer, "no_face_found")
