"""The phones of the alignments and what they say about the lips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

PHONES: Final = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D"),
    *("DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH"),
    *("K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S"),
    *("SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
"""ARPAbet as CMUdict has it; index 0 is silence. Labels of 10 ms, one a mel frame."""
UNKNOWN_PHONE: Final = 255
SILENCE_PHONE: Final = PHONES.index("SIL")
CLOSURES: Final = tuple(PHONES.index(phone) for phone in ("B", "P", "M"))
"""The lips meet."""
ROUNDED: Final = tuple(PHONES.index(phone) for phone in ("UW", "W", "OW"))
"""The lips are rounded."""
SPREAD: Final = tuple(PHONES.index(phone) for phone in ("IY", "EY", "EH"))
"""The lips are drawn apart."""
LIP_TO_TEETH: Final = tuple(PHONES.index(phone) for phone in ("F", "V"))
"""The lower lip meets the upper teeth."""


_FRAME: Final = 4  # of 10 ms, a video frame
_LONG_SILENCE: Final = 15  # of 10 ms
_RAMP: Final = 8  # of 10 ms: lips leave and reach the shut mouth in 80 ms


def read_phones(path: Path, count: int) -> NDArray[np.uint8]:
    """Phone index of each of `count` 10 ms frames, `UNKNOWN_PHONE` where there is no label."""
    labels = np.full(count, UNKNOWN_PHONE, np.uint8)
    if path.exists():
        for phone, start, duration in json.loads(path.read_text())["ph"]:
            if phone in PHONES:
                labels[start : start + duration] = PHONES.index(phone)
    return labels


def runs_of(labels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Starts and ends `(K, 2)` of the stretches where `labels` `(T,)` is true."""
    edges = np.diff(np.concatenate([[False], labels, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


def silence_share(phones: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How shut a pause keeps the mouth `(T,)`: 1 inside silences above 150 ms, with 80 ms ramps."""
    share = np.zeros(len(phones), np.float32)
    for start, end in runs_of(phones == SILENCE_PHONE):
        if end - start > _LONG_SILENCE:
            inside = np.arange(end - start, dtype=np.float32)
            since, until = inside / _RAMP, inside[::-1] / _RAMP
            rise = np.ones_like(inside) if start == 0 else since
            fall = np.ones_like(inside) if end == len(phones) else until
            share[start:end] = np.clip(np.minimum(rise, fall), 0.0, 1.0)
    return share[::_FRAME]
