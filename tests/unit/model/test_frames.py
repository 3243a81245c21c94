from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import soundfile

from model.errors import UnsupportedMediaError
from model.media.frames import VideoFrames, boomerang, read_in_order
from model.media.video_reader import Frame, read_frames
from model.media.video_writer import VideoWriter

COUNT = 30


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    soundfile.write(folder / "tone.wav", np.zeros(48_000, np.float32), 48_000)
    path = folder / "film.mp4"
    picture = skimage.data.astronaut()[:64, 150:246]
    with VideoWriter(path, width=96, height=64, fps=29.97, sound=folder / "tone.wav") as writer:
        for index in range(COUNT):
            writer.write(np.roll(picture, 3 * index, axis=1))
    return path


@pytest.fixture(scope="module")
def frames(film: Path) -> list[Frame]:
    return list(read_frames(film, fps=None))


def test_a_file_says_what_it_holds(film: Path) -> None:
    source = VideoFrames(film)
    assert (source.num_frames, source.width, source.height) == (COUNT, 96, 64)
    assert source.fps == pytest.approx(29.97, rel=1e-3)


@pytest.mark.parametrize("stretch", [(0, COUNT), (0, 1), (1, 2), (7, 19), (COUNT - 1, COUNT)])
def test_any_stretch_is_exactly_those_frames(
    film: Path, frames: list[Frame], stretch: tuple[int, int]
) -> None:
    read = list(VideoFrames(film).read(*stretch))
    assert len(read) == stretch[1] - stretch[0]
    for frame, wanted in zip(read, frames[slice(*stretch)], strict=True):
        np.testing.assert_array_equal(frame, wanted)
    assert list(VideoFrames(film).read(5, 5)) == []


def test_frames_beyond_the_end_are_refused(film: Path) -> None:
    with pytest.raises(ValueError, match="0 <= start <= stop <= 30"):
        list(VideoFrames(film).read(20, 31))


def test_a_film_without_pictures_is_refused(film: Path) -> None:
    with pytest.raises(UnsupportedMediaError, match="no picture track"):
        VideoFrames(film.with_name("tone.wav"))


def test_a_film_that_breaks_off_is_named(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(film.read_bytes())
    source = VideoFrames(path)
    source.num_frames = COUNT + 5  # as an index says that lies about the data
    with pytest.raises(UnsupportedMediaError, match=r"cut\.mp4 ends at frame 30 of 35"):
        list(source.read(25, 35))


def test_a_boomerang_shows_no_frame_twice_in_a_row() -> None:
    assert boomerang(9, 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert boomerang(3, 9).tolist() == [0, 1, 2]
    assert boomerang(4, 1).tolist() == [0, 0, 0, 0]
    assert boomerang(4, 2).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "order",
    [
        boomerang(70, COUNT).tolist(),
        [0, 0, 1, 1, 2, 3, 3, 2, 2, 1],
        [29, 3, 4, 5, 5, 5, 0],
        [12],
        [],
    ],
)
def test_frames_come_in_the_order_asked_for(
    film: Path, frames: list[Frame], order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.media.frames._HELD_BYTES", 7 * 96 * 64 * 3)
    read = list(read_in_order(VideoFrames(film), order))
    assert len(read) == len(order)
    for frame, index in zip(read, order, strict=True):
        np.testing.assert_array_equal(frame, frames[index])
