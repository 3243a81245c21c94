"""Recorded voices once more: higher and faster, deeper and slower, whispered, sung, through a codec.

    python -m model.training.builders.altered_voices source=DATA prepared=data/prepared

Log-mels can be coloured while training (`model.data.mel_augmentation`); what changes the
excitation or needs a codec is done here, once, on waveforms. Writes `altered.npz`, laid out as
`speech.npz`, a second copy of every phone-aligned utterance with its phones in step. Held out are
those whose voice is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.arrays import write_arrays
from model.data.phones import UNKNOWN_PHONE
from model.data.sound import fit_sound, read_sound
from model.data.voice_alteration import alter
from model.media.audio import MELS_PER_FRAME, log_mel
from model.training.config import run_program


@dataclass(frozen=True)
class AlteredVoicesConfig:
    """Altered voices.

    Attributes:
        source: Folder that was prepared.
        prepared: Folder with `speech.npz`, and for `altered.npz`.
    """

    source: Path
    prepared: Path = Path("data/prepared")


def main(config: AlteredVoicesConfig) -> None:
    """Alter every phone-aligned utterance."""
    speech = np.load(config.prepared / "speech.npz")
    all_phones = speech["phones"]
    ends = np.cumsum(speech["lengths"])
    rng = np.random.default_rng(0)
    names, mels, labels = [], [], []
    rows = list(zip(speech["names"], ends - speech["lengths"], ends, strict=True))
    for name, start, end in tqdm(rows, desc="altered voices", mininterval=5):
        phones = all_phones[start:end]
        if (phones == UNKNOWN_PHONE).all():
            continue
        sound = read_sound(config.source / "speech" / str(name))
        waveform, phones = alter(fit_sound(sound, len(phones) // MELS_PER_FRAME), phones, rng)
        names.append(str(name))
        mels.append(log_mel(waveform).astype(np.float16))
        labels.append(phones)
    target = config.prepared / "altered.npz"
    arrays: dict[str, NDArray[Any]] = {
        "log_mel": np.concatenate(mels),
        "phones": np.concatenate(labels),
    }
    lengths = np.array([len(row) for row in labels])
    write_arrays(target, {"names": np.array(names), "lengths": lengths, **arrays})
    print(f"{target}: {len(names)} utterances")


if __name__ == "__main__":
    run_program(AlteredVoicesConfig, main, __doc__)
