"""What ffmpeg says of a file without decoding it: its length, its tracks, and when each begins.

    file ──▶ ffmpeg: "Stream #0:1: Audio: aac (LC), 48000 Hz, mono, ..." ──▶ Description

Cheap, and not the truth: what only decoding can find is found when the file is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.contract.intake.limited_child import ffmpeg_reading, run_limited
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sniffing import Sniffed

_DURATION: Final = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_STREAM: Final = re.compile(r"^  Stream #0:\d+[^\n]*?: (Audio|Video): ([^\n]*)", re.MULTILINE)
_SIZE: Final = re.compile(r"\b(\d{1,6})x(\d{1,6})\b")
_MONO: Final = re.compile(r", (mono|1 channels)\b")
_START: Final = re.compile(r", start (-?\d+\.\d+)")
_GUESSED_LENGTH: Final = "Estimating duration from bitrate"
# Their length is a guess from the bit rate where no index is written.
_STREAMS: Final = frozenset({"aac", "mpegts"})


@dataclass(frozen=True)
class Track:
    """One track, as ffmpeg describes it.

    Args:
        line: Codec, format, colours, rate, ... and the flags at the end.
    """

    line: str

    @property
    def start_s(self) -> float:
        """When it begins on the container's clock, in seconds."""
        found = _START.search(self.line)
        return float(found[1]) if found else 0.0

    @property
    def is_default(self) -> bool:
        """Whether players choose it by themselves."""
        return "(default)" in self.line

    @property
    def is_mono(self) -> bool:
        """Whether a sound has one channel."""
        return _MONO.search(self.line) is not None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of pictures, before they are turned upright."""
        found = _SIZE.search(self.line)
        return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True)
class Description:
    """What a file says of itself.

    Args:
        seconds: Its length, or None where it does not tell.
        is_guess: The length is one from the bit rate.
        sounds: Its sound tracks, in its order.
        pictures: Its picture track that moves; no cover art.
        text: All that ffmpeg wrote.
    """

    seconds: float | None
    is_guess: bool
    sounds: tuple[Track, ...]
    pictures: Track | None
    text: str


def describe(source: Path, sniffed: Sniffed, limits: IntakeLimits, what: str) -> Description:
    """Look at the head of a sound or video.

    Args:
        source: The bytes as they came.
        sniffed: What they are.
        limits: What is tolerated.
        what: How messages call it.

    Raises:
        IntakeError: undecodable_media, the look takes too long.
    """
    # Without an output ffmpeg describes the input and complains; only what it wrote counts.
    options = ["-copyts", "-max_pixels", str(limits.max_pixels)]
    command = ffmpeg_reading(
        source, sniffed.reader, start=sniffed.start, options=options, loglevel="info"
    )
    child = limits.child(max_file_bytes=2**20)
    text = run_limited(command, child, what=what, reads=[source]).errors
    lines = [(kind, line) for kind, line in _STREAM.findall(text) if "(attached pic)" not in line]
    pictures = [Track(line) for kind, line in lines if kind == "Video"]
    return Description(
        seconds=_seconds(text),
        is_guess=_GUESSED_LENGTH in text or sniffed.reader in _STREAMS,
        sounds=tuple(Track(line) for kind, line in lines if kind == "Audio"),
        pictures=pictures[0] if pictures else None,
        text=text,
    )


def _seconds(text: str) -> float | None:
    duration = _DURATION.search(text)
    if duration is None:
        return None
    hours, minutes, seconds = duration.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
