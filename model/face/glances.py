"""Small glances: the iris goes a little to one side, behind lids that stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.eye_outline import ACROSS, Curve, EyeOutline
from model.face.lid_skin import LASHES
from model.face.small_shift import SmallShift, box_around, pixel_middles
from model.face.thin_plate import smoothstep

_WAY: Final = 0.10
"""Of the iris at strength 1, `across` units: a twentieth of the eye's width."""
_IRIS: Final = 0.35
_STILL: Final = 0.95
"""`across` units from the middle: up to the first the eyeball goes as one, from the second on nothing moves."""
_SOFT: Final = 0.05
"""Between the lids' margins and the eyeball, `down` units."""


class Glances:
    """The eyeballs of one photograph.

    Args:
        outlines: Of both eyes (`Eyelids.outlines`).
        shape: Of the photograph, rows first.
    """

    def __init__(self, outlines: Sequence[EyeOutline], shape: tuple[int, ...]) -> None:
        self._shifts = [_shift(outline, shape) for outline in outlines]

    def look(self, frame: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
        """Turn both eyes.

        Args:
            frame: The photograph, or what was drawn into it below the eyes, `(H, W, 3)` uint8 RGB.
            amount: -1 to the picture's left, 1 to its right; 0 is `frame` itself.
        """
        for shift in self._shifts:
            frame = shift.apply(frame, amount)
        return frame


def _shift(outline: EyeOutline, shape: tuple[int, ...]) -> SmallShift:
    """The eyeball's way in one eye."""
    corners = np.array([(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)], np.float32)
    box = outline.pixels(corners[:, 0], corners[:, 1])
    rows, columns = box_around(box.min(axis=0), box.max(axis=0), shape)
    placed = outline.place(pixel_middles(rows, columns))
    across, down = placed[..., 0], placed[..., 1]

    def spread(curve: Curve) -> NDArray[np.float32]:
        return np.interp(across, ACROSS, curve).astype(np.float32)

    aside: NDArray[np.float32] = np.abs(across)
    inside = smoothstep((np.float32(_STILL) - aside) / np.float32(_STILL - _IRIS))
    below = (down - spread(outline.upper) - np.float32(LASHES / 2)) / np.float32(_SOFT)
    above = (spread(outline.lower) - down) / np.float32(_SOFT)
    share = inside * smoothstep(np.minimum(below, above))
    return SmallShift(rows, columns, share[..., None] * np.float32(_WAY) * outline.axes[:, 0])
