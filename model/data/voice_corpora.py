"""Voices without faces, with the phone teacher's labels: what stage 1 hears beside the films."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.data.arrays import write_arrays
from model.data.phones import UNKNOWN_PHONE
from model.data.split import language_held_out, voice_held_out
from model.face.landmarks import CONTENT, POSE, join_landmarks
from model.media.audio import MELS_PER_FRAME, log_mel

HELD_OUT: Final[dict[str, Callable[[str], bool]]] = {
    "speech": voice_held_out,
    "altered": voice_held_out,
    "synthetic": language_held_out,
}
"""The files of voices in a prepared folder, and what is never trained on in each."""


@dataclass(frozen=True)
class Corpus:
    """One set of voices; all utterances stand one after another.

    Log-mels `(M, 80)`, standardised, float16; phones `(M,)`; the teacher's motion against the shut mouth
    `(M / 4, 31, 2)`, crop units; `(M / 4,)`, whether the phones are known; the utterances' names, and
    spans: their first and last 10 ms `(N, 2)`, multiples of 4.
    """

    log_mel: NDArray[np.float16]
    phones: NDArray[np.uint8]
    offsets: NDArray[np.float32]
    valid: NDArray[np.bool_]
    names: list[str]
    spans: NDArray[np.int64]


def load_corpora(prepared: Path, *, held_out: bool) -> dict[str, Corpus]:
    """The voices of a prepared folder that `phone_teacher` has labelled.

    Those that are measured, `held_out`, or those that are trained on; utterances without any known
    phone are left out.
    """
    motion = np.load(prepared / "motion.npz")
    corpora = {}
    for name, is_held_out in HELD_OUT.items():
        if f"{name}_offsets" not in motion:
            continue
        voices = np.load(prepared / f"{name}.npz")
        phones = voices["phones"]
        kept = [
            (utterance, (there.start, there.stop))
            for utterance, there in utterances(voices)
            if is_held_out(utterance) == held_out and not (phones[there] == UNKNOWN_PHONE).all()
        ]
        spans = np.array([span for _, span in kept], np.int64).reshape(-1, 2)
        labels = motion[f"{name}_offsets"], motion[f"{name}_valid"]
        names = [utterance for utterance, _ in kept]
        corpora[name] = Corpus(voices["log_mel"], phones, *labels, names, spans)
    return corpora


def utterances(voices: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, slice]]:
    """Name and place, 10 ms, of every utterance of arrays that are laid out as `speech.npz`."""
    ends = np.cumsum(voices["lengths"])
    for name, length, end in zip(voices["names"], voices["lengths"], ends, strict=True):
        yield str(name), slice(int(end - length), int(end))


def write_voices(
    path: Path, said: Iterable[tuple[str, NDArray[np.float32], NDArray[np.uint8]]]
) -> None:
    """Write names, waveforms `(160 F,)` and their phones `(F,)`, laid out as `speech.npz`.

    names (N,), log_mel (M, 80) of all utterances one after another, phones (M,), lengths (N,).
    """
    names, mels, labels = [], [], []
    for name, waveform, phones in said:
        names.append(name)
        mels.append(log_mel(waveform).astype(np.float16))
        labels.append(phones)
        assert len(mels[-1]) == len(phones)
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(names),
        "lengths": np.array([len(row) for row in labels]),
        "log_mel": np.concatenate(mels),
        "phones": np.concatenate(labels),
    }
    write_arrays(path, arrays)
    print(f"{path}: {len(names)} utterances, {len(arrays['phones']) / 6000:.1f} min")


def spoken_faces(neutral: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """The teacher's motion `(T, 31, 2)` on the face of `motion.npz`'s `neutral` `(68, 2)`, `(T, 68, 2)`."""
    return join_landmarks(neutral[list(POSE)], neutral[list(CONTENT)] + offsets)


class Cutter:
    """Draws pieces of a corpus, `frames` video frames at most; longer utterances more often."""

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
