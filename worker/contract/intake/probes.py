"""What the head of a sound or a video says of itself, without decoding it: cheap, and not the truth.

A probe refuses what is plainly useless before a job is made of it. What only decoding can find is
found later, when the file is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.file_checks import audio_type, check_size, head_of, video_type
from worker.contract.intake.limited_child import ffmpeg_reading, run_limited
from worker.contract.intake.limits import (
    IntakeLimits,
    audio_too_long,
    check_video_size,
    video_too_long,
)

_DURATION: Final = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_VIDEO: Final = re.compile(r"^  Stream #0:\d+.*?: Video: .*?\b(\d{1,6})x(\d{1,6})\b", re.MULTILINE)
_AUDIO: Final = re.compile(r"^  Stream #0:\d+.*?: Audio: [^\n]*", re.MULTILINE)
_MONO: Final = re.compile(r", (mono|1 channels),")
# Their length is a guess from the bit rate where no index is written.
_GUESSED_LENGTHS: Final = frozenset({"mp3", "aac"})


@dataclass(frozen=True)
class Probe:
    """What a head says.

    Args:
        demuxer: The format, by its magic bytes.
        num_bytes: Size of the file.
        seconds: Length, or None where the head does not tell.
        channels: Of the sound, 1 or 2; 0 where there is none.
    """

    demuxer: str
    num_bytes: int
    seconds: float | None
    channels: int


def probe_audio(source: Path, limits: IntakeLimits) -> Probe:
    """Look at a sound that will be decoded later.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, audio_too_long.
    """
    num_bytes = check_size(source, "audio", limits.max_audio_bytes)
    demuxer = audio_type(head_of(source))
    head, seconds = _head(source, demuxer, limits, "audio")
    track = _AUDIO.search(head)
    if track is None:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The audio looks like {demuxer} but has no sound track. Save it again and resend it.",
        )
    if demuxer not in _GUESSED_LENGTHS and seconds is not None and seconds > limits.max_audio_s + 1:
        raise audio_too_long(limits)
    return Probe(demuxer, num_bytes, seconds, 1 if _MONO.search(track[0]) else 2)


def probe_video(source: Path, limits: IntakeLimits, what: str) -> Probe:
    """Look at a video that will be decoded later.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, video_too_long,
            face_too_small.
    """
    num_bytes = check_size(source, what, limits.max_video_bytes)
    demuxer = video_type(head_of(source), what)
    head, seconds = _head(source, demuxer, limits, what)
    size = _VIDEO.search(head)
    if size is None:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} looks like {demuxer} but has no picture track. "
            "Save it again with one and resend it.",
        )
    check_video_size(int(size[1]), int(size[2]), limits, what)
    if seconds is not None and seconds > limits.max_video_s + 1:
        raise video_too_long(limits, what)
    return Probe(demuxer, num_bytes, seconds, 0)


def _head(source: Path, demuxer: str, limits: IntakeLimits, what: str) -> tuple[str, float | None]:
    """Ffmpeg's description of the file, and its length in seconds."""
    # Without an output ffmpeg describes the input and complains; only what it wrote counts.
    end = run_limited(
        ffmpeg_reading(source, demuxer, loglevel="info"),
        limits.child(max_file_bytes=2**20),
        what=what,
    )
    duration = _DURATION.search(end.errors)
    if duration is None:
        return end.errors, None
    hours, minutes, seconds = duration.groups()
    return end.errors, 3600 * int(hours) + 60 * int(minutes) + float(seconds)
