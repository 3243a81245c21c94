"""Films keep their rate: as a fraction, as the mean of uneven times, within 10 to 60."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest

from model.media.frames import VideoFrames
from model.media.probe import probe
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter
from tests.films import H264, ffmpeg, film
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.probes import probe_video
from worker.contract.intake.rates import exact_rate
from worker.contract.intake.videos import VideoInfo, accept_video

LIMITS = IntakeLimits()
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")


def accept(upload: Path, fps: float | None = None) -> VideoInfo:
    return accept_video(upload, upload.with_name("input.mkv"), LIMITS, fps)


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (23.976, "24000/1001"),
        (23.98, "24000/1001"),
        (29.97, "30000/1001"),
        (30000 / 1001, "30000/1001"),
        (59.94, "60000/1001"),
        (119.88, "120000/1001"),
        *((float(whole), whole) for whole in (10, 12, 15, 24, 25, 30, 48, 50, 60)),
        (12.5, "25/2"),
        (24.31, "2431/100"),
    ],
)
def test_a_rate_means_the_fraction_that_it_is_written_for(fps: float, exact: str) -> None:
    assert exact_rate(fps) == Fraction(exact)
    assert exact_rate(float(exact_rate(fps))) == Fraction(exact)


@pytest.mark.parametrize(
    ("rate", "suffix", "codec"),
    [
        ("24000/1001", "mp4", H264),
        ("30000/1001", "webm", VP8),  # its clock ticks in milliseconds
        ("30000/1001", "avi", ("-c:v", "mpeg4")),
        ("50", "ts", H264),
        ("60000/1001", "mov", H264),
        ("15", "mkv", H264),
    ],
)
def test_a_film_keeps_its_rate_to_the_fraction(
    tmp_path: Path, rate: str, suffix: str, codec: tuple[str, ...]
) -> None:
    upload = film(tmp_path / f"film.{suffix}", *codec, fps=rate, seconds=0.7)
    own = len(list(read_frames(upload, fps=None)))

    info = accept(upload)

    assert info.fps == float(Fraction(rate))
    assert (info.num_frames, info.notes) == (own, ())
    assert probe_video(upload, LIMITS, "video").fps == info.fps


@pytest.mark.parametrize(("rate", "kept"), [("120", "60"), ("120000/1001", "60000/1001")])
def test_more_than_sixty_frames_are_halved_and_it_is_told(
    tmp_path: Path, rate: str, kept: str
) -> None:
    info = accept(film(tmp_path / "film.mp4", *H264, fps=rate, seconds=0.5))

    assert info.fps == float(Fraction(kept))
    assert info.num_frames == 30
    assert len(info.notes) == 1 and "at most 60" in info.notes[0]


def test_fewer_than_ten_frames_are_doubled_and_it_is_told(tmp_path: Path) -> None:
    info = accept(film(tmp_path / "film.gif", "-c:v", "gif", fps="5"))

    assert (info.fps, info.num_frames) == (10.0, 10)
    assert "at least 10" in info.notes[0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_uneven_times_have_their_mean_and_it_is_told(tmp_path: Path, suffix: str) -> None:
    # Fifty pictures at 50 a second, and fifty at 12.5: 100 in five seconds.
    times = "setpts='if(lt(N,50),N,50+4*(N-50))/50/TB'"
    codec = ("-vf", times, "-fps_mode", "vfr", *H264)
    upload = film(tmp_path / f"film.{suffix}", *codec, fps="50", seconds=2)

    info = accept(upload)

    assert info.fps == pytest.approx(99 / 4.92, abs=0.1)
    assert info.seconds == pytest.approx(5.0, abs=0.1)
    assert "uneven" in info.notes[0]


def test_a_rate_that_was_asked_for_is_kept_to(tmp_path: Path) -> None:
    info = accept(film(tmp_path / "film.mp4", fps="30000/1001"), 29.97)

    assert (info.fps, info.num_frames) == (30000 / 1001, 30)


def test_a_written_film_has_the_fraction_in_its_time_base(tmp_path: Path) -> None:
    accept(film(tmp_path / "film.mkv", fps="30000/1001", seconds=2))
    source = VideoFrames(tmp_path / "input.mkv", 30000 / 1001)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=3", "-ar", "48000", tmp_path / "a.flac")

    made = tmp_path / "made.mp4"
    with VideoWriter(
        made, width=160, height=90, fps=source.fps, sound=tmp_path / "a.flac"
    ) as writer:
        for frame in source.read(0, source.num_frames):
            writer.write(frame)

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(made)]
    listed = subprocess.run(
        [*command, "-map", "0:v", "-c", "copy", "-f", "framecrc", "-"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert "#tb 0: 1/30000" in listed
    packets = [line.split(",") for line in listed.splitlines() if line[0] != "#"]
    assert sorted(int(packet[2]) for packet in packets) == [1001 * n for n in range(60)]
    assert probe(made).audio_duration_s == pytest.approx(60 * 1001 / 30000, abs=0.022)
