"""The visible label: legible on anything, small, in one corner, and nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.media.label import TEXTS, Label
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter

SIZES = [(640, 640), (1280, 720), (406, 720)]


def luminance(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Relative luminance of sRGB pixels, as WCAG 2.2 defines it."""
    linear = rgb / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    weighted: NDArray[np.float64] = linear @ np.array([0.2126, 0.7152, 0.0722])
    return weighted


def picture(kind: str, width: int, height: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    level = {"white": 255, "black": 0, "grey": 128, "yellow": (255, 255, 0)}[kind]
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("kind", ["white", "black", "grey", "yellow", "noise"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_letters_stand_out_from_the_plate_on_any_picture(
    kind: str, width: int, height: int
) -> None:
    frame, label = picture(kind, width, height), Label(width, height)
    label.apply(frame, 0)
    x0, y0, x1, y1 = label.box_xyxy
    seen = luminance(frame[y0:y1, x0:x1])
    # The plate between letters and edge, without its round corners; and the bodies of the letters.
    edge = seen[2:4, seen.shape[1] // 4 : -seen.shape[1] // 4]

    assert (np.percentile(seen, 99.5) + 0.05) / (edge.max() + 0.05) >= 4.5


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_is_small_and_changes_nothing_else(width: int, height: int) -> None:
    frame = picture("noise", width, height)
    before, label = frame.copy(), Label(width, height)

    label.apply(frame, 0)

    x0, y0, x1, y1 = label.box_xyxy
    assert x1 < width / 2 and y1 < height / 8
    assert (x1 - x0) * (y1 - y0) < 0.02 * width * height
    changed = np.any(frame != before, axis=2)
    assert changed[y0:y1, x0:x1].any()
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_every_language_has_letters_of_its_own() -> None:
    drawn = set()
    for language in TEXTS:
        for is_edited in (False, True):
            frame = picture("black", 640, 360)
            Label(640, 360, language=language, is_edited=is_edited).apply(frame, 0)
            drawn.add(frame.tobytes())

    texts = {texts[number] for texts in TEXTS.values() for number in (0, 1)}
    assert len(drawn) == len(texts)


def test_a_language_without_a_text_is_told() -> None:
    with pytest.raises(ValueError, match="no text in 'tlh'; choose one of en, cs"):
        Label(640, 360, language="tlh")


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 300), (20, 8)])
def test_a_tiny_video_gets_what_fits(size: tuple[int, int]) -> None:
    frame = picture("white", *size)

    Label(*size, language="pl").apply(frame, 0)

    assert (frame != 255).any()


def test_an_intro_ends() -> None:
    label = Label(640, 360, num_frames=3)
    seen = []
    for number in range(5):
        frame = picture("white", 640, 360)
        label.apply(frame, number)
        seen.append(bool((frame != 255).any()))

    assert seen == [True, True, True, False, False]


def test_the_writer_marks_a_copy(tmp_path: Path) -> None:
    frame = picture("grey", 320, 180)
    label = Label(320, 180)

    with VideoWriter(tmp_path / "film.mp4", width=320, height=180, marks=[label]) as writer:
        for _ in range(3):
            writer.write(frame)

    assert (frame == 128).all()
    x0, y0, x1, y1 = label.box_xyxy
    for shown in read_frames(tmp_path / "film.mp4", fps=None):
        assert shown[y0:y1, x0:x1].min() < 60 and shown[y0:y1, x0:x1].max() > 200
        away = shown[y1 + 16 :].astype(int)
        assert np.abs(away - 128).max() <= 3


def test_frames_of_another_size_are_refused_as_ever(tmp_path: Path) -> None:
    with (
        pytest.raises(ShapeError),
        VideoWriter(
            tmp_path / "film.mp4", width=320, height=180, marks=[Label(320, 180)]
        ) as writer,
    ):
        writer.write(picture("grey", 180, 320))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    tags = {"title": "Talking face", "comment": "Synthetic media: généré"}

    with VideoWriter(path, width=64, height=64, tags=tags) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))

    described = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", path],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "title           : Talking face" in described
    assert "comment         : Synthetic media: généré" in described
