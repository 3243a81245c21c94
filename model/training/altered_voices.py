"""Recorded voices once more: higher and faster, deeper and slower, whispered, sung, through a codec.

    python -m model.training.altered_voices --source DATA --prepared data/prepared

Log-mels can be coloured while training (`model.data.mel_augmentation`); what changes the
excitation or needs a codec is done here, once, on waveforms. Writes `altered.npz`, laid out as
`speech.npz`, a second copy of every phone-aligned utterance with its phones in step. Held out are
those whose voice is.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model.data.phones import UNKNOWN_PHONE
from model.data.sound import read_sound
from model.data.voice_alteration import alter
from model.media.audio import HOP_LENGTH, log_mel


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    arguments = parser.parse_args()
    speech = np.load(arguments.prepared / "speech.npz")
    all_phones = speech["phones"]
    ends = np.cumsum(speech["lengths"])
    rng = np.random.default_rng(0)
    names, mels, labels = [], [], []
    rows = list(zip(speech["names"], ends - speech["lengths"], ends, strict=True))
    for name, start, end in tqdm(rows, desc="altered voices", mininterval=5):
        phones = all_phones[start:end]
        if (phones == UNKNOWN_PHONE).all():
            continue
        waveform = read_sound(arguments.source / "speech" / str(name))
        length = (end - start) * HOP_LENGTH
        waveform = np.pad(waveform, (0, max(0, length - len(waveform))))[:length]
        waveform, phones = alter(waveform, phones, rng)
        names.append(str(name))
        mels.append(log_mel(waveform).astype(np.float16))
        labels.append(phones)
    target = arguments.prepared / "altered.npz"
    partial = target.with_suffix(".partial.npz")
    np.savez(
        partial,
        names=np.array(names),
        log_mel=np.concatenate(mels),
        phones=np.concatenate(labels),
        lengths=np.array([len(row) for row in labels]),
    )
    os.replace(partial, target)
    print(f"{target}: {len(names)} utterances")


if __name__ == "__main__":
    main()
