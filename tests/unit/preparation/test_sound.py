"""Sound and pictures in step, whatever the container does with their starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.data.sound import read_sound, read_sound_in_step
from model.errors import UnsupportedMediaError
from model.media.audio import SAMPLE_RATE
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter

FLASH = 25  # frame that is white, and the moment of the click


@pytest.fixture(scope="module")
def clapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of noise-free dark film with a flash and a click at one second."""
    folder = tmp_path_factory.mktemp("clapper")
    waveform = np.zeros(2 * SAMPLE_RATE, np.float32)
    waveform[SAMPLE_RATE : SAMPLE_RATE + 400] = np.hanning(400) * np.sin(np.arange(400) / 2)
    soundfile.write(folder / "click.wav", waveform, SAMPLE_RATE)
    with VideoWriter(folder / "film.mp4", width=64, height=64, sound=folder / "click.wav") as film:
        for number in range(50):
            film.write(np.full((64, 64, 3), 255 if number == FLASH else 10, np.uint8))
    return folder


def lateness_s(film: Path) -> float:
    """How much later than the flash the click is, after `read_sound_in_step`."""
    brightness = [float(frame.mean()) for frame in read_frames(film)]
    waveform = np.abs(read_sound_in_step(film))
    click = (waveform * np.arange(len(waveform))).sum() / waveform.sum()
    return float(click / SAMPLE_RATE - int(np.argmax(brightness)) / 25)


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("plain.mp4", ("-c", "copy")),
        ("plain.mkv", ("-c:v", "copy", "-c:a", "flac")),
        ("plain.mpg", ("-c:v", "mpeg1video", "-b:v", "1M", "-c:a", "mp2")),
        ("plain.webm", ("-c:v", "libvpx", "-c:a", "libopus")),
    ],
)
def test_every_container_keeps_step(
    clapper: Path, ffmpeg: Callable[..., None], name: str, codecs: tuple[str, ...]
) -> None:
    ffmpeg("-i", clapper / "film.mp4", *codecs, clapper / name)
    assert lateness_s(clapper / name) == pytest.approx(lateness_s(clapper / "film.mp4"), abs=0.02)


@pytest.mark.parametrize("late", ["0:v", "0:a"])
def test_a_stream_that_starts_late_is_put_right(
    clapper: Path, ffmpeg: Callable[..., None], late: str
) -> None:
    film, shifted = clapper / "film.mp4", clapper / f"late_{late[-1]}.mkv"
    other = "0:a" if late == "0:v" else "0:v"
    maps = ("-map", late, "-map", other.replace("0:", "1:"))
    ffmpeg("-itsoffset", 0.28, "-i", film, "-i", film, *maps, "-c", "copy", shifted)
    moved_s = lateness_s(shifted) - lateness_s(film)
    assert moved_s == pytest.approx(-0.28 if late == "0:v" else 0.28, abs=0.021)


def test_the_sound_may_lie_in_another_file(clapper: Path) -> None:
    apart = read_sound_in_step(clapper / "film.mp4", clapper / "click.wav")
    np.testing.assert_array_equal(apart, read_sound(clapper / "click.wav"))


def test_films_without_sound_or_pictures_are_named(
    clapper: Path, ffmpeg: Callable[..., None], tmp_path: Path
) -> None:
    mute, torn = tmp_path / "mute.mp4", tmp_path / "torn.mp4"
    ffmpeg("-i", clapper / "film.mp4", "-an", "-c", "copy", mute)
    torn.write_bytes(b"nothing that ffmpeg knows")
    with pytest.raises(UnsupportedMediaError, match=r"mute\.mp4 has no sound"):
        read_sound_in_step(mute)
    with pytest.raises(UnsupportedMediaError, match=r"click\.wav shows no picture"):
        read_sound_in_step(clapper / "click.wav")
    with pytest.raises(UnsupportedMediaError, match=r"torn\.mp4"):
        read_sound_in_step(torn)
