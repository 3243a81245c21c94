"""Measure the sync network on sentences, voices and faces that its training has not seen.

    python -m model.evaluation.sync_figures --prepared data/prepared

Prints a Markdown table, writes `figures.json` and `figures.md`. Rows: the filmed speaker's held-out
sentences, as filmed and with a detector's noise; unseen voices whose lips are the phone teacher's
labels, carried to unseen photographs; and what a landmark completer makes of the same voices and,
dubbed, of another sentence than the filmed one. Needs `grid.npz`, `speech.npz` and `motion.npz`
(docs/training.md).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoints import SHIPPED
from model.data.held_out_speech import Sound, load_held_out
from model.data.split import clip_held_out
from model.data.voice_corpora import load_corpora, spoken_faces
from model.evaluation.report import row_table, write_figures
from model.evaluation.speakers import network_alone
from model.face.landmarks import LEFT_EYE, RIGHT_EYE
from model.face.retargeting import retarget
from model.media.audio import FPS, MELS_PER_FRAME
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.sync_network import MARGIN, SyncNetwork, load_sync_network

Points = NDArray[np.float32]

SHIFT: Final = 5
"""Frames by which the wrong sound is shifted."""
_MAX_OFFSET: Final = 15
_EYES_APART: Final = 0.262  # crop units between the eyes' centres
_NOISE_PX: Final = (0.5, 1.0)  # of a 128 px crop; a detector has about 0.3 to 0.5
_VOICE_FRAMES: Final = 125


@dataclass(frozen=True)
class Track:
    """A recording, log-mel `(4T, 80)`, and the face that says it, `(T, 68, 2)` in any unit."""

    log_mel: Points
    landmarks: Points


def load_tracks(prepared: Path) -> dict[str, list[Track]]:
    """Held-out recordings: `clips` as filmed, and `voices` with the teacher's lips on photographs."""
    grid, motion = np.load(prepared / "grid.npz"), np.load(prepared / "motion.npz")
    rows = np.flatnonzero([clip_held_out(str(name)) for name in grid["names"]])
    clips = [
        Track(mel.astype(np.float32), face)
        for mel, face in zip(grid["log_mel"][rows], grid["landmarks"][rows], strict=True)
    ]
    faces = motion["portraits"][motion["portraits_held_out"]]
    voices: list[Track] = []
    speech = load_corpora(prepared, held_out=True)["speech"]
    for first, end in speech.spans // MELS_PER_FRAME:
        last = min(end, first + _VOICE_FRAMES)
        if speech.valid[first:last].all():
            said = spoken_faces(motion["neutral"], speech.offsets[first:last])
            mel = speech.log_mel[MELS_PER_FRAME * first : MELS_PER_FRAME * last]
            face = retarget(faces[len(voices) % len(faces)], said)
            voices.append(Track(mel.astype(np.float32), face))
    return {"clips": clips, "voices": voices}


def with_noise(tracks: Sequence[Track], noise_px: float) -> list[Track]:
    """Landmarks with a detector's noise: `noise_px` of a 128 px crop, independent in every frame."""
    rng = np.random.default_rng(0)
    noisy = []
    for track in tracks:
        eyes = [track.landmarks[:, list(eye)].mean(axis=1) for eye in (LEFT_EYE, RIGHT_EYE)]
        side = float(np.linalg.norm(eyes[1] - eyes[0], axis=-1).mean()) / _EYES_APART
        noise = rng.normal(0, noise_px / 128 * side, track.landmarks.shape)
        noisy.append(Track(track.log_mel, (track.landmarks + noise).astype(np.float32)))
    return noisy


