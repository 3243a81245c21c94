"""Marks frames right before they are encoded: the same faint pattern in every one.

    d = pattern * amplitude        amplitude: more where the picture is busy, PSNR at least 42 dB
    frame + d, on all three channels alike, so that only the brightness changes

The pattern stands still while the picture moves. An encoder then has to send it once, not again in
every frame, and keeps it; and a reader that averages frames keeps it as well.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.watermark.pattern import (
    CANVAS_PX,
    TILE_PX,
    check_key,
    keyed_spectrum,
    shift_factor,
    tile_of,
)
from model.watermark.payload import NUM_SYMBOLS, STEPS, encode_payload

Frame = NDArray[np.uint8]

GRID_SHARE: Final = 0.4
"""Of the pattern's energy, in the part that carries no bytes: what the detector looks for first."""

LEAST_SIDE_PX: Final = 64
_MOST_RMS: Final = 1.65  # grey levels of a frame's mark: a PSNR of 43.8 dB
_CALM: Final = 1.5  # rms in a flat region, grey levels
_PER_ACTIVITY: Final = 0.1  # more of it for each grey level of detail
_BUSY: Final = 3.0  # most
_CELL_PX: Final = 8  # canvas pixels of a cell in which detail is measured
# Bytes hold the pattern in 1/64 and the amplitude in 1/32.
_PATTERN_UNITS: Final = 64
_AMPLITUDE_UNITS: Final = 32


def marked_tile(key: bytes, payload: bytes) -> NDArray[np.float32]:
    """One period of the pattern `(256, 256)`, mean 0, rms 1: the grid, and a shifted pattern a symbol."""
    spectrum = math.sqrt(GRID_SHARE) * keyed_spectrum(key, 0)
    strength = math.sqrt((1 - GRID_SHARE) / NUM_SYMBOLS)
    step_px = TILE_PX / STEPS
    for number, symbol in enumerate(encode_payload(payload), start=1):
        down, right = divmod(symbol, STEPS)
        shift = shift_factor(down * step_px, right * step_px)
        spectrum = spectrum + strength * keyed_spectrum(key, number) * shift
    return tile_of(spectrum)


class WatermarkEmbedder:
    """Adds one key's mark with one payload to frames of one size.

    Args:
        key: Secret of the install, at least 16 bytes. Whoever has it can find and forge the mark.
        payload: 8 bytes.
        width: Of the frames, pixels.
        height: Pixels.
    Raises:
        ValueError: Key or payload have the wrong length.
        ShapeError: Frames are smaller than 64 px.
    """

    def __init__(self, key: bytes, payload: bytes, *, width: int, height: int) -> None:
        check_key(key)
        if min(width, height) < LEAST_SIDE_PX:
            raise ShapeError(
                f"frames of {width}x{height} cannot be marked; expected sides of at least "
                f"{LEAST_SIDE_PX} px"
            )
        self._shape = (height, width, 3)
        scale = math.sqrt(height * width) / CANVAS_PX
        pattern = np.rint(spread(marked_tile(key, payload), height, width) * _PATTERN_UNITS)
        # Bytes with saturation are what OpenCV is fastest at, so what darkens is kept apart.
        self._lighter = np.clip(pattern, 0, 255).astype(np.uint8)
        self._darker = np.clip(-pattern, 0, 255).astype(np.uint8)
        # Written anew for every frame: memory that is asked for each time costs more than the sums.
        self._strength = np.empty((height, width), np.uint8)
        self._levels = np.empty_like(self._strength)
        self._all_levels = np.empty(self._shape, np.uint8)
        cells = (width / scale / _CELL_PX, height / scale / _CELL_PX)
        self._cells = (round(cells[0]), round(cells[1]))
        self._half = (round(4 * cells[0]), round(4 * cells[1]))

    def apply(self, frame: Frame, number: int = 0) -> None:
        """Mark a frame in place.

        Args:
            frame: `(height, width, 3)`, uint8 RGB.
            number: Its place in the video; the mark is the same in every frame.
        Raises:
            ShapeError: The frame has another shape or dtype.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ShapeError(
                f"expected a uint8 frame {self._shape}, got {frame.dtype} {frame.shape}"
            )
        height, width, _ = self._shape
        cv2.resize(self._amplitude(frame), (width, height), dst=self._strength)
        units = 1 / (_PATTERN_UNITS * _AMPLITUDE_UNITS)
        for pattern, change in ((self._lighter, cv2.add), (self._darker, cv2.subtract)):
            cv2.multiply(pattern, self._strength, dst=self._levels, scale=units)
            cv2.merge((self._levels, self._levels, self._levels), dst=self._all_levels)
            change(frame, self._all_levels, dst=frame)

    def _amplitude(self, frame: Frame) -> Frame:
        """How strong the mark is in each cell: rms in 1/32 grey levels, uint8."""
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        half = cv2.resize(grey, self._half, interpolation=cv2.INTER_LINEAR)
        detail = cv2.absdiff(half, cv2.blur(half, (5, 5)))
        activity = cv2.resize(detail.astype(np.float32), self._cells, interpolation=cv2.INTER_AREA)
        # The least of the neighbours: beside an outline, on a flat ground, a mark would show.
        activity = cv2.blur(cv2.erode(activity, np.ones((3, 3), np.uint8)), (3, 3))
        wanted = np.minimum(_CALM + _PER_ACTIVITY * activity, _BUSY)
        rms = math.sqrt(float(np.mean(wanted * wanted)))
        units = _AMPLITUDE_UNITS * min(1.0, _MOST_RMS / rms)
        return np.minimum(wanted * units, 255).astype(np.uint8)


def spread(tile: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The tile, repeated over a picture `(height, width)` whose canvas has the area of 512 x 512 px."""
    scale = math.sqrt(height * width) / CANVAS_PX
    margin = 4  # pixels that the interpolation reaches beyond the tile
    down = ((np.arange(height) + 0.5) / scale - 0.5) % TILE_PX + margin
    right = ((np.arange(width) + 0.5) / scale - 0.5) % TILE_PX + margin
    columns, rows = np.meshgrid(right.astype(np.float32), down.astype(np.float32))
    wrapped = np.pad(tile, margin, mode="wrap")
    return np.asarray(cv2.remap(wrapped, columns, rows, cv2.INTER_CUBIC), np.float32)
