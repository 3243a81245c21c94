"""A part of a picture or film, at a size of its own, and what is around it where the picture ends.

    picture ─▶ Window: cut, enlarged or shrunk ─▶ mouth drawn, head moved ─▶ Mat: laid upon its edge's blur ─▶ frame

Where a window has the picture's own scale its pixels are the picture's own, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.media.frames import FrameSource

_BLUR: Final = 0.03
"""Standard deviation of the blur around a picture, as a share of the longer side."""
_BLURRED_PX: Final = 96
"""It is made at this size: nothing finer is left of it."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Window:
    """What is cut out of a picture.

    Attributes:
        left: First column, pixels.
        top: First row.
        width: Columns, all within the picture.
        height: Rows.
        out_width: Columns of the result.
        out_height: Rows of the result.
    """

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int

    def cut(self, picture: Picture) -> Picture:
        """The part `(out_height, out_width, 3)` of `(H, W, 3)` uint8."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, None)
        part = np.ascontiguousarray(picture[rows, columns][:, : self.width])
        size = (self.out_width, self.out_height)
        if size == (self.width, self.height):
            return part
        is_larger = self.out_width > self.width
        way = cv2.INTER_LANCZOS4 if is_larger else cv2.INTER_AREA
        return np.asarray(cv2.resize(part, size, interpolation=way), np.uint8)

    def place(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points `(..., 2)` of the picture in the result."""
        scale = np.array((self.out_width / self.width, self.out_height / self.height))
        return ((points - np.array((self.left, self.top))) * scale).astype(np.float32)


@dataclass(frozen=True)
class Mat:
    """A larger picture that a smaller one lies on: the blur of its edge.

    Attributes:
        left: Columns before the smaller one.
        top: Rows before it.
        width: Of the larger one, even.
        height: Even.
    """

    left: int
    top: int
    width: int
    height: int

    def lay(self, picture: Picture) -> Picture:
        """A picture `(h, w, 3)` uint8 on its mat `(height, width, 3)`."""
        height, width = picture.shape[:2]
        # The picture's edge goes on to all sides, without its texture: walls stay walls.
        shrink = _BLURRED_PX / max(self.width, self.height)
        small = cv2.resize(
            picture,
            (max(2, round(width * shrink)), max(2, round(height * shrink))),
            interpolation=cv2.INTER_AREA,
        )
        below, right = self.height - self.top - height, self.width - self.left - width
        top, bottom, left, right = (
            max(0, round(edge * shrink)) for edge in (self.top, below, self.left, right)
        )
        wide = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE)
        wide = wide.astype(np.float32)
        blurred = cv2.GaussianBlur(
            wide, (0, 0), _BLUR * max(wide.shape), borderType=cv2.BORDER_REPLICATE
        )
        laid = cv2.resize(blurred, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        mat = np.clip(laid + 0.5, 0, 255).astype(np.uint8)
        mat[self.top : self.top + height, self.left : self.left + width] = picture
        return np.asarray(mat, np.uint8)

    def around(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask `(h, w)` of the smaller picture for the larger one; True around it."""
        height, width = mask.shape
        wide = np.ones((self.height, self.width), np.bool_)
        wide[self.top : self.top + height, self.left : self.left + width] = mask
        return wide


class WindowedFrames:
    """A part of every frame of a film. See `FrameSource`.

    Args:
        source: The whole frames.
        window: Which part.
    """

    def __init__(self, source: FrameSource, window: Window) -> None:
        self._source = source
        self._window = window
        self.num_frames = source.num_frames
        self.width, self.height = window.out_width, window.out_height
        self.fps = source.fps

    def read(self, start: int, stop: int) -> Iterator[Picture]:
        """See `FrameSource.read`."""
        for frame in self._source.read(start, stop):
            yield self._window.cut(frame)
