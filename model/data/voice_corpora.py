"""Voices without faces, with the phone teacher's labels: what stage 1 hears beside the films."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.phones import UNKNOWN_PHONE
from model.data.split import language_held_out, voice_held_out
from model.face.landmarks import CONTENT, POSE, join_landmarks
from model.media.audio import MELS_PER_FRAME

HELD_OUT: Final[dict[str, Callable[[str], bool]]] = {
    "speech": voice_held_out,
    "altered": voice_held_out,
    "synthetic": language_held_out,
}
"""The files of voices in a prepared folder, and what is never trained on in each."""


@dataclass(frozen=True)
class Corpus:
    """One set of voices; all utterances stand one after another.

    Attributes:
        log_mel: `(M, 80)`, standardised, float16.
        phones: `(M,)`.
        offsets: The teacher's motion against the shut mouth `(M / 4, 31, 2)`, crop units.
        valid: `(M / 4,)`, whether the phones are known.
        names: Utterances.
        spans: Their first and last 10 ms `(N, 2)`, multiples of 4.
    """

    log_mel: NDArray[np.float16]
    phones: NDArray[np.uint8]
    offsets: NDArray[np.float32]
    valid: NDArray[np.bool_]
    names: list[str]
    spans: NDArray[np.int64]


def load_corpora(prepared: Path, *, held_out: bool) -> dict[str, Corpus]:
    """The voices of a prepared folder that `phone_teacher` has labelled.

    Args:
        prepared: Folder with `motion.npz`, `speech.npz` and, if they were made, the others.
        held_out: Those that are measured, or those that are trained on; utterances without any
            known phone are left out.
    """
    motion = np.load(prepared / "motion.npz")
    corpora = {}
    for name, is_held_out in HELD_OUT.items():
        if f"{name}_offsets" not in motion:
            continue
        voices = np.load(prepared / f"{name}.npz")
        ends, phones = np.cumsum(voices["lengths"]), voices["phones"]
        spans = np.stack([ends - voices["lengths"], ends], axis=1)
        kept = [
            i
            for i, (start, end) in enumerate(spans)
            if is_held_out(str(voices["names"][i])) == held_out
            and not (phones[start:end] == UNKNOWN_PHONE).all()
        ]
        corpora[name] = Corpus(
            voices["log_mel"],
            phones,
            motion[f"{name}_offsets"],
            motion[f"{name}_valid"],
            [str(voices["names"][i]) for i in kept],
            spans[kept],
        )
    return corpora


def spoken_faces(neutral: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """The teacher's motion `(T, 31, 2)` on the face of `motion.npz`'s `neutral` `(68, 2)`, `(T, 68, 2)`."""
    return join_landmarks(neutral[list(POSE)], neutral[list(CONTENT)] + offsets)


class Cutter:
    """Draws pieces of a corpus, longer utterances more often.

    Args:
        corpus: What is cut.
        frames: Length of the longest piece, video frames.
    """

    def __init__(self, corpus: Corpus, frames: int) -> None:
        self.corpus, self.longest = corpus, frames
        known = [
            corpus.valid[start // MELS_PER_FRAME : end // MELS_PER_FRAME].mean() > 0.5
            and end - start > MELS_PER_FRAME * (frames + 1)
            for start, end in corpus.spans
        ]
        self.spans = corpus.spans[np.asarray(known, np.bool_)] // MELS_PER_FRAME
        self._ends = np.cumsum(np.diff(self.spans, axis=1)[:, 0])

    def draw(self, rng: np.random.Generator, frames: int) -> slice:
        """Video frames of the corpus, `frames` of them out of one utterance."""
        row = int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))
        start, end = self.spans[row]
        first = int(start + rng.integers(end - start - frames + 1))
        return slice(first, first + frames)
