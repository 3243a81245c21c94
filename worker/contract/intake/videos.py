"""The intake of videos: what a person moves in (dubbing), or what drives a photograph.

    upload ──▶ size, first bytes ──▶ limited ffmpeg ──▶ input.mkv
               constant frame rate, upright, square pixels, longest side at most `max_side`, even
               sides; FFV1 (lossless), every frame by itself; no sound, no metadata

Lossless, so that "pixels outside the mask equal the source frames" holds for the frames of the
upload itself where their rate, size and range (limited) need no change. That costs 0.14 MB a frame
at 1280x720 (0.45 MB with heavy noise), about twice as much as x264 at CRF 10 with key frames only,
27 ms of one core to write and 15 ms to read as RGB.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.decoder_orders import ChildLimits
from worker.contract.intake.descriptions import describe
from worker.contract.intake.file_checks import check_size, file_sha256
from worker.contract.intake.limited_child import (
    ffmpeg_reading,
    keep_waiting,
    run_limited,
)
from worker.contract.intake.limits import IntakeLimits, check_video_size, video_too_long
from worker.contract.intake.rates import FilmRate, exact_rate, measured_rate
from worker.contract.intake.sniffing import Sniffed, sniff_file
from worker.contract.intake.video_colours import Colours, find_white, read_colours

_MAX_THREADS: Final = 4
# What the demuxers say when an upload stopped half-way; what came would decode without an error.
_CUT_SHORT: Final = re.compile(r"partial file|File ended prematurely")
_FRAME_COUNT: Final = re.compile(rb"^frame=\s*(\d+)", re.MULTILINE)
_FIRST_LINE: Final = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+) ")


@dataclass(frozen=True)
class VideoInfo:
    """A normalised video: size, rate and length after it; digest and size of the bytes that came.

    `notes` are sentences for the person who sent it.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    seconds: float
    format: str
    bytes: int
    sha256: str
    notes: tuple[str, ...] = ()


def accept_video(
    source: Path,
    destination: Path,
    limits: IntakeLimits,
    fps: float | None = None,
    *,
    what: str = "video",
    on_wait: Callable[[], None] = keep_waiting,
) -> VideoInfo:
    """Check an uploaded video and write its pictures for exact access by number.

    Args:
        source: The bytes as they came.
        destination: Where the Matroska file goes.
        limits: What is tolerated.
        fps: Frames per second of the result; frames are repeated or dropped to reach it. None = the
            video's own, as `rates` says.
        what: How messages call the upload.
        on_wait: Called while it is decoded; what it raises stops that.

    Returns:
        What was written, and the upload's digest.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, video_too_short,
            video_too_long, face_too_small, insufficient_storage.
    """
    num_bytes = check_size(source, what, limits.max_video_bytes)
    sniffed = sniff_file(source, "video", what)
    described = describe(source, sniffed, limits, what)
    colours = find_white(source, sniffed, read_colours(described, what), limits, what)
    if fps is None:
        rate = measured_rate(source, sniffed, described.pictures, limits, what)
    else:
        rate = FilmRate(exact_rate(fps))
    num_frames = _write_frames(
        source, sniffed, colours, destination, limits, rate.fps, what, on_wait
    )
    seconds = float(num_frames / rate.fps)
    _check_length(seconds, num_frames, limits, what)
    width, height = _size(destination, limits, what)
    check_video_size(width, height, limits, what)
    return VideoInfo(
        width=width,
        height=height,
        fps=float(rate.fps),
        num_frames=num_frames,
        seconds=round(seconds, 3),
        format=sniffed.reader,
        bytes=num_bytes,
        sha256=file_sha256(source),
        notes=(*rate.notes, *colours.notes),
    )


