from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
import skimage.data
import soundfile
from PIL import Image

from model.errors import EncodingError, ShapeError, UnsupportedMediaError
from model.media.contact_sheet import write_contact_sheet
from model.media.ffmpeg import ffmpeg_path
from model.media.probe import probe
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter


def write_tone(path: Path, *, seconds: float, channels: int = 1, rate_hz: int = 48_000) -> Path:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = 0.4 * np.sin(2 * np.pi * 440 * times)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate_hz)
    return path


def moving_picture(index: int, *, width: int = 96, height: int = 64) -> np.ndarray:
    photograph = skimage.data.astronaut()[:height, 150 : 150 + width]
    return np.roll(photograph, 2 * index, axis=1)


def write_film(
    path: Path, *, num_frames: int = 20, fps: float = 25.0, sound: Path | None = None
) -> Path:
    with VideoWriter(path, width=96, height=64, fps=fps, sound=sound) as writer:
        for index in range(num_frames):
            writer.write(moving_picture(index))
    return path


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))


def ffmpeg_children() -> list[str]:
    children = psutil.Process().children(recursive=True)
    return [child.name() for child in children if "ffmpeg" in child.name()]


def test_a_film_with_sound_has_the_promised_properties(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", seconds=1.0, channels=2, rate_hz=44_100)

    info = probe(write_film(tmp_path / "film.mp4", num_frames=25, sound=sound))

    assert (info.width, info.height) == (96, 64)
    assert (info.num_frames, info.fps, info.duration_s) == (25, 25.0, 1.0)
    assert (info.video_codec, info.pix_fmt) == ("h264", "yuv420p")
    assert (info.audio_codec, info.audio_sample_rate_hz, info.audio_channels) == ("aac", 48_000, 2)
    assert abs(info.audio_duration_s - info.duration_s) <= 0.04
    assert info.faststart


def test_the_colours_are_tagged_as_bt709(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")

    described = subprocess.run(
        [ffmpeg_path(), "-hide_banner", "-i", str(film)], capture_output=True, text=True
    ).stderr

    # one name stands for matrix, primaries and transfer when all three agree
    assert "yuv420p(tv, bt709, progressive)" in described


def test_a_photograph_keeps_its_colours(tmp_path: Path) -> None:
    # Half size, then smoothed up again: a picture whose colour detail 4:2:0 can carry at all.
    photograph = Image.fromarray(skimage.data.astronaut()).resize((256, 256))
    picture = np.asarray(photograph.resize((512, 512), Image.Resampling.BICUBIC))
    with VideoWriter(tmp_path / "film.mp4", width=512, height=512) as writer:
        for _ in range(10):
            writer.write(picture)

    decoded = list(read_frames(tmp_path / "film.mp4"))

    assert len(decoded) == 10
    assert min(psnr_db(frame, picture) for frame in decoded) >= 40
    shift = np.mean(decoded[5].astype(np.float64) - picture, axis=(0, 1))
    assert np.abs(shift).max() < 0.5


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
def test_saturated_colours_come_back_on_small_and_large_pictures(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    # Players guess BT.601 for small and BT.709 for large untagged pictures; ours are tagged.
    width, height = size
    colours = [(200, 30, 40), (30, 180, 60), (40, 60, 200), (224, 172, 140), (128, 128, 128)]
    with VideoWriter(tmp_path / "film.mp4", width=width, height=height) as writer:
        for colour in colours:
            writer.write(np.full((height, width, 3), colour, dtype=np.uint8))

    decoded = [frame[height // 2, width // 2] for frame in read_frames(tmp_path / "film.mp4")]

    assert np.abs(np.asarray(decoded, dtype=int) - np.asarray(colours)).max() <= 3


@pytest.mark.parametrize("seconds", [0.3, 0.79, 0.8, 0.83, 3.0])
@pytest.mark.parametrize("fps", [25.0, 30.0, 29.97, 12.5, 60.0])
def test_the_sound_ends_with_the_pictures(tmp_path: Path, seconds: float, fps: float) -> None:
    sound = write_tone(tmp_path / "tone.flac", seconds=seconds)

    info = probe(write_film(tmp_path / "film.mp4", num_frames=20, fps=fps, sound=sound))

    assert info.num_frames == 20
    assert info.fps == pytest.approx(fps, rel=1e-3)
    assert info.duration_s == pytest.approx(20 / fps, abs=2e-3)
    assert abs(info.audio_duration_s - info.duration_s) <= 0.04


def test_the_sound_starts_with_the_first_frame(tmp_path: Path) -> None:
    click = np.zeros(48_000)
    click[24_000:24_480] = 0.8
    soundfile.write(tmp_path / "click.wav", click, 48_000)
    film = write_film(tmp_path / "film.mp4", num_frames=25, sound=tmp_path / "click.wav")

    command = [ffmpeg_path(), "-v", "error", "-i", str(film), "-f", "s16le", "-ac", "1", "pipe:1"]
    decoded = np.frombuffer(subprocess.run(command, capture_output=True).stdout, dtype=np.int16)

    start = int(np.argmax(np.abs(decoded) > 5_000))
    assert abs(start - 24_000) < 48_000 * 0.005


def test_a_shorter_sound_is_followed_by_silence(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", seconds=0.4)
    film = write_film(tmp_path / "film.mp4", num_frames=25, sound=sound)

    command = [ffmpeg_path(), "-v", "error", "-i", str(film), "-f", "s16le", "-ac", "1", "pipe:1"]
    decoded = np.frombuffer(subprocess.run(command, capture_output=True).stdout, dtype=np.int16)

    assert np.abs(decoded[4_800:14_400]).max() > 5_000
    assert np.abs(decoded[24_000:47_000].astype(int)).max() < 100


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_sound_keeps_its_channels(tmp_path: Path, channels: int) -> None:
    sound = write_tone(tmp_path / "tone.wav", seconds=0.8, channels=channels)

    info = probe(write_film(tmp_path / "film.mp4", sound=sound))

    assert info.audio_channels == channels


def test_metadata_of_the_sound_does_not_reach_the_film(tmp_path: Path) -> None:
    tone = write_tone(tmp_path / "tone.wav", seconds=0.8)
    tagged = tmp_path / "tagged.flac"
    command = [ffmpeg_path(), "-v", "error", "-i", str(tone), "-metadata", "title=SecretName"]
    subprocess.run([*command, str(tagged)], check=True)

    film = write_film(tmp_path / "film.mp4", sound=tagged)

    assert b"SecretName" in tagged.read_bytes()
    assert b"SecretName" not in film.read_bytes()


def test_a_film_without_sound_has_no_sound_track(tmp_path: Path) -> None:
    info = probe(write_film(tmp_path / "film.mp4"))

    assert (info.audio_codec, info.audio_channels, info.audio_duration_s) == (None, None, 0.0)
    assert info.faststart


def test_the_same_frames_make_the_same_bytes(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", seconds=0.8)

    first = write_film(tmp_path / "first.mp4", sound=sound)
    second = write_film(tmp_path / "second.mp4", sound=sound)

    assert first.read_bytes() == second.read_bytes()


def test_probe_reads_a_sound_file(tmp_path: Path) -> None:
    info = probe(write_tone(tmp_path / "tone.wav", seconds=0.5, channels=2, rate_hz=22_050))

    assert (info.video_codec, info.num_frames, info.fps) == (None, 0, 0.0)
    assert (info.audio_sample_rate_hz, info.audio_channels) == (22_050, 2)
    assert info.audio_duration_s == pytest.approx(0.5, abs=1e-3)


def test_probe_sees_that_an_index_lies_behind_the_data(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")
    slow = tmp_path / "slow.mp4"
    subprocess.run([ffmpeg_path(), "-v", "error", "-i", film, "-c", "copy", slow], check=True)

    assert probe(film).faststart
    assert not probe(slow).faststart


def test_reading_resamples_to_the_rate_asked_for(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", num_frames=30, fps=30.0)

    assert len(list(read_frames(film, fps=None))) == 30
    assert len(list(read_frames(film, fps=25.0))) == 25


def test_frames_come_back_in_order_and_upright(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", num_frames=6)
    turned = tmp_path / "turned.mp4"
    command = [ffmpeg_path(), "-v", "error", "-display_rotation", "90", "-i", str(film)]
    subprocess.run([*command, "-c", "copy", str(turned)], check=True)

    for index, frame in enumerate(read_frames(film)):
        closest = [psnr_db(frame, moving_picture(other)) for other in range(6)]
        assert int(np.argmax(closest)) == index
    assert [frame.shape for frame in read_frames(turned)] == [(96, 64, 3)] * 6


def test_a_reader_that_stops_early_leaves_no_child(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", num_frames=60)
    frames = read_frames(film)
    next(frames)

    frames.close()  # type: ignore[attr-defined]

    assert ffmpeg_children() == []


@pytest.mark.parametrize("content", [b"", b"no film at all " * 100])
def test_what_is_no_film_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)

    with pytest.raises(UnsupportedMediaError, match=r"film\.mp4"):
        probe(path)
    with pytest.raises(UnsupportedMediaError, match=r"film\.mp4"):
        next(read_frames(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        probe(tmp_path / "absent.mp4")
    with pytest.raises(FileNotFoundError, match="absent"):
        read_frames(tmp_path / "absent.mp4")


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match="cannot write"):
        VideoWriter(tmp_path / "absent" / "film.mp4", width=96, height=64)
    assert ffmpeg_children() == []


@pytest.mark.parametrize("size", [(95, 64), (96, 63), (0, 64), (-2, 64)])
def test_odd_sides_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="even sides"):
        VideoWriter(tmp_path / "film.mp4", width=size[0], height=size[1])


def test_a_sound_without_a_sound_track_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    silent = write_film(tmp_path / "silent.mp4")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and nothing more")

    for sound in (silent, broken, tmp_path / "absent.wav"):
        with pytest.raises(EncodingError, match="cannot mux the sound"):
            VideoWriter(tmp_path / "film.mp4", width=96, height=64, sound=sound)
    assert ffmpeg_children() == []
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 3), np.float32),
    ],
)
def test_a_wrong_frame_stops_everything(tmp_path: Path, frame: np.ndarray) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"what was there before")

    def write_all() -> None:
        with VideoWriter(film, width=96, height=64) as writer:
            writer.write(moving_picture(0))
            writer.write(frame)

    with pytest.raises(ShapeError, match="expected a uint8 frame"):
        write_all()

    assert ffmpeg_children() == []
    assert film.read_bytes() == b"what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_film_without_frames_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(EncodingError, match="at least one"),
        VideoWriter(tmp_path / "film.mp4", width=96, height=64),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_death_of_ffmpeg_is_reported(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "film.mp4", width=96, height=64)
    writer.write(moving_picture(0))
    for child in psutil.Process().children():
        if "ffmpeg" in child.name():
            child.kill()
            child.wait()

    def write_on() -> None:
        for index in range(2_000):
            writer.write(moving_picture(index))

    with pytest.raises(EncodingError, match="ffmpeg could not write"):
        write_on()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EncodingError, match="already closed"):
        writer.write(moving_picture(0))


def test_the_last_words_of_ffmpeg_are_told(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", seconds=0.8)
    writer = VideoWriter(tmp_path / "film.mp4", width=96, height=64, sound=sound)
    writer.write(moving_picture(0))
    sound.write_bytes(b"gone bad meanwhile")

    with pytest.raises(EncodingError, match=r"Invalid data(.|\n)*tone\.wav"):
        writer.close()

    assert [path.name for path in tmp_path.iterdir()] == ["tone.wav"]


def test_a_contact_sheet_shows_its_pictures_in_reading_order(tmp_path: Path) -> None:
    pictures = [np.full((8, 10, 3), 40 * index, np.uint8) for index in range(5)]

    write_contact_sheet(iter(pictures), tmp_path / "sheet.png", columns=3)

    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (16, 30, 3)
    assert [int(sheet[4, x, 0]) for x in (5, 15, 25)] == [0, 40, 80]
    assert [int(sheet[12, x, 0]) for x in (5, 15, 25)] == [120, 160, 255]


def test_a_contact_sheet_refuses_mixed_or_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ShapeError):
        write_contact_sheet([], tmp_path / "sheet.png", columns=3)
    mixed = [np.zeros((8, 10, 3), np.uint8), np.zeros((10, 8, 3), np.uint8)]
    with pytest.raises(ShapeError):
        write_contact_sheet(mixed, tmp_path / "sheet.png", columns=3)