def _means(cosines: Points) -> Points:
    """Mean of every whole second of `(N,)`: 25 frames have 11 vectors."""
    count = FPS - 2 * MARGIN
    return cosines[: len(cosines) // count * count].reshape(-1, count).mean(axis=1)


def offset_histogram(network: SyncNetwork, tracks: Sequence[Track]) -> dict[int, int]:
    """How many of `tracks` have their best offset at so many frames (positive: lips late)."""
    offsets = [network.sync_scores(t.log_mel, t.landmarks).offset_frames for t in tracks]
    return dict(sorted(Counter(offsets).items()))


def measure(network: SyncNetwork, tracks: Sequence[Track]) -> dict[str, float]:
    """How well sound and lips of `tracks` are told from wrong ones.

    Args:
        network: The sync network.
        tracks: Recordings of at least 34 frames, two or more.
    Returns:
        `shifted`: share of clips that prefer their sound to the same shifted by 5 frames (mean of
        both directions); `second`: the same for every second of them alone; `swapped`: share of
        pairs in which a mouth prefers its own sound to another clip's; `frozen`: share in which the
        sound prefers its mouth to one frame of it held still; `offset_0`, `offset_1`: share of best
        offsets that are 0, and within ±1; `confidence`, `distance`: means of the scores; `cosine`:
        mean matching.
    """
    scores = [network.sync_scores(t.log_mel, t.landmarks, _MAX_OFFSET) for t in tracks]
    distances = np.stack([score.distances for score in scores])
    true = distances[:, _MAX_OFFSET]
    shifted = distances[:, [_MAX_OFFSET - SHIFT, _MAX_OFFSET + SHIFT]]
    offsets = np.array([score.offset_frames for score in scores])
    vectors = [network.embed(track.log_mel, track.landmarks) for track in tracks]
    own = np.array([(audio * lips).sum(axis=-1).mean() for audio, lips in vectors])
    seconds, swapped = [], []
    for audio, lips in vectors:
        there = (audio * lips).sum(axis=-1)[SHIFT:-SHIFT]
        for first in (0, 2 * SHIFT):
            wrong = (audio[first : len(audio) - 2 * SHIFT + first] * lips[SHIFT:-SHIFT]).sum(-1)
            seconds += [*(_means(there) > _means(wrong))]
    for (own_audio, lips), (audio, _) in permutations(vectors, 2):
        frames = min(len(audio), len(lips))
        here, there = (
            (heard[:frames] * lips[:frames]).sum(axis=-1).mean() for heard in (own_audio, audio)
        )
        swapped.append(here > there)
    frozen = [
        network.matching(t.log_mel, np.repeat(t.landmarks[:1], len(t.landmarks), axis=0))
        for t in tracks
    ]
    return {
        "shifted": float((true[:, None] < shifted).mean()),
        "second": float(np.mean(seconds)),
        "swapped": float(np.mean(swapped)),
        "frozen": float((own > np.array(frozen)).mean()),
        "offset_0": float((offsets == 0).mean()),
        "offset_1": float((np.abs(offsets) <= 1).mean()),
        "confidence": float(np.mean([score.confidence for score in scores])),
        "distance": float(np.mean([score.distance for score in scores])),
        "cosine": float(own.mean()),
    }


def dub(completer: LandmarkCompleter, tracks: Sequence[Track], references: Points) -> list[Track]:
    """What the completer makes of `tracks`' sound on other faces `(P, 68, 2)`, crop units."""
    speak = network_alone(completer)
    return [
        Track(track.log_mel, speak(Sound(track.log_mel), references[i % len(references)]))
        for i, track in enumerate(tracks)
    ]


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", type=Path, help="its folder; without it, the one that ships")
    parser.add_argument("--completer", type=Path, default=SHIPPED / "landmark_completer")
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--output", type=Path, default=Path("out/sync"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = load_sync_network(arguments.network)
    completer = LandmarkCompleter.from_pretrained(arguments.completer).float().eval()
    tracks = load_tracks(arguments.prepared)
    clips, voices = tracks["clips"], tracks["voices"]
    motion = np.load(arguments.prepared / "motion.npz")
    photographs = motion["portraits"][motion["portraits_held_out"]]
    faces = load_held_out(arguments.prepared).faces[:, 0]  # crop units, in the clips' order

    rows = {"filmed sentences": clips}
    for noise_px in _NOISE_PX:
        rows[f"the same, landmarks ± {noise_px} px of 128"] = with_noise(clips, noise_px)
    rows["unseen voices, teacher's lips"] = voices
    rows["unseen voices, completer's lips"] = dub(completer, voices, photographs)
    next_ones = clips[1:] + clips[:1]
    rows["filmed faces dubbed with the next sentence"] = dub(completer, next_ones, faces)
    figures = {title: measure(network, chosen) for title, chosen in rows.items()}
    counts = ", ".join(f"{title}: {len(chosen)}" for title, chosen in rows.items())
    histogram = offset_histogram(network, clips)
    offsets = ", ".join(f"{count} at {offset:+d}" for offset, count in histogram.items())
    cells = {title: {n: f"{x:.3f}" for n, x in row.items()} for title, row in figures.items()}
    table = row_table(cells, list(figures["filmed sentences"]), "recordings")
    text = (
        f"{table}\n\nRecordings: {counts}.\nBest offsets of the filmed sentences, frames "
        f"by which the lips are late: {offsets}.\n"
    )
    write_figures(arguments.output, figures, text)
    print(text)


if __name__ == "__main__":
    main()
