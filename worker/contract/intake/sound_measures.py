"""Levels of each channel of a sound, and what has to be done so that the speech in it is heard.

levels of each channel, and of their mix to mono
  ├─ one channel is far above the others, or above the mix   ──▶ that channel alone
  ├─ a constant offset                                       ──▶ taken out
  ├─ peaks above full scale (floating point)                 ──▶ turned down, not clipped
  └─ faint speech                                            ──▶ turned up before it is rounded to 16 bits
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

_LINE: Final = re.compile(r"^\[astats@(\w+) @ [^]]*\] ([\w ]+): (\S+)$", re.MULTILINE)

_FAR_DB: Final = 10.0
"""A channel so far above another is heard alone; two equal voices in a mix stay within 6 dB."""
_EQUAL_DB: Final = 1.0
_LIVELY_DB: Final = 10.0
"""Speech comes and goes; hum and hiss stay where they are."""
_OFFSET: Final = 0.003
_FAINT_DB: Final = -45.0
_FAINT_TO_DB: Final = -26.0
_HEADROOM_DB: Final = -1.0
_SILENT_DB: Final = -90.0
_HARDLY_DB: Final = -60.0


@dataclass(frozen=True)
class Level:
    """Levels of one channel in dB of full scale; -inf where nothing is.

    Args:
        offset: Mean of the samples, -1 to 1.
        rms_db: Of all samples, the offset taken out.
        peak_db: Of the largest sample.
        loud_db: RMS of the loudest 50 ms.
        soft_db: RMS of the softest 50 ms.
    """

    offset: float
    rms_db: float
    peak_db: float
    loud_db: float
    soft_db: float

    @property
    def is_lively(self) -> bool:
        """Whether it comes and goes as speech does."""
        return self.rms_db > _SILENT_DB and self.loud_db - self.soft_db >= _LIVELY_DB


@dataclass(frozen=True)
class Remedy:
    """What is done to a sound; by default nothing.

    Args:
        channel: The channel that is taken alone for analysis, from 0; None for the mix of all.
        is_lost_in_stereo: That channel cannot be heard in a stereo mix either.
        has_offset: A constant offset has to be taken out.
        speech_gain_db: For the analysis.
        sound_gain_db: For the sound of the MP4.
        notes: What the person who sent it should know.
        is_silent: Nothing is heard in it.
    """

    channel: int | None = None
    is_lost_in_stereo: bool = False
    has_offset: bool = False
    speech_gain_db: float = 0.0
    sound_gain_db: float = 0.0
    notes: tuple[str, ...] = ()
    is_silent: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether the sound has to be written again."""
        gains = (self.speech_gain_db, self.sound_gain_db)
        return self.channel is not None or self.has_offset or any(gains)


def read_levels(text: str, name: str) -> list[Level]:
    """The levels that ffmpeg's filter `astats@name` wrote, by channel.

    Args:
        text: ffmpeg's log.
        name: Of the filter.
    """
    channels: list[dict[str, float]] = []
    for of, key, value in _LINE.findall(text):
        if of != name:
            continue
        if key == "Channel":
            channels.append({})
        elif channels:
            channels[-1][key] = float(value)
    return [_level(one) for one in channels if "RMS level dB" in one]


def find_remedy(channels: list[Level], mono: Level, stereo: list[Level]) -> Remedy:
    """What has to be done to a sound.

    Args:
        channels: Levels of its channels.
        mono: Of their mix.
        stereo: Of the channels of the sound for the MP4.
    """
    notes = []
    chosen = _speaking_channel(channels, mono)
    heard = mono if chosen is None else channels[chosen]
    is_lost = chosen is not None and max(one.rms_db for one in stereo) < heard.rms_db - _FAR_DB
    if chosen is not None:
        notes.append(
            f"Channel {chosen + 1} of {len(channels)} was taken as the voice: the others are far "
            "weaker, steady, or cancel it."
        )

    has_offset = any(abs(one.offset) > _OFFSET for one in channels)
    if has_offset:
        notes.append("A constant offset (DC) was taken out.")

    # Floating point may exceed full scale; both files have 16 bits and would clip it.
    speech_gain_db = min(0.0, _HEADROOM_DB - heard.peak_db) if heard.peak_db > 0.01 else 0.0
    loudest_db = max(one.peak_db for one in stereo)
    sound_gain_db = min(0.0, _HEADROOM_DB - loudest_db) if loudest_db > 0.01 else 0.0
    if speech_gain_db or sound_gain_db:
        notes.append(f"Peaks of {max(heard.peak_db, loudest_db):.0f} dB were turned down.")

    if _SILENT_DB < heard.loud_db < _FAINT_DB and heard.is_lively:
        speech_gain_db = min(_FAINT_TO_DB - heard.loud_db, _HEADROOM_DB - heard.peak_db)
        notes.append(
            f"The voice is very quiet ({heard.loud_db:.0f} dB of full scale at its loudest); "
            "it was turned up for the mouth alone."
        )
    is_silent = heard.loud_db <= _SILENT_DB
    if is_silent:
        notes.append("There is no sound in it: the mouth stays shut.")
    elif heard.loud_db < _HARDLY_DB and not heard.is_lively:
        notes.append(
            f"There is hardly any sound in it ({heard.loud_db:.0f} dB of full scale at its loudest), and "
            "none that comes and goes as speech does."
        )
    return Remedy(
        chosen,
        is_lost,
        has_offset,
        round(speech_gain_db, 2),
        round(sound_gain_db, 2),
        tuple(notes),
        is_silent,
    )


def _speaking_channel(channels: list[Level], mono: Level) -> int | None:
    """The channel that is heard alone, or None for the mix."""
    if len(channels) < 2:
        return None
    lively = [number for number, one in enumerate(channels) if one.is_lively]
    candidates = lively or list(range(len(channels)))
    most_db = max(channels[number].rms_db for number in candidates)
    loudest = next(one for one in candidates if channels[one].rms_db >= most_db - _EQUAL_DB)
    level_db = channels[loudest].rms_db
    if level_db < _SILENT_DB:
        return None
    others = [one for number, one in enumerate(channels) if number != loudest]
    stands_out = all(one.rms_db < level_db - _FAR_DB for one in others)
    is_lost = mono.rms_db < level_db - _FAR_DB
    is_masked = any(not one.is_lively and one.rms_db > level_db - _FAR_DB for one in others)
    return loudest if stands_out or is_lost or (lively and is_masked) else None


def _level(values: dict[str, float]) -> Level:
    offset, rms_db = values.get("DC offset", 0.0), values["RMS level dB"]
    left = 10 ** (rms_db / 10) - offset**2
    return Level(
        offset=offset,
        rms_db=10 * math.log10(left) if left > 1e-12 else -math.inf,
        peak_db=values.get("Peak level dB", -math.inf),
        loud_db=values.get("RMS peak dB", rms_db),
        soft_db=values.get("RMS through dB", values.get("RMS trough dB", -math.inf)),
    )
