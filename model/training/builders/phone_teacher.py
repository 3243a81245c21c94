"""Labels for voices without a face: phones and energy -> lips and jaw, learnt from filmed speakers.

    python -m model.training.builders.phone_teacher source=DATA prepared=data/prepared

Few public voices have a face that may be used, and a network that hears few speakers follows no
other (docs/training.md). Phones know nothing of the voice. So a small network learns phones ->
motion on the filmed clips and labels the phone-aligned speech of many voices; stage 1 trains on
both.

Reads `grid.npz`, `speech.npz`, `portraits.npz` (`model.training.builders.prepare`), and `synthetic.npz` and
`altered.npz` where they are, and writes `motion.npz`:

    grid_landmarks (N, 75, 68, 2)   each frame in its own crop, fitted to smoothed pose points
    grid_pose (N, 37, 2)            mean pose of a clip
    grid_content (N, 75, 31, 2)     lips and jaw carried to the mean pose, S_t^-1, without nods
    grid_closed (N, 31, 2)          the clip's shut mouth there
    grid_gain (N,)                  brings the speaker's motion to the population's amplitude
    speakers_...                    the same five for other speakers (`speakers.npz`)
    neutral (68, 2)                 the speaker's usual shut mouth
    speech_offsets (M, 31, 2)       the teacher's motion for all utterances, against the shut mouth, in the
                                    population's style
    speech_valid (M,)               whether the phones are known there
    synthetic_..., altered_...      the same two for the other voices
    portraits (P, 68, 2), portraits_held_out (P,)
    noise (K, 300, 80)              log-mels of rooms, hums and hisses without speech

All coordinates are crop units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from model.data.arrays import write_arrays
from model.data.filmed_motion import amplitude, motion_of_clips, population_gains
from model.data.phones import CLOSURES, PHONES, SILENCE_PHONE, UNKNOWN_PHONE, runs_of, silence_share
from model.data.speechless_sounds import noise_recordings
from model.data.split import FILMED, speakers_of, trained_on
from model.data.subjects import read_photographs
from model.data.voice_corpora import HELD_OUT, spoken_faces, utterances
from model.face.alignment import crop_affine, warp_points
from model.face.landmarks import (
    CONTENT,
    INNER_LIPS,
    LIPS,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
    join_landmarks,
    mouth_opening,
)
from model.media.audio import LOG_MEL_MEAN, LOG_MEL_STD, MELS_PER_FRAME
from model.networks.landmark_completion import NUM_PHONES, lip_opening
from model.training.concordance import concordance_loss
from model.training.config import run_program

Points = NDArray[np.float32]


_UNIT: Final = 0.02  # crop units that one unit of loss stands for
_NOISES: Final = 240  # recordings of three seconds
_LIKE: Final = {"ER": "AH", "NG": "N", "OY": "OW", "SH": "CH", "UH": "UW", "ZH": "JH"}
"""Phones that the filmed sentences do not have, and those with the same lips that they do have."""


# 1. the teacher -------------------------------------------------------------------------------


def loudness(mel: NDArray[np.floating[Any]]) -> Points:
    """Log10 energy of each 10 ms `(4T,)`, 0 at the loud stretches of the recording, at least -3."""
    power = 10.0 ** (np.asarray(mel, np.float32) * LOG_MEL_STD + LOG_MEL_MEAN)
    energy = np.log10(power.mean(axis=-1))
    loud = np.percentile(energy, 95, axis=-1, keepdims=True)
    return np.clip(energy - loud, -3.0, 0.5).astype(np.float32)


def known_phones(phones: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(4T,)` with unknown phones as silence, and those that nobody filmed as their likes.

    An /h/ has no lips of its own: it takes those of the phone that follows.
    """
    like = np.arange(NUM_PHONES, dtype=np.uint8)
    for phone, other in _LIKE.items():
        like[PHONES.index(phone)] = PHONES.index(other)
    known = like[np.where(phones == UNKNOWN_PHONE, SILENCE_PHONE, phones)]
    for start, end in runs_of(known == PHONES.index("HH")):
        if end < len(known) and known[end] != SILENCE_PHONE:
            known[start:end] = known[end]
    return known


