"""What is never trained on: decided by names alone, so that every script agrees.

Identities are held out, not pictures: a person whom training has seen proves nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FILMED: Final = ("grid", "speakers")
"""Arrays of filmed sentences in a prepared folder: the first speaker's, and those of others."""
CHOOSING_SPEAKERS: Final = ("s31", "x14")
"""Speakers who are not trained on and who decide what is kept: losses, checkpoints, constants."""


def is_held_out(identity: str, share: float) -> bool:
    """Whether `identity` belongs to the held-out `share` (0 to 1)."""
    return zlib.crc32(identity.encode()) / 2**32 < share


def clip_held_out(name: str) -> bool:
    """About one GRID sentence in twenty."""
    return is_held_out(Path(name).stem, 0.05)


def identity_held_out(identity: str) -> bool:
    """About one person in twenty of a set with many."""
    return is_held_out(identity, 0.05)


def portrait_identity(row: Mapping[str, str]) -> str:
    """Who is on a photograph, by its row of `index.csv`: identities are unique within their source only.

    Args:
        row: Columns `source` (what is behind its first `_` does not count) and `identity`.
    """
    return f"{row['source'].split('_')[0]}-{row['identity']}"


def portrait_held_out(identity: str) -> bool:
    """About 6 % of the identities."""
    return is_held_out(identity, 0.06)


def voice_held_out(name: str) -> bool:
    """Two LibriSpeech voices in seven; the speaker is the first number of the file's name."""
    return is_held_out(f"voice-{name.split('-')[0]}", 0.28)


def language_held_out(name: str) -> bool:
    """About one language of the synthetic voices in ten; it stands before the name's plus sign."""
    return is_held_out(f"language-{name.split('+')[0]}", 0.1)


def speakers_of(name: str, films: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """Who speaks in each clip `(N,)` of one of `FILMED`."""
    if "speakers" in films:
        return np.asarray(films["speakers"], np.str_)
    return np.full(len(films["names"]), name)


def trained_on(name: str, films: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Which clips `(N,)` of one of `FILMED` may be trained on: not those of held-out sentences or speakers."""
    if "speakers" not in films:
        return np.array([not clip_held_out(str(clip)) for clip in films["names"]])
    chosen_by = np.isin(speakers_of(name, films), CHOOSING_SPEAKERS)
    return np.asarray(~films["held_out"].astype(np.bool_) & ~chosen_by)
