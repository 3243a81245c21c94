"""Which sound track of a file is taken, and what its clock calls zero."""

from __future__ import annotations

from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.descriptions import Description
from worker.contract.intake.sniffing import Sniffed

# Their clocks begin at 0, so a first time stamp above it is a delay that somebody recorded. Other
# clocks begin anywhere, or count what an encoder put in front.
_CLOCKS_FROM_ZERO: Final = frozenset({"mov", "matroska"})
_MAX_DELAY_S: Final = 10.0
"""A later start without pictures is a piece of something longer."""


def choose_track(described: Description, sniffed: Sniffed) -> int:
    """Number of the sound track that players choose: the first that is flagged as default, or the first.

    Raises:
        IntakeError: undecodable_media, there is none.
    """
    if not described.sounds:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The audio looks like {sniffed.format.name} but has no sound track that can be decoded. "
            "Save it again with one and resend it.",
        )
    flagged = (number for number, track in enumerate(described.sounds) if track.is_default)
    return next(flagged, 0)


def zero_s(described: Description, number: int, sniffed: Sniffed) -> float | None:
    """The time on the container's clock at which the normalised sound begins.

    Beside pictures it is the first picture's, so that a film's sound keeps its place: one that begins
    later is preceded by silence, and what lies before the first picture is cut off.

    Args:
        described: The file.
        number: Of the chosen track.
        sniffed: What it is.

    Returns:
        Seconds, or None for the first sample of the sound, whenever that is.
    """
    pictures = described.pictures
    if pictures is not None and pictures.start_s is not None:
        return pictures.start_s
    start_s = described.sounds[number].start_s
    is_told = sniffed.reader in _CLOCKS_FROM_ZERO and start_s is not None
    return 0.0 if is_told and start_s is not None and start_s <= _MAX_DELAY_S else None
