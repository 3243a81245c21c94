"""Recorded voices once more: higher and faster, deeper and slower, whispered, sung, through a codec.

    python -m model.training.builders.altered_voices source=DATA prepared=data/prepared

Log-mels can be coloured while training (`model.data.mel_augmentation`); what changes the
excitation or needs a codec is done here, once, on waveforms. Writes `altered.npz`, laid out as
`speech.npz`, a second copy of every phone-aligned utterance with its phones in step. Held out are
those whose voice is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.phones import UNKNOWN_PHONE
from model.data.sound import fit_sound, read_sound
from model.data.voice_alteration import alter
from model.data.voice_corpora import utterances, write_voices
from model.media.audio import MELS_PER_FRAME
from model.training.config import run_program


@dataclass(frozen=True)
class AlteredVoicesConfig:
    """Altered voices: `source` was prepared into `prepared`, with `speech.npz`, and for `altered.npz`."""

    source: Path
    prepared: Path = Path("data/prepared")


def alter_all(
    source: Path, speech: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.uint8]]]:
    """Every phone-aligned utterance once more: name, waveform, phones."""
    all_phones = speech["phones"]
    rng = np.random.default_rng(0)
    for name, there in tqdm(list(utterances(speech)), desc="altered voices", mininterval=5):
        phones = all_phones[there]
        if not (phones == UNKNOWN_PHONE).all():
            sound = fit_sound(read_sound(source / "speech" / name), len(phones) // MELS_PER_FRAME)
            yield name, *alter(sound, phones, rng)


def main(config: AlteredVoicesConfig) -> None:
    """Alter and write."""
    speech = np.load(config.prepared / "speech.npz")
    write_voices(config.prepared / "altered.npz", alter_all(config.source, speech))


if __name__ == "__main__":
    run_program(AlteredVoicesConfig, main, __doc__)
