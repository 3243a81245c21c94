"""Small glances: the iris goes a little to one side, behind lids that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.eye_outline import ACROSS, Curve, EyeOutline
from model.face.lid_skin import LASHES
from model.face.picture_parts import box_around, pixel_middles
from model.face.thin_plate import smoothstep

_WAY: Final = 0.10
"""Of the iris at strength 1, `across` units: a twentieth of the eye's width."""
_IRIS: Final = 0.35
_STILL: Final = 0.95
"""`across` units from the middle: up to the first the eyeball goes as one, from the second on nothing moves."""
_SOFT: Final = 0.05
"""Between the lids' margins and the eyeball, `down` units."""


@dataclass(frozen=True, eq=False)
class _Shift:
    """Turns one eye.

    Attributes:
        rows: Of its box.
        columns: Of its box.
        places: Column and row of each pixel within the box `(h, w, 2)` float32.
        way: Where each pixel goes at strength 1 `(h, w, 2)` float32, pixels, x first. It changes
            slowly, by less than a pixel a pixel; zero at the box's border.
    """

    rows: slice
    columns: slice
    places: NDArray[np.float32]
    way: NDArray[np.float32]

    def apply(self, frame: NDArray[np.uint8], strength: float) -> None:
        """Shift pixels of `frame` `(H, W, 3)` uint8 RGB; those whose way is zero stay."""
        where = self.places - np.float32(strength) * self.way
        ground = frame[self.rows, self.columns]
        frame[self.rows, self.columns] = cv2.remap(
            ground, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )


class Glances:
    """The eyeballs of one photograph.

    Args:
        outlines: Of both eyes (`Eyelids.outlines`).
        shape: Of the photograph, rows first.
    """

    def __init__(self, outlines: Sequence[EyeOutline], shape: tuple[int, ...]) -> None:
        self._shifts = [_shift(outline, shape) for outline in outlines]

    @property
    def boxes(self) -> list[tuple[slice, slice]]:
        """Rows and columns that may change, of each eye."""
        return [(shift.rows, shift.columns) for shift in self._shifts]

    def look(self, frame: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
        """Turn both eyes.

        Args:
            frame: The photograph, or what was drawn into it below the eyes, `(H, W, 3)` uint8 RGB.
            amount: -1 to the picture's left, 1 to its right; 0 is `frame` itself.
        """
        if amount == 0:
            return frame
        looking = frame.copy()
        for shift in self._shifts:
            shift.apply(looking, amount)
        return looking


def _shift(outline: EyeOutline, shape: tuple[int, ...]) -> _Shift:
    """The eyeball's way in one eye."""
    corners = np.array([(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)], np.float32)
    box = outline.pixels(corners[:, 0], corners[:, 1])
    rows, columns = box_around(box.min(axis=0), box.max(axis=0), shape)
    middles = pixel_middles(rows, columns)
    placed = outline.place(middles)
    across, down = placed[..., 0], placed[..., 1]

    def spread(curve: Curve) -> NDArray[np.float32]:
        return np.interp(across, ACROSS, curve).astype(np.float32)

    aside: NDArray[np.float32] = np.abs(across)
    inside = smoothstep((np.float32(_STILL) - aside) / np.float32(_STILL - _IRIS))
    below = (down - spread(outline.upper) - np.float32(LASHES / 2)) / np.float32(_SOFT)
    above = (spread(outline.lower) - down) / np.float32(_SOFT)
    share = inside * smoothstep(np.minimum(below, above))
    way = share[..., None] * np.float32(_WAY) * outline.axes[:, 0]
    return _Shift(rows, columns, middles - middles[0, 0], way.astype(np.float32))
