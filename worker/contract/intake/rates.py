"""How many frames a second a film has, and the result has by default.

head (what ffmpeg says) ─┐
                         ├─▶ the film's rate ─▶ halved or doubled into 10 to 60 ─▶ the result's
time stamps of packets ──┘   a fraction (30000/1001), or the mean of uneven ones

Before the 202 the head alone is asked. When the film is decoded its packets are counted, which takes a
second for a long one: containers round time stamps, and heads guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

from worker.contract.intake.descriptions import Track
from worker.contract.intake.limited_child import ffmpeg_reading, run_limited
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sniffing import Sniffed

PLAIN: Final = Fraction(25)
"""Of a photograph, and of a film that tells nothing."""
_LEAST: Final = 10
_MOST: Final = 60
_TOLD: Final = re.compile(r", (\d+(?:\.\d+)?)(k?) (fps|tbr)\b")
_NTSC: Final = (12, 15, 24, 30, 48, 60, 120, 240)
"""Rates of which television has a thousandth less: 30000/1001 for 30."""
_ROUNDING: Final = 0.0051
"""ffmpeg and people write two digits of 29.97002997."""
_MOST_DENOMINATOR: Final = 1001
_LISTING_BYTES: Final = 64 * 2**20
_PACKET: Final = re.compile(r"^0, *(-?\d+), *(-?\d+), *\d+,", re.MULTILINE)
_NO_TIME: Final = -(2**62)
"""Below this ffmpeg means that it does not know."""
_TIME_BASE: Final = re.compile(r"^#tb 0: (\d+)/(\d+)", re.MULTILINE)
_UNEVEN: Final = 1.5
"""An interval this many times as long, or as short, as the usual one is no rounding."""
_UNEVEN_SHARE: Final = 0.02


@dataclass(frozen=True)
class FilmRate:
    """Of the result.

    Args:
        fps: Frames per second, exactly.
        notes: Sentences for the person who sent the film: where the rate is not simply the film's.
    """

    fps: Fraction
    notes: tuple[str, ...] = ()


def exact_rate(fps: float) -> Fraction:
    """The fraction that is meant: 30000/1001 for 29.97, 25 for 25, 25/2 for 12.5."""
    for whole in _NTSC:
        ntsc = Fraction(whole * 1000, 1001)
        if abs(fps - ntsc) < _ROUNDING < abs(fps - whole):
            return ntsc
    return Fraction(fps).limit_denominator(_MOST_DENOMINATOR)


def told_rate(pictures: Track | None) -> FilmRate:
    """By the head alone."""
    return _within(_told(pictures) or PLAIN)


def measured_rate(
    source: Path, sniffed: Sniffed, pictures: Track | None, limits: IntakeLimits, what: str
) -> FilmRate:
    """By head and packets.

    Args:
        source: The film as it came.
        sniffed: What it is.
        pictures: Its track.
        limits: What is tolerated.
        what: How messages call it.

    Raises:
        IntakeError: undecodable_media, the look takes too long.
    """
    told, times_s = _told(pictures), _times_s(source, sniffed, limits, what)
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return _within(told or PLAIN)
    count, span_s = len(times_s) - 1, times_s[-1] - times_s[0]
    intervals_s = [after - before for before, after in pairwise(times_s)]
    usual_s = median(intervals_s)
    uneven = sum(not usual_s / _UNEVEN < one < usual_s * _UNEVEN for one in intervals_s)
    if told is not None and abs(span_s * told - count) <= max(0.5, 0.002 * count):
        rate = told
    else:
        rate = exact_rate(round(count / span_s, 3))
    if uneven <= _UNEVEN_SHARE * count:
        return _within(rate)
    return _within(
        rate,
        f"The pictures of the {what} come at uneven times, {float(rate):.4g} a second in the mean; "
        "the result has that rate.",
    )


def _within(rate: Fraction, *notes: str) -> FilmRate:
    """A rate that a video may have, and what is said where it is another one."""
    shown = rate
    while shown > _MOST:
        shown /= 2
    while shown < _LEAST:
        shown *= 2
    if shown == rate:
        return FilmRate(rate, notes)
    bound = f"at most {_MOST}" if rate > _MOST else f"at least {_LEAST}"
    note = f"It has {float(rate):.5g} frames a second and the result {float(shown):.5g}: {bound} are drawn."
    return FilmRate(shown, (*notes, note))


def _told(pictures: Track | None) -> Fraction | None:
    """The mean rate, or else the likely one, of ffmpeg's line."""
    if pictures is None:
        return None
    found = {
        name: float(value) * (1000 if thousands else 1)
        for value, thousands, name in _TOLD.findall(pictures.line)
    }
    rate = found.get("fps") or found.get("tbr") or 0.0
    # Where nothing is known ffmpeg tells the clock's ticks.
    return exact_rate(rate) if 0.1 <= rate < 1000 else None


def _times_s(source: Path, sniffed: Sniffed, limits: IntakeLimits, what: str) -> list[float]:
    """When each picture is shown, in seconds on the container's clock; nothing is decoded here."""
    listing = source.with_name(f"{source.name}.packets")
    try:
        run_limited(
            [
                *ffmpeg_reading(source, sniffed.reader, start=sniffed.start),
                *("-map", "0:V:0", "-c", "copy", "-copyts", "-t", f"{limits.max_video_s + 1:g}"),
                *("-f", "framecrc", f"file:{listing}"),
            ],
            limits.child(max_file_bytes=_LISTING_BYTES),
            what=what,
            reads=[source],
            writes=listing.parent,
        )
        text = listing.read_text("ascii", "replace") if listing.is_file() else ""
    finally:
        listing.unlink(missing_ok=True)
    tick = _TIME_BASE.search(text)
    if tick is None or not _PACKET.search(text):
        return []
    tick_s = int(tick[1]) / int(tick[2])
    decoded, shown = (
        [int(one) for one in column] for column in zip(*_PACKET.findall(text), strict=True)
    )
    # AVI knows only when pictures are decoded; elsewhere that runs ahead of what is shown.
    ticks = shown if min(shown) > _NO_TIME else decoded
    return sorted(one * tick_s for one in ticks)
