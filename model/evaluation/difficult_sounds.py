"""Sounds that speech-driven lips stumble over: whisper, song, telephones, music, breath.

The filmed sentences are spoken again with another source or through a codec, with their timing, so
that the real video still says what the lips should do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.speechless_sounds import breath, music
from model.data.voice_alteration import sing, through_codec, whisper

Waveform = NDArray[np.float32]

_TELEPHONE: Final = ("-ar", "8000", "-c:a", "pcm_mulaw", "-f", "wav")
_MUSIC_DB: Final = -5.0  # against the speech

ALTERATIONS: Final[dict[str, Callable[[Waveform, np.random.Generator], Waveform]]] = {
    "whispered": whisper,
    "sung": sing,
    "telephone": lambda waveform, _: through_codec(waveform, _TELEPHONE),
    "with_music": lambda waveform, rng: _with_music(waveform, rng),
}
"""What is done to a filmed sentence."""
SPEECHLESS: Final = {"music": music, "breath": breath}
"""Sounds in which a mouth should rest."""


def speechless(name: str, count: int) -> list[Waveform]:
    """`count` recordings `(48000,)` of one of `SPEECHLESS`, peak 0.3, never those of training."""
    rng = np.random.default_rng([7, list(SPEECHLESS).index(name)])
    sounds = [SPEECHLESS[name](rng) for _ in range(count)]
    return [(0.3 * sound / np.abs(sound).max()).astype(np.float32) for sound in sounds]


def _with_music(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    accompaniment = np.resize(music(rng), len(waveform))
    level = float(waveform.std() / accompaniment.std()) * 10 ** (_MUSIC_DB / 20)
    mixed = waveform + level * accompaniment
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())), np.float32)
