"""What a key draws: noise of middle frequencies on a tile that repeats over the picture.

    key, label ──SHAKE-256──▶ a phase for every frequency of the band ──inverse DFT──▶ tile

The repetition is the synchronisation grid: whatever was cut off or moved, folding the picture onto
one tile adds up all that is left, and where the tile begins is a cyclic shift that one correlation finds.
Tile and band are measured on the canvas, the picture scaled to the area of a square of 512 px: a video
that was only made smaller still has the scale 1 there.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

CANVAS_PX: Final = 512
TILE_PX: Final = 256
BAND: Final = (12.0, 36.0)
"""Cycles a tile. Finer patterns die in the encoder's quantiser, coarser ones can be seen."""
LEAST_KEY_BYTES: Final = 16

Spectrum = NDArray[np.complex64]


@cache
def band_bins() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns `(n,)` of the band in the real DFT `(256, 129)` of a tile.

    Column 0 is left out: its values are not independent of each other.
    """
    rows = np.fft.fftfreq(TILE_PX, 1 / TILE_PX)
    columns = np.fft.rfftfreq(TILE_PX, 1 / TILE_PX)
    radius = np.hypot(rows[:, None], columns[None])
    inside = (radius >= BAND[0]) & (radius <= BAND[1]) & (columns > 0)
    found = np.nonzero(inside)
    return found[0], found[1]


def check_key(key: bytes) -> None:
    """Raise `ValueError` for a key that could be guessed."""
    if len(key) < LEAST_KEY_BYTES:
        raise ValueError(
            f"a watermark's key has {len(key)} bytes; expected at least {LEAST_KEY_BYTES} random ones"
        )


def keyed_spectrum(key: bytes, label: int) -> Spectrum:
    """A pattern `(n,)` over the bins of the band: magnitude 1, phases that only the key tells.

    Args:
        key: Secret, at least 16 bytes.
        label: Which of the key's patterns.
    """
    num_bins = len(band_bins()[0])
    # Length first, so that no other pair of key and label hashes the same bytes.
    material = len(key).to_bytes(4, "big") + key + label.to_bytes(4, "big")
    digest = hashlib.shake_256(b"talkface watermark 1" + material).digest(4 * num_bins)
    turns = np.frombuffer(digest, "<u4") / 2**32
    return np.exp(2j * np.pi * turns).astype(np.complex64)


def shift_factor(down_px: float, right_px: float) -> Spectrum:
    """What a cyclic shift of the tile multiplies a spectrum `(n,)` by; canvas pixels."""
    rows, columns = band_bins()
    # Rows above half the tile are negative frequencies; a whole turn more changes whole shifts only.
    signed = np.where(rows > TILE_PX // 2, rows - TILE_PX, rows)
    turns = -(signed * down_px + columns * right_px) / TILE_PX
    return np.exp(2j * np.pi * turns).astype(np.complex64)


def surfaces(spectra: Spectrum, side: int) -> NDArray[np.float32]:
    """Spectra `(..., n)` as functions of the shift `(..., side, side)`, every `256 / side` px.

    The band ends below the Nyquist frequency of 73 samples already; scaled so that a spectrum of
    n ones has n at shift 0.
    """
    rows, columns = band_bins()
    signed = np.where(rows > TILE_PX // 2, rows - TILE_PX, rows)
    grid = np.zeros((*spectra.shape[:-1], side, side // 2 + 1), np.complex64)
    grid[..., signed % side, columns] = spectra
    return np.asarray(np.fft.irfft2(grid, s=(side, side)) * (side * side / 2), np.float32)


def tile_of(spectrum: Spectrum) -> NDArray[np.float32]:
    """The pattern `(256, 256)` of a spectrum `(n,)`, mean 0, rms 1."""
    drawn = surfaces(spectrum, TILE_PX)
    return drawn / np.float32(drawn.std())
