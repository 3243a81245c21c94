"""Eight bytes as positions of patterns, one byte a pattern, four bytes more to mend what was misread.

A pattern's cyclic shift against the grid's own pattern is one of 16 x 16 steps, which is a byte. For the
same energy that is far better than a sign for each bit: 256 signals that are orthogonal to each other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from reedsolo import ReedSolomonError, RSCodec

PAYLOAD_BYTES: Final = 8
PARITY_BYTES: Final = 4
NUM_SYMBOLS: Final = PAYLOAD_BYTES + PARITY_BYTES
STEPS: Final = 16
"""Steps of a shift along each side of the tile."""
_LEAST_LIKELIEST: Final = NUM_SYMBOLS - PARITY_BYTES // 2
"""Symbols of a word that must each be the likeliest at its place. Two words differ in five symbols or more, so
another word than the right one would need three that were misread and fit all the same; with four given up,
any eight make a word."""


def encode_payload(payload: bytes) -> bytes:
    """The twelve symbols of eight bytes, Reed-Solomon over GF(256).

    Raises:
        ValueError: The payload has another length.
    """
    if len(payload) != PAYLOAD_BYTES:
        raise ValueError(f"a watermark carries {PAYLOAD_BYTES} bytes, got {len(payload)}")
    return bytes(RSCodec(PARITY_BYTES).encode(payload))


def decode_payload(scores: NDArray[np.float32]) -> tuple[bytes, bytes] | None:
    """The payload whose symbols fit best, and these; None where no code word is near enough to be sure.

    Args:
        scores: How well each pattern stands at each of its shifts `(12, 256)`.
    """
    likely = scores.argmax(axis=1)
    ordered = np.sort(scores, axis=1)
    doubtful = np.argsort(ordered[:, -1] - ordered[:, -2])
    codec = RSCodec(PARITY_BYTES)
    best: tuple[float, bytes, bytes] | None = None
    # An erasure costs one byte of parity, an error two: the least certain symbols are given up, by and by.
    for given_up in range(PARITY_BYTES + 1):
        try:
            message, word, _ = codec.decode(
                bytes(likely.astype(np.uint8)), erase_pos=doubtful[:given_up].tolist()
            )
        except ReedSolomonError:
            continue
        if (likely == list(word)).sum() < _LEAST_LIKELIEST:
            continue
        fit = float(scores[np.arange(NUM_SYMBOLS), list(word)].sum())
        if best is None or fit > best[0]:
            best = fit, bytes(message), bytes(word)
    return None if best is None else best[1:]