def teacher_input(phones: NDArray[np.uint8], mel: NDArray[np.floating[Any]]) -> torch.Tensor:
    """Four one-hot phones and four energies a frame, `(T, 4 * 41)`; unknown phones are silence."""
    known = torch.from_numpy(known_phones(phones).astype(np.int64))
    one_hot = F.one_hot(known, NUM_PHONES).float()
    energy = torch.from_numpy(loudness(mel))[:, None]
    return torch.cat([one_hot, energy], dim=-1).view(len(phones) // MELS_PER_FRAME, -1)


class PhoneTeacher(nn.Module):
    """`(B, T, 164)` -> offsets `(B, T, 31, 2)` in crop units; sees 10 frames on each side."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(MELS_PER_FRAME * (NUM_PHONES + 1), width, 1),
            nn.Conv1d(width, width, 7, padding=3),
            nn.SiLU(),
            nn.Dropout(0.2),
            nn.Conv1d(width, width, 7, padding=3),
            nn.SiLU(),
            nn.Dropout(0.2),
            nn.Conv1d(width, 2 * len(CONTENT), 9, padding=4),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        offsets: torch.Tensor = self.layers(inputs.transpose(1, 2)).transpose(1, 2)
        return offsets.unflatten(-1, (len(CONTENT), 2)) * 0.05


def train_teacher(
    inputs: torch.Tensor, offsets: torch.Tensor, shut: torch.Tensor, steps: int
) -> PhoneTeacher:
    """Fit the teacher in `steps` of 48 sentences, inputs `(N, T, 164)`.

    Offsets `(N, T, 31, 2)` are against the shut mouth of the faces `shut` `(N, 68, 2)`, crop units.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    teacher = PhoneTeacher()
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    # of each point (31, 1): jaw 0.5, outer lips 1, inner lips 2
    shares = [2.0 if i in INNER_LIPS else 1.0 if i in LIPS else 0.5 for i in CONTENT]
    weights = torch.tensor(shares)[:, None]
    for _ in tqdm(range(steps), desc="teacher", mininterval=5):
        rows = torch.randint(len(inputs), (48,), generator=generator)
        noisy = inputs[rows]
        # recordings differ in level and noise: energy must not be trusted to the last decibel
        noisy = noisy + 0.1 * torch.randn(noisy.shape, generator=generator) * (
            torch.arange(noisy.shape[-1]) % (NUM_PHONES + 1) == NUM_PHONES
        )
        predicted = teacher(noisy)
        error = (predicted - offsets[rows]) * weights / _UNIT
        loss = error.abs().mean() + error.diff(dim=1).abs().mean()
        said, real = (_moved(shut[rows], motion) for motion in (predicted, offsets[rows]))
        loss = loss + concordance_loss(said, real, torch.ones(said.shape[:2]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return teacher.eval()


def _moved(shut: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Faces `(B, T, 68, 2)`: the shut ones `(B, 68, 2)` with offsets `(B, T, 31, 2)`."""
    faces = shut[:, None].repeat(1, offsets.shape[1], 1, 1)
    faces[:, :, list(CONTENT)] += offsets
    return faces


# 2. what phones say for certain -----------------------------------------------------------------


def closure_share(phones: NDArray[np.uint8]) -> Points:
    """How far /b p m/ shut the lips `(T,)`: 1 around the middle of the segment, 0 some 60 ms off."""
    times = np.arange(len(phones) // MELS_PER_FRAME) * MELS_PER_FRAME
    share = np.zeros(len(times), np.float32)
    for start, end in runs_of(np.isin(phones, CLOSURES)):
        middle, half = (start + end - 1) / 2, (end - start) / 2
        away = np.abs(times - middle) - max(min(half, 6.0) - 1.0, 2.1)
        share = np.maximum(share, np.clip(1.0 - away / 5.0, 0.0, 1.0))
    return (share * share * (3 - 2 * share)).astype(np.float32)


def shut_lips(face: Points, share: Points) -> None:
    """Narrow the lip gap of `(T, 68, 2)` by `share` `(T,)`, in place; the lower lip goes further."""
    # upper point, lower point and the inner pair whose gap they follow
    outer = tuple(zip(UPPER_OUTER_LIP, LOWER_OUTER_LIP, (0, 0, 1, 2, 2), strict=True))
    inner = tuple(zip(UPPER_INNER_LIP, LOWER_INNER_LIP, (0, 1, 2), strict=True))
    gaps = [face[:, low] - face[:, up] for up, low, _ in inner]
    for up, low, pair in (*outer, *inner):
        missing = share[:, None] * gaps[pair]
        face[:, up] += 0.35 * missing
        face[:, low] -= 0.65 * missing


def label_speech(
    teacher: PhoneTeacher, phones: NDArray[np.uint8], mel: Points, neutral: Points
) -> Points:
    """The teacher's offsets `(T, 31, 2)` for one utterance, with what its phones say for certain."""
    with torch.no_grad():
        offsets = teacher(teacher_input(phones, mel)[None])[0].numpy()
    offsets *= 1.0 - silence_share(phones)[:, None, None]
    face = spoken_faces(neutral, offsets)
    shut_lips(face, closure_share(phones))
    # a pause is as shut as lips get, also where the neutral mouth is a hair open
    shut_lips(face, silence_share(phones))
    return np.asarray(face[:, list(CONTENT)] - neutral[list(CONTENT)], np.float32)


def label_voices(
    teacher: PhoneTeacher, corpus: str, voices: Mapping[str, NDArray[Any]], neutral: Points
) -> dict[str, NDArray[Any]]:
    """The rows of `motion.npz` for one set of voices, laid out as `speech.npz`."""
    mels, phones = voices["log_mel"], voices["phones"]
    labels = [
        label_speech(teacher, phones[there], mels[there].astype(np.float32), neutral)
        for _, there in utterances(voices)
    ]
    known = (phones != UNKNOWN_PHONE).reshape(-1, MELS_PER_FRAME).all(axis=1)
    return {f"{corpus}_offsets": np.concatenate(labels), f"{corpus}_valid": known}


@dataclass(frozen=True)
class PhoneTeacherConfig:
    """The phone teacher, trained for `steps` with so many torch threads, and its labels.

    `source` was prepared into `prepared`, where the arrays are and `motion.npz` goes.
    """

    source: Path
    prepared: Path = Path("data/prepared")
    steps: int = 800
    threads: int = 1


def _gains(
    clips: Mapping[str, Mapping[str, NDArray[Any]]], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """`{name}_gain` `(N,)` of every clip; 1 of speakers who are held out."""
    amplitudes: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, films in clips.items():
        who, known = speakers_of(name, films), trained_on(name, films)
        for speaker in np.unique(who[known]):
            rows = known & (who == speaker)
            pose, content = arrays[f"{name}_pose"][rows], arrays[f"{name}_content"][rows]
            amplitudes[str(speaker)] = amplitude(pose, content)
            counts[str(speaker)] = int(rows.sum())
    gains = population_gains(amplitudes, counts)
    print("gains:", ", ".join(f"{who} {gain:.2f}" for who, gain in sorted(gains.items())))
    return {
        f"{name}_gain": np.array(
            [gains.get(str(who), 1.0) for who in speakers_of(name, films)], np.float32
        )
        for name, films in clips.items()
    }


def _examples(
    name: str,
    films: Mapping[str, NDArray[Any]],
    arrays: Mapping[str, NDArray[Any]],
    wanted: NDArray[np.bool_],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs `(K, T, 164)`, offsets in the population's style `(K, T, 31, 2)` and shut faces `(K, 68, 2)`."""
    phones = films["phones"]
    rows = np.flatnonzero(wanted & ~(phones == UNKNOWN_PHONE).all(axis=1))
    inputs = torch.stack([teacher_input(phones[row], films["log_mel"][row]) for row in rows])
    closed = arrays[f"{name}_closed"][rows]
    gain = arrays[f"{name}_gain"][rows][:, None, None, None]
    offsets = gain * (arrays[f"{name}_content"][rows] - closed[:, None])
    faces = join_landmarks(arrays[f"{name}_pose"][rows], closed)
    return inputs, torch.from_numpy(offsets), torch.from_numpy(faces)


def main(config: PhoneTeacherConfig) -> None:
    """Train the teacher and label all voices."""
    torch.set_num_threads(config.threads)
    folder = config.prepared
    # 1. motion of the filmed speakers, and by how much each falls short of the population's
    clips, voices = (
        {name: np.load(path) for name in names if (path := folder / f"{name}.npz").exists()}
        for names in (FILMED, HELD_OUT)
    )
    arrays: dict[str, NDArray[Any]] = {}
    for name, films in clips.items():
        motion, explained = motion_of_clips(films["landmarks"])
        arrays |= {f"{name}_{key}": value for key, value in motion.items()}
        print(f"{name}: head tilt explains {explained:.2f} of the variance of shut mouths")
    arrays |= _gains(clips, arrays)
    faces = join_landmarks(arrays["grid_pose"], arrays["grid_closed"])
    neutral = np.median(faces, axis=0).astype(np.float32)

    # 2. teacher
    seen = {name: trained_on(name, films) for name, films in clips.items()}
    examples = [_examples(name, films, arrays, seen[name]) for name, films in clips.items()]
    inputs, offsets, closed = (torch.cat(column) for column in zip(*examples, strict=True))
    teacher = train_teacher(inputs, offsets, closed, config.steps)

    # 3. how good it is on sentences that it has not seen
    grid = _examples("grid", clips["grid"], arrays, ~seen["grid"])
    with torch.no_grad():
        predicted = lip_opening(_moved(grid[2], teacher(grid[0]))).flatten()
    real = lip_opening(_moved(grid[2], grid[1])).flatten()
    r = float(torch.corrcoef(torch.stack([predicted, real]))[0, 1])
    ratio = float(predicted.std() / real.std())
    print(f"teacher on {len(grid[0])} held-out clips: r(opening) {r:.3f}, articulation {ratio:.2f}")

    # 4. labels for the other voices
    for corpus, spoken in voices.items():
        arrays |= label_voices(teacher, corpus, spoken, neutral)
    said = mouth_opening(spoken_faces(neutral, arrays["speech_offsets"]))[arrays["speech_valid"]]
    print(
        f"opening: speech std {said.std():.3f} mean {said.mean():.3f}, "
        f"clips std {float(real.std()):.3f} mean {float(real.mean()):.3f}"
    )

    # 5. portraits in crop units, noise
    portraits = read_photographs(config.source, folder)
    faces = np.stack([warp_points(crop_affine(face), face) for face in portraits.landmarks])
    arrays |= {"neutral": neutral, "portraits": faces}
    arrays["portraits_held_out"] = np.array(portraits.held_out)
    arrays["noise"] = noise_recordings(_NOISES)
    write_arrays(folder / "motion.npz", arrays)
    print(f"{folder / 'motion.npz'} written")


if __name__ == "__main__":
    run_program(PhoneTeacherConfig, main, __doc__)
