"""The intake on real videos: what it takes, what it leaves, and how it refuses."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.media.frames import VideoFrames
from model.media.probe import probe
from model.media.video_reader import read_frames
from tests.films import H264, ffmpeg, film
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.file_checks import file_sha256
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.videos import VideoInfo, accept_video

LIMITS = IntakeLimits()


def frames_of(path: Path) -> NDArray[np.uint8]:
    return np.stack(list(read_frames(path, fps=None)))


def accept(upload: Path, limits: IntakeLimits = LIMITS, fps: float = 25.0) -> VideoInfo:
    return accept_video(upload, upload.with_name("input.mkv"), limits, fps)


def refused(upload: Path, limits: IntakeLimits = LIMITS) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        accept(upload, limits)
    assert caught.value.detail.endswith(".")
    assert str(upload.parent) not in caught.value.detail + str(caught.value.params)
    return caught.value


@pytest.mark.parametrize(
    ("suffix", "arguments", "demuxer"),
    [
        ("mp4", H264, "mov"),
        ("mov", H264, "mov"),
        ("mkv", H264, "matroska"),
        ("webm", ("-c:v", "libvpx"), "matroska"),
    ],
)
def test_every_frame_comes_through_without_loss(
    tmp_path: Path, suffix: str, arguments: tuple[str, ...], demuxer: str
) -> None:
    # Whatever the type, the name says nothing.
    upload = film(tmp_path / f"film.{suffix}", *arguments).rename(tmp_path / "upload")

    info = accept(upload)

    assert (info.width, info.height, info.fps, info.num_frames) == (160, 90, 25.0, 25)
    assert (info.seconds, info.format) == (1.0, demuxer)
    assert (info.bytes, info.sha256) == (upload.stat().st_size, file_sha256(upload))
    np.testing.assert_array_equal(frames_of(tmp_path / "input.mkv"), frames_of(upload))


def test_frames_are_exact_by_number_and_agree_with_what_was_told(tmp_path: Path) -> None:
    info = accept(film(tmp_path / "upload.mp4", fps="30", seconds=2), fps=30.0)

    source = VideoFrames(tmp_path / "input.mkv")

    assert (source.num_frames, source.width, source.height) == (60, info.width, info.height)
    assert source.fps == pytest.approx(30, abs=0.01)
    whole = frames_of(tmp_path / "input.mkv")
    for number in (0, 1, 29, 58, 59):
        np.testing.assert_array_equal(next(iter(source.read(number, number + 1))), whole[number])


@pytest.mark.parametrize(("fps", "num_frames"), [(25.0, 50), (12.5, 25), (60.0, 120)])
def test_any_rate_becomes_the_one_asked_for(tmp_path: Path, fps: float, num_frames: int) -> None:
    info = accept(film(tmp_path / "upload.mp4", fps="30", seconds=2), fps=fps)

    assert (info.fps, info.num_frames, info.seconds) == (fps, num_frames, 2.0)


def test_a_variable_rate_becomes_constant(tmp_path: Path) -> None:
    # One second moves, one stands still, one moves.
    gap = "setpts='if(lt(N,25),N,N+25)/25/TB'"
    upload = film(tmp_path / "upload.mp4", "-vf", gap, "-fps_mode", "vfr", *H264, seconds=2)

    info = accept(upload)

    assert info.num_frames == 75
    frames = frames_of(tmp_path / "input.mkv")
    assert (frames[26:49] == frames[25]).all()
    assert (frames[60] != frames[59]).any()


def test_a_late_first_picture_is_frame_0(tmp_path: Path) -> None:
    film(tmp_path / "film.mkv")
    ffmpeg("-itsoffset", "3", "-i", tmp_path / "film.mkv", "-c", "copy", tmp_path / "upload.mkv")

    info = accept(tmp_path / "upload.mkv")

    assert info.num_frames == 25
    np.testing.assert_array_equal(
        frames_of(tmp_path / "input.mkv"), frames_of(tmp_path / "film.mkv")
    )


def test_a_phones_rotation_is_applied(tmp_path: Path) -> None:
    film(tmp_path / "film.mp4")
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "film.mp4", "-c", "copy", tmp_path / "u.mp4")

    info = accept(tmp_path / "u.mp4")

    assert (info.width, info.height) == (90, 160)
    turned = np.rot90(frames_of(tmp_path / "film.mp4")[0], axes=(0, 1)).astype(int)
    assert np.abs(frames_of(tmp_path / "input.mkv")[0] - turned).mean() < 3


@pytest.mark.parametrize(
    ("size", "filters", "expected"),
    [
        ("400x200", "null", (160, 80)),
        ("200x400", "null", (80, 160)),
        ("101x99", "null", (100, 98)),
        ("80x80", "setsar=2", (160, 80)),
        ("100x90", "null", (100, 90)),
    ],
)
def test_sides_are_bounded_even_and_square(
    tmp_path: Path, size: str, filters: str, expected: tuple[int, int]
) -> None:
    upload = film(tmp_path / "u.webm", "-vf", filters, "-c:v", "libvpx", size=size, seconds=0.4)

    info = accept(upload, IntakeLimits(max_side=160))

    assert (info.width, info.height) == expected
    assert frames_of(tmp_path / "input.mkv").shape[1:3] == expected[::-1]


def test_sound_names_and_places_are_left_behind(tmp_path: Path) -> None:
    tone = ("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac")
    film(tmp_path / "u.mp4", *tone, *H264, "-metadata", "comment=where I live")
    assert b"where I live" in (tmp_path / "u.mp4").read_bytes()

    accept(tmp_path / "u.mp4")

    assert probe(tmp_path / "input.mkv").audio_codec is None
    assert b"where I live" not in (tmp_path / "input.mkv").read_bytes()


def test_a_single_picture_is_no_video(tmp_path: Path) -> None:
    error = refused(film(tmp_path / "upload.mp4", "-frames:v", "1", *H264))

    assert error.code is ErrorCode.VIDEO_TOO_SHORT
    assert error.params["num_frames"] == 1


def test_a_long_video_is_refused(tmp_path: Path) -> None:
    upload = film(tmp_path / "upload.mp4", seconds=2.2)

    error = refused(upload, IntakeLimits(max_video_s=2.0))

    assert (error.code, error.params) == (ErrorCode.VIDEO_TOO_LONG, {"max_seconds": 2.0})


def test_a_gap_of_an_hour_is_not_filled_for_ever(tmp_path: Path) -> None:
    gap = "setpts='if(lt(N,20),N,N+90000)/25/TB'"
    upload = film(tmp_path / "upload.mkv", "-vf", gap, "-fps_mode", "vfr", *H264)

    error = refused(upload, IntakeLimits(max_video_s=3.0))

    assert error.code is ErrorCode.VIDEO_TOO_LONG


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", tmp_path / "upload.mp4")

    error = refused(tmp_path / "upload.mp4")

    assert error.code is ErrorCode.UNDECODABLE_MEDIA
    assert "no pictures" in error.detail


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    film(tmp_path / "cover.png", "-frames:v", "1", "-c:v", "png")
    ffmpeg(
        *("-f", "lavfi", "-i", "sine=duration=1", "-i", tmp_path / "cover.png"),
        *(
            "-map",
            "0",
            "-map",
            "1",
            "-c:a",
            "aac",
            "-c:v",
            "copy",
            "-disposition:v",
            "attached_pic",
        ),
        tmp_path / "upload.mp4",
    )

    assert refused(tmp_path / "upload.mp4").code is ErrorCode.UNDECODABLE_MEDIA


@pytest.mark.parametrize(
    ("suffix", "arguments"),
    [
        ("mp4", (*H264, "-movflags", "+faststart")),
        ("mp4", H264),
        ("mkv", H264),
        ("webm", ("-c:v", "libvpx")),
    ],
)
def test_half_a_file_is_refused(tmp_path: Path, suffix: str, arguments: tuple[str, ...]) -> None:
    upload = film(tmp_path / f"upload.{suffix}", *arguments, seconds=2)
    upload.write_bytes(upload.read_bytes()[: upload.stat().st_size * 6 // 10])

    assert refused(upload).code is ErrorCode.UNDECODABLE_MEDIA


def test_a_live_recording_without_a_length_is_taken(tmp_path: Path) -> None:
    upload = film(tmp_path / "upload.webm", "-c:v", "libvpx", "-live", "1")

    assert accept(upload).num_frames == 25


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", ErrorCode.UNDECODABLE_MEDIA, id="empty"),
        pytest.param(b"a text\n" * 99, ErrorCode.UNSUPPORTED_MEDIA_TYPE, id="text"),
        pytest.param(b"RIFF\0\0\0\0AVI LIST" * 9, ErrorCode.UNDECODABLE_MEDIA, id="avi"),
        pytest.param(b"\x1a\x45\xdf\xa3" + b"\0" * 99, ErrorCode.UNDECODABLE_MEDIA, id="head-only"),
        pytest.param(b"\0\0\0\x14ftypisom\0\0\0\0isom", ErrorCode.UNDECODABLE_MEDIA, id="hollow"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, code: ErrorCode) -> None:
    (tmp_path / "upload").write_bytes(content)

    assert refused(tmp_path / "upload").code is code


def test_a_playlist_in_disguise_reads_no_other_file(tmp_path: Path) -> None:
    secret = film(tmp_path / "secret.mp4")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n".encode()
    (tmp_path / "upload").write_bytes(b"\0\0\0\x08ftyp" + playlist)

    assert refused(tmp_path / "upload").code is ErrorCode.UNDECODABLE_MEDIA


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"max_video_bytes": 100}, ErrorCode.FILE_TOO_LARGE),
        ({"max_frames_bytes": 100_000}, ErrorCode.FILE_TOO_LARGE),
        ({"max_pixels": 10_000}, ErrorCode.UNDECODABLE_MEDIA),
        ({"min_side": 100}, ErrorCode.FACE_TOO_SMALL),
        ({"video_wall_clock_s": 0.001}, ErrorCode.UNDECODABLE_MEDIA),
        ({"memory_bytes": 40 * 2**20}, ErrorCode.UNDECODABLE_MEDIA),
    ],
)
def test_bounds_hold(tmp_path: Path, changes: dict[str, int], code: ErrorCode) -> None:
    upload = film(tmp_path / "upload.mp4")

    assert refused(upload, dataclasses.replace(LIMITS, **changes)).code is code  # type: ignore[arg-type]


def test_a_full_disk_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = film(tmp_path / "upload.mp4")
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    assert refused(upload).code is ErrorCode.INSUFFICIENT_STORAGE
