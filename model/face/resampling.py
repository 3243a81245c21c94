"""Frames that differ little from one photograph, read between their pixels: a cubic's sharpness at a linear price.

    photograph ─▶ twice its size, new pixels by a cubic ── once
    frame ─▶ what differs from the photograph is enlarged anew ─▶ linear reads at twice the places

A cubic reads 16 pixels for each one that it makes. Between pixels half as far apart, a straight line is
nearly as good, and a photograph that speaks changes only where its mouth is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.picture_parts import box_around

Picture = NDArray[np.uint8]

HALF: Final = np.array([[-19, 83, 83, -19]], np.float32) / 128
"""Weights of the four pixels around a place half-way between two. A little sharper than a cubic: reads
between there and the pixel are softer, and over all places a moved frame has a cubic's texture."""
_SUPPORT: Final = 2
"""Pixels on each side that a new pixel depends on."""


@dataclass(eq=False)
class _Scratch:
    """Memory of one thread, which fresh memory for each frame would cost more than the work in it.

    Attributes:
        difference: `(h, w, 3)` uint8.
        doubled: `(2 h, 2 w, 4)` uint8.
        read: `(h, w, 4)` uint8.
    """

    difference: Picture
    doubled: Picture
    read: Picture


class DoubledPicture:
    """A photograph at twice its size, from which frames alike are read; safe to call from several threads.

    Args:
        picture: `(h, w, 3)` uint8 RGB.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = np.ascontiguousarray(picture)
        self._doubled = _double(self._picture)
        self._threads = threading.local()

    def read(self, frame: Picture, ways: NDArray[np.float32], cell: int) -> Picture:
        """The frame whose pixels have gone their ways.

        Args:
            frame: `(h, w, 3)` uint8 RGB; the less of it differs from the photograph, the quicker.
            ways: Pixels, x first, at the middles of cells of `cell` x `cell` pixels, with one more
                row or column of cells around: `(ceil(h / cell) + 2, ceil(w / cell) + 2, 2)` float32.
                What a pixel shows comes from itself minus its way.
            cell: Side of the cells, pixels.
        Returns:
            `(h, w, 3)`; where the way is zero, the frame's very pixels.
        """
        scratch = self._scratch()
        doubled = self._doubled_frame(frame, scratch)
        # Places change evenly from cell to cell, so they can be drawn out instead of the ways.
        y, x = np.mgrid[: ways.shape[0], : ways.shape[1]].astype(np.float32)
        places = np.stack([x, y], axis=-1) * cell - np.float32(0.5 * (cell + 1)) - ways
        size = (cell * ways.shape[1], cell * ways.shape[0])
        fine = cv2.resize(2 * places, size, interpolation=cv2.INTER_LINEAR)
        height, width = frame.shape[:2]
        cv2.remap(
            doubled,
            fine[cell : cell + height, cell : cell + width],
            None,
            cv2.INTER_LINEAR,
            dst=scratch.read,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(cv2.cvtColor(scratch.read, cv2.COLOR_RGBA2RGB), np.uint8)

    def _scratch(self) -> _Scratch:
        """The calling thread's."""
        kept: _Scratch | None = getattr(self._threads, "scratch", None)
        if kept is None:
            height, width = self._picture.shape[:2]
            kept = _Scratch(
                np.empty_like(self._picture),
                np.empty_like(self._doubled),
                np.empty((height, width, 4), np.uint8),
            )
            self._threads.scratch = kept
        return kept

    def _doubled_frame(self, frame: Picture, scratch: _Scratch) -> Picture:
        """A frame `(h, w, 3)` at twice its size `(2 h, 2 w, 4)`."""
        height, width = frame.shape[:2]
        cv2.absdiff(frame, self._picture, dst=scratch.difference)
        left, top, across, down = cv2.boundingRect(scratch.difference.reshape(height, 3 * width))
        if not across:
            return self._doubled
        low = np.array((left // 3, top), np.float32)
        high = np.array((-(-(left + across) // 3), top + down), np.float32)
        np.copyto(scratch.doubled, self._doubled)
        # New pixels depend on their neighbours: enlarge more than changed, and keep what changes.
        rows, columns = box_around(low - _SUPPORT, high + _SUPPORT, frame.shape)
        known = box_around(low - 2 * _SUPPORT, high + 2 * _SUPPORT, frame.shape)
        part = _double(frame[known])
        y, x = rows.start - known[0].start, columns.start - known[1].start
        scratch.doubled[2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop] = (
            part[2 * y :, 2 * x :][
                : 2 * (rows.stop - rows.start), : 2 * (columns.stop - columns.start)
            ]
        )
        return scratch.doubled


def _double(picture: Picture) -> Picture:
    """`(h, w, 3)` -> `(2 h, 2 w, 4)`: its own pixels at even places, the fourth channel is idle.

    Four channels, because OpenCV reads them more quickly than three.
    """
    own = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
    right = cv2.filter2D(own, -1, HALF, anchor=(1, 0))
    below = cv2.filter2D(own, -1, HALF.T, anchor=(0, 1))
    between = cv2.filter2D(right, -1, HALF.T, anchor=(0, 1))
    height, width = picture.shape[:2]
    doubled = np.empty((2 * height, 2 * width), np.uint32)
    for row, column, pixels in ((0, 0, own), (0, 1, right), (1, 0, below), (1, 1, between)):
        doubled[row::2, column::2] = pixels.view(np.uint32)[..., 0]
    return doubled.view(np.uint8).reshape(2 * height, 2 * width, 4)
