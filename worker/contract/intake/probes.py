"""A look at a sound or a video that will be decoded later.

A probe refuses what is plainly useless before a job is made of it. What only decoding can find is
found later, when the file is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.descriptions import describe
from worker.contract.intake.file_checks import check_size
from worker.contract.intake.limits import (
    IntakeLimits,
    audio_too_long,
    check_video_size,
    video_too_long,
)
from worker.contract.intake.rates import PLAIN, told_rate
from worker.contract.intake.sniffing import sniff_file
from worker.contract.intake.sound_tracks import choose_track
from worker.contract.intake.video_colours import read_colours


@dataclass(frozen=True)
class Probe:
    """What a head says.

    Args:
        demuxer: The format, by its first bytes.
        num_bytes: Size of the file.
        seconds: Length, or None where the head does not tell.
        channels: Of the sound, 1 or 2; 0 where there is none.
        fps: Frames a second that the result has by default.
    """

    demuxer: str
    num_bytes: int
    seconds: float | None
    channels: int
    fps: float = float(PLAIN)


def probe_audio(source: Path, limits: IntakeLimits) -> Probe:
    """Look at a sound that will be decoded later.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, audio_too_long.
    """
    num_bytes = check_size(source, "audio", limits.max_audio_bytes)
    sniffed = sniff_file(source, "audio", "audio")
    described = describe(source, sniffed, limits, "audio")
    track = choose_track(described, sniffed)
    if track.told_s is not None and track.told_s > limits.max_audio_s + 1:
        raise audio_too_long(limits)
    seconds = described.seconds if track.told_s is None else track.told_s
    return Probe(sniffed.reader, num_bytes, seconds, 1 if track.is_mono else 2)


def probe_video(source: Path, limits: IntakeLimits, what: str) -> Probe:
    """Look at a video that will be decoded later.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, video_too_long,
            face_too_small.
    """
    num_bytes = check_size(source, what, limits.max_video_bytes)
    sniffed = sniff_file(source, "video", what)
    described = describe(source, sniffed, limits, what)
    size = described.pictures.size if described.pictures else None
    if size is None:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} looks like {sniffed.format.name} but has no picture track. "
            "Save it again with one and resend it.",
        )
    check_video_size(*size, limits, what)
    read_colours(described, what)
    seconds = described.seconds
    if not described.is_guess and seconds is not None and seconds > limits.max_video_s + 1:
        raise video_too_long(limits, what)
    if described.is_guess:
        seconds = None
    fps = float(told_rate(described.pictures).fps)
    return Probe(sniffed.reader, num_bytes, seconds, 0, fps)