def _write_frames(
    source: Path,
    sniffed: Sniffed,
    colours: Colours,
    destination: Path,
    limits: IntakeLimits,
    fps: Fraction,
    what: str,
    on_wait: Callable[[], None],
) -> int:
    """Write the normalised file; how many frames it has."""
    room = shutil.disk_usage(destination.parent).free
    max_file_bytes = min(limits.max_frames_bytes, room)
    end = run_limited(
        _ffmpeg_arguments(source, sniffed, colours, destination, limits, fps),
        ChildLimits(
            limits.memory_bytes, limits.video_cpu_s, limits.video_wall_clock_s, max_file_bytes
        ),
        what=what,
        reads=[source],
        writes=destination.parent,
        on_wait=on_wait,
    )
    if end.status == -signal.SIGXFSZ and room < limits.max_frames_bytes:
        raise IntakeError(
            ErrorCode.INSUFFICIENT_STORAGE,
            f"The server's storage has too little room for the {what}; try again later.",
        )
    if end.status == -signal.SIGXFSZ:
        raise IntakeError(
            ErrorCode.FILE_TOO_LARGE,
            f"The {what} needs more than {limits.max_frames_bytes} bytes as single frames. "
            "Send a shorter or smaller one.",
            {"limit_bytes": limits.max_frames_bytes},
        )
    if _CUT_SHORT.search(end.errors):
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} ends in the middle; a part of the file is missing. Send the whole file.",
        )
    counts = _FRAME_COUNT.findall(end.output)
    if end.status != 0 or not counts or int(counts[-1]) == 0:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} looks like {sniffed.format.name} but no pictures can be decoded from it. "
            "Save it again with a picture track and resend it.",
            {"decoder": end.words},
        )
    return int(counts[-1])


def _ffmpeg_arguments(
    source: Path,
    sniffed: Sniffed,
    colours: Colours,
    destination: Path,
    limits: IntakeLimits,
    fps: Fraction,
) -> list[str]:
    side = limits.max_side
    # The first picture is frame 0 whatever the container's clock says. `sar` makes wide pixels
    # square. A picture that fits is not scaled, and an odd side loses its last row or column
    # rather than that all pixels move.
    shrink = f"min(1,{side}/max(iw*sar,ih))"
    filters = [
        "setpts=PTS-STARTPTS",
        *colours.first_filters(),
        f"fps={fps}",
        f"scale=w='round(iw*sar*{shrink})':h='round(ih*{shrink})'"
        ":flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp",
        "setsar=1",
        "crop=w='2*trunc(iw/2)':h='2*trunc(ih/2)':x=0:y=0",
        *colours.last_filters(limits.background),
        "format=yuv420p|yuv422p|yuv444p|bgr0",
    ]
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    # One frame more than allowed is enough to see that the video is too long, and a gap in the
    # time stamps cannot be filled for ever.
    most = math.floor(limits.max_video_s * fps) + 1
    return [
        *ffmpeg_reading(
            source,
            sniffed.reader,
            start=sniffed.start,
            threads=threads,
            options=[
                *(("-c:v", colours.decoder) if colours.decoder else ()),
                *("-max_pixels", str(limits.max_pixels), "-t", f"{limits.max_video_s + 1:g}"),
            ],
        ),
        # `V`: pictures that move, no cover art.
        *(
            "-map",
            "0:V:0",
            "-vf",
            ",".join(filters),
            "-fps_mode",
            "passthrough",
            "-frames:v",
            str(most),
        ),
        *("-map_metadata", "-1", "-map_chapters", "-1"),
        *("-c:v", "ffv1", "-level", "3", "-g", "1", "-slices", "4", "-threads", str(threads)),
        # The last report on standard output has the number of frames.
        *("-progress", "pipe:1", "-stats_period", "3600"),
        *("-f", "matroska", f"file:{destination}"),
    ]


def _check_length(seconds: float, num_frames: int, limits: IntakeLimits, what: str) -> None:
    if num_frames < 2 or seconds < limits.min_video_s:
        raise IntakeError(
            ErrorCode.VIDEO_TOO_SHORT,
            f"The {what} lasts {seconds:.2f} s; at least {limits.min_video_s:g} s and 2 frames "
            "are needed. Send a single picture as `image` instead.",
            {
                "num_frames": num_frames,
                "seconds": round(seconds, 3),
                "min_seconds": limits.min_video_s,
            },
        )
    if seconds > limits.max_video_s:
        raise video_too_long(limits, what)


def _size(path: Path, limits: IntakeLimits, what: str) -> tuple[int, int]:
    """Width and height of the normalised file, from the header of a raw first frame."""
    end = run_limited(
        [
            *ffmpeg_reading(path, "matroska"),
            *("-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "pipe:1"),
        ],
        limits.child(max_file_bytes=4 * limits.max_side**2 + 2**20),
        what=what,
        reads=[path],
    )
    header = _FIRST_LINE.match(end.output)
    if header is None:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} cannot be read back after decoding. Save it again and resend it.",
            {"decoder": end.words},
        )
    return int(header[1]), int(header[2])
