"""What ffmpeg says of a file without decoding it: its length, its tracks, and when each begins.

    head of the file ──▶ "Stream #0:1: Audio: ..." ──▶ Description
    first packet of each track ──▶ time stamps   ──┘

Cheap, and not the truth: what only decoding can find is found when the file is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from worker.contract.intake.limited_child import ffmpeg_reading, run_limited
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sniffing import Sniffed

_DURATION: Final = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_STREAM: Final = re.compile(r"^  Stream #0:\d+[^\n]*?: (Audio|Video): ([^\n]*)", re.MULTILINE)
_SIZE: Final = re.compile(r"\b(\d{1,6})x(\d{1,6})\b")
_MONO: Final = re.compile(r", (mono|1 channels)\b")
_TIME_BASE: Final = re.compile(rb"^#tb (\d+): (\d+)/(\d+)", re.MULTILINE)
_PACKET: Final = re.compile(rb"^(\d+), +-?\d+, +(-?\d+),", re.MULTILINE)
_GUESSED_LENGTH: Final = "Estimating duration from bitrate"
# Their length is a guess from the bit rate where no index is written.
_STREAMS: Final = frozenset({"aac", "mpegts"})


@dataclass(frozen=True)
class Track:
    """One track, as ffmpeg describes it.

    Args:
        line: Codec, format, colours, rate, ... and the flags at the end.
        start_s: Time stamp of its first packet on the container's clock; None where it has none.
    """

    line: str
    start_s: float | None

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
    command = [
        *ffmpeg_reading(
            source,
            sniffed.reader,
            start=sniffed.start,
            options=["-copyts", "-max_pixels", str(limits.max_pixels)],
            loglevel="info",
        ),
        # Nothing is decoded: the first packets are only listed with their time stamps.
        *("-nostats", "-map", "0:V:0?", "-map", "0:a?", "-c", "copy"),
        *("-frames:v", "1", "-frames:a", "1", "-f", "framecrc", "pipe:1"),
    ]
    end = run_limited(command, limits.child(max_file_bytes=2**20), what=what)
    text = end.errors.split("Stream mapping:")[0]
    bases = {
        int(one[1]): Fraction(int(one[2]), int(one[3])) for one in _TIME_BASE.finditer(end.output)
    }
    starts: dict[int, float] = {}
    for packet in _PACKET.finditer(end.output):
        number = int(packet[1])
        starts.setdefault(number, float(int(packet[2]) * bases[number]))
    lines = [(kind, line) for kind, line in _STREAM.findall(text) if "(attached pic)" not in line]
    moving = [line for kind, line in lines if kind == "Video"][:1]
    sounds = [line for kind, line in lines if kind == "Audio"]
    # The listing has the pictures first, then all sounds.
    tracks = [Track(line, starts.get(number)) for number, line in enumerate([*moving, *sounds])]
    return Description(
        seconds=_seconds(text),
        is_guess=_GUESSED_LENGTH in text or sniffed.reader in _STREAMS,
        sounds=tuple(tracks[len(moving) :]),
        pictures=tracks[0] if moving else None,
        text=text,
    )


def _seconds(text: str) -> float | None:
    duration = _DURATION.search(text)
    if duration is None:
        return None
    hours, minutes, seconds = duration.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
