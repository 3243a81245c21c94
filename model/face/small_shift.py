"""A small smooth shift of some of a picture's pixels: what glances, brows and breath are made of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SmallShift:
    """Shifts one box of a picture.

    Attributes:
        rows: Of the box.
        columns: Of the box.
        way: Where each pixel goes at strength 1 `(h, w, 2)` float32, pixels, x first. It changes
            slowly, by less than a pixel a pixel; zero at the box's border, but for the picture's own.
    """

    rows: slice
    columns: slice
    way: NDArray[np.float32]

    def apply(self, frame: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
        """`frame` `(H, W, 3)` uint8 RGB, shifted; 0 is `frame` itself, and beyond the box all pixels stay."""
        if strength == 0 or not self.way.any():
            return frame
        height, width = self.way.shape[:2]
        y, x = np.mgrid[:height, :width].astype(np.float32)
        where = np.stack([x, y], axis=-1) - np.float32(strength) * self.way
        ground = frame[self.rows, self.columns]
        seen = cv2.remap(ground, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        shifted = frame.copy()
        moving = (self.way != 0).any(axis=-1, keepdims=True)
        shifted[self.rows, self.columns] = np.where(moving, seen, ground)
        return shifted


def box_around(
    low: NDArray[np.float32], high: NDArray[np.float32], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Rows and columns from `low` to `high` `(2,)`, x first, pixels, within a picture of `shape`; never empty."""
    size = np.array((shape[1], shape[0]))
    first = np.clip(np.floor(low), 0, size - 1).astype(int)
    last = np.clip(np.ceil(high), first + 1, size).astype(int)
    return slice(first[1], last[1]), slice(first[0], last[0])


def pixel_middles(rows: slice, columns: slice) -> NDArray[np.float32]:
    """Middles of a box's pixels `(h, w, 2)`, x first, in the landmarks' frame."""
    y, x = np.mgrid[rows, columns].astype(np.float32)
    return np.stack([x, y], axis=-1) + np.float32(0.5)
