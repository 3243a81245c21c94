"""Which sound track of a file is taken, and what its clock calls zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.descriptions import Description
from worker.contract.intake.sniffing import Sniffed

# Their clocks begin at 0, so a first time stamp above it is a delay that somebody recorded. Other
# clocks begin anywhere, or count what an encoder put in front.
_CLOCKS_FROM_ZERO: Final = frozenset({"mov", "matroska"})
_MAX_DELAY_S: Final = 10.0
"""A later start without pictures is a piece of something longer."""


@dataclass(frozen=True)
class SoundTrack:
    """The track that is taken.

    Args:
        number: Among the file's sound tracks, from 0.
        zero_s: The time on the container's clock, in seconds, at which the normalised sound begins;
            None for its first sample, whenever that is.
        told_s: Its length in seconds where the head tells it, and tells it of this sound alone.
        is_mono: It has one channel.
    """

    number: int
    zero_s: float | None
    told_s: float | None
    is_mono: bool


def choose_track(described: Description, sniffed: Sniffed) -> SoundTrack:
    """The sound track that players choose: the first that is flagged as default, or the first.

    Raises:
        IntakeError: undecodable_media, there is none.
    """
    tracks = described.sounds
    if not tracks:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The audio looks like {sniffed.format.name} but has no sound track that can be decoded. "
            "Save it again with one and resend it.",
        )
    number = next((n for n, track in enumerate(tracks) if track.is_default), 0)
    zero_s = _zero_s(described, number, sniffed)
    told_s = described.seconds
    if described.is_guess or described.pictures is not None or len(tracks) > 1:
        told_s = None
    elif told_s is not None and zero_s is None:
        told_s -= max(0.0, tracks[number].start_s)
    return SoundTrack(number, zero_s, told_s, tracks[number].is_mono)


def _zero_s(described: Description, number: int, sniffed: Sniffed) -> float | None:
    """What becomes 0.

    Beside pictures it is the first of them, so that a film's sound keeps its place: one that begins
    later is preceded by silence, and what lies before the first picture is cut off.
    """
    if described.pictures is not None:
        return described.pictures.start_s
    has_clock = sniffed.reader in _CLOCKS_FROM_ZERO
    return 0.0 if has_clock and described.sounds[number].start_s <= _MAX_DELAY_S else None
