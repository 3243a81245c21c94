"""Mouths that real speech makes, each an instant of a clip, to be carried to other faces.

    shut    the smallest opening of a /b p m/     spread  the widest mouth of an /iy/
    wide    the largest opening of an /aa ay ae/  round   the narrowest mouth of a /uw w/, open,
    half    an opening halfway to the wide one            but less than half
                                                  teeth   the smallest gap of an /f v/

Of all such instants one near the strong end is taken, not the very strongest: that may be a slip of
the detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip
from model.data.phones import PHONES, runs_of
from model.errors import InputError
from model.face.landmarks import mouth_opening, mouth_width
from model.face.retargeting import retarget
from model.media.audio import MELS_PER_FRAME

_STRONG: Final = 0.85
"""Quantile of the instants, from weak to strong."""
_OPEN: Final = 0.04
"""A lip gap as a share of the mouth's width; /f v/ keep less than twice this, rounded lips are not shut."""


@dataclass(frozen=True, eq=False)
class MouthShape:
    """One instant of a clip: frame `frame` of its faces `motion` `(T, 68, 2)`, crop units.

    Retargeting looks at all of them.
    """

    name: str
    clip: str
    motion: NDArray[np.float32]
    frame: int

    def on(self, reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """This mouth on another face `(68, 2)` in crop units, `(68, 2)`."""
        target: NDArray[np.float32] = retarget(reference, self.motion)[self.frame]
        return target


def find_shapes(clips: Sequence[Clip]) -> list[MouthShape]:
    """The six shapes, in the order shut, half, wide, spread, round, teeth.

    Clips without phones are not looked at.

    Raises:
        InputError: No clip has phones, or one of the sounds is not among them.
    """
    spoken = [(clip, clip.phones) for clip in clips if clip.phones is not None]
    if not spoken:
        raise InputError(
            "no clip has phones; expected phones/<name>.json beside the videos, as for GRID"
        )
    faces = [clip.crop_landmarks for clip, _ in spoken]
    openings = [mouth_opening(face) for face in faces]
    widths = [mouth_width(face) / np.median(mouth_width(face)) for face in faces]
    labels = [phones for _, phones in spoken]

    def strongest(
        name: str, sounds: Sequence[str], strength: list[NDArray[np.float32]]
    ) -> MouthShape:
        instants = []
        for number, values in enumerate(strength):
            for first, last in _stretches(labels[number], sounds, len(values)):
                frame = first + int(np.argmax(values[first:last]))
                if np.isfinite(values[frame]):
                    instants.append((float(values[frame]), number, frame))
        if not instants:
            raise InputError(
                f"no clip says {' or '.join(sounds)}; expected clips with all usual sounds"
            )
        instants.sort()
        _, number, frame = instants[round(_STRONG * (len(instants) - 1))]
        return MouthShape(name, spoken[number][0].name, faces[number], frame)

    never = np.float32(-np.inf)
    shut = strongest("shut", ("B", "P", "M"), [-o for o in openings])
    wide = strongest("wide", ("AA", "AY", "AE"), openings)
    open_width = [np.where(o > _OPEN, w, never) for o, w in zip(openings, widths, strict=True)]
    half_way = float(mouth_opening(wide.motion[wide.frame])) / 2
    narrow = [
        np.where((o > _OPEN) & (o < half_way), -w, never)
        for o, w in zip(openings, widths, strict=True)
    ]
    return [
        shut,
        strongest("half", ("EH", "AH", "EY", "IH"), [-np.abs(o - half_way) for o in openings]),
        wide,
        strongest("spread", ("IY",), open_width),
        strongest("round", ("UW", "W"), narrow),
        strongest("teeth", ("F", "V"), [np.where(o < 2 * _OPEN, -o, never) for o in openings]),
    ]


def _stretches(
    phones: NDArray[np.uint8], sounds: Sequence[str], count: int
) -> list[tuple[int, int]]:
    """First frame and the one behind the last of every stretch of these sounds."""
    wanted = np.isin(phones, [PHONES.index(sound) for sound in sounds])
    frames = [
        (int(start) // MELS_PER_FRAME, min(-(-int(end) // MELS_PER_FRAME), count))
        for start, end in runs_of(wanted)
    ]
    return [(first, last) for first, last in frames if first < last]
