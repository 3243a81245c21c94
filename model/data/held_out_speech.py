"""Speech that training has not heard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.split import clip_held_out
from model.data.voice_corpora import Corpus, load_corpora, spoken_faces
from model.face.landmarks import join_landmarks, mouth_opening
from model.media.audio import MELS_PER_FRAME

Points = NDArray[np.float32]


@dataclass(frozen=True)
class HeldOut:
    """What training has not seen.

    Attributes:
        mels, phones: Of GRID sentences `(K, 300, 80)`, `(K, 300)`; `names` are their files.
        faces: The real video's landmarks, carried to the clip's mean pose `(K, 75, 68, 2)`.
        gain: Brings this speaker's motion to the population's amplitude, in which the completer speaks.
        voices, voice_phones: Log-mels `(4T, 80)` of other speakers; `voice_names` are their files.
        voice_openings: Openings `(T,)` of the phone teacher's labels.
        portraits: Photographs' landmarks `(P, 68, 2)`.
        synthetic, synthetic_phones: The same of synthetic voices in languages that were not trained on.
    """

    mels: Points
    phones: NDArray[np.uint8]
    faces: Points
    gain: float
    voices: list[Points]
    voice_phones: list[NDArray[np.uint8]]
    voice_openings: list[Points]
    portraits: Points
    names: list[str]
    voice_names: list[str]
    synthetic: list[Points]
    synthetic_phones: list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Sound:
    """One recording: log-mel `(4T, 80)`, and waveform `(N,)` at 16 kHz where it was kept too."""

    mel: Points
    waveform: Points | None = None


def load_held_out(prepared: Path) -> HeldOut:
    """Read the held-out part of the prepared data."""
    grid, motion = np.load(prepared / "grid.npz"), np.load(prepared / "motion.npz")
    rows = np.flatnonzero([clip_held_out(str(name)) for name in grid["names"]])
    corpora = load_corpora(prepared, held_out=True)
    speech = corpora["speech"]
    openings = [
        mouth_opening(spoken_faces(motion["neutral"], speech.offsets[start:end]))
        for start, end in speech.spans // MELS_PER_FRAME
    ]
    voices, voice_phones = _utterances(speech)
    synthetic, synthetic_phones = (
        _utterances(corpora["synthetic"]) if "synthetic" in corpora else ([], [])
    )
    return HeldOut(
        mels=grid["log_mel"][rows].astype(np.float32),
        phones=grid["phones"][rows],
        faces=join_landmarks(motion["grid_pose"][rows, None], motion["grid_content"][rows]),
        gain=float(motion["grid_gain"][0]),
        voices=voices,
        voice_phones=voice_phones,
        voice_openings=openings,
        portraits=motion["portraits"][motion["portraits_held_out"]],
        names=[str(name) for name in grid["names"][rows]],
        voice_names=speech.names,
        synthetic=synthetic,
        synthetic_phones=synthetic_phones,
    )


def _utterances(corpus: Corpus) -> tuple[list[Points], list[NDArray[np.uint8]]]:
    mels = [corpus.log_mel[start:end].astype(np.float32) for start, end in corpus.spans]
    return mels, [corpus.phones[start:end] for start, end in corpus.spans]


@dataclass(frozen=True)
class Sounds:
    """The recordings of a `HeldOut`, in its order."""

    clips: list[Sound]
    voices: list[Sound]


def load_sounds(data: HeldOut, source: Path | None = None) -> Sounds:
    """Log-mels, and waveforms too where `source` (the folder that was prepared) is given."""

    def read(folder: str, name: str, mel: Points) -> Sound:
        if source is None:
            return Sound(mel)
        # Late: it needs ffmpeg, which a machine that only trains on arrays has not.
        from model.data.sound import fit_sound, read_sound

        waveform = read_sound(source / folder / name)
        return Sound(mel, fit_sound(waveform, len(mel) // MELS_PER_FRAME))

    clips = zip(data.names, data.mels, strict=True)
    voices = zip(data.voice_names, data.voices, strict=True)
    return Sounds(
        [read("grid_s1", *row) for row in clips], [read("speech", *row) for row in voices]
    )
