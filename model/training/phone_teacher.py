"""Labels for voices without a face: phones and energy -> lips and jaw, learnt from one filmed speaker.

    python -m model.training.phone_teacher --source DATA --prepared data/prepared

Few public voices have a face that may be used, and a network that hears one speaker follows no
other (docs/training.md). Phones know nothing of the voice. So a small network learns phones ->
motion on the filmed clips and labels the phone-aligned speech of many voices; stage 1 trains on
both.

Reads `grid.npz`, `speech.npz`, `portraits.npz` (`model.training.prepare`) and writes `motion.npz`:

    grid_landmarks (N, 75, 68, 2)   each frame in its own crop, fitted to smoothed pose points
    grid_pose (N, 37, 2)            mean pose of a clip
    grid_content (N, 75, 31, 2)     lips and jaw carried to the mean pose, S_t^-1, without nods
    grid_closed (N, 31, 2)          the clip's shut mouth there
    neutral (68, 2)                 the speaker's usual shut mouth
    speech_offsets (M, 31, 2)       the teacher's motion for all utterances, against the shut mouth
    speech_valid (M,)               whether the phones are known there
    portraits (P, 68, 2), portraits_held_out (P,)
    noise (K, 300, 80)              log-mels of rooms, hums and hisses without speech

All coordinates are crop units.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from model.face.alignment import crop_affine, warp_points
from model.face.landmarks import CONTENT, INNER_LIPS, LIPS, NUM_LANDMARKS, POSE, mouth_opening
from model.media.audio import LOG_MEL_MEAN, LOG_MEL_STD, MELS_PER_FRAME, SAMPLE_RATE, log_mel
from model.networks.landmark_completion import NUM_PHONES, fit_similarity
from model.training.crops import portrait_identities
from model.training.phones import CLOSURES, SILENCE_PHONE, UNKNOWN_PHONE, runs_of
from model.training.prepare import CLIP_FRAMES
from model.training.split import clip_held_out, portrait_held_out

Points = NDArray[np.float32]

_POSE_SMOOTHING: Final = 2.0  # frames, standard deviation of the zero-phase filter
_RIGID: Final = tuple(range(27, 48))  # nose and eyes
_TILT_MODES: Final = 4
_SHUT: Final = 0.02  # lip gap over mouth width
_UNIT: Final = 0.02  # crop units that one unit of loss stands for
_LONG_SILENCE: Final = 15  # of 10 ms
_RAMP: Final = 8  # of 10 ms: lips leave and reach the shut mouth in 80 ms


# 1. motion of the filmed speaker --------------------------------------------------------------


def smooth(points: Points, sigma: float) -> Points:
    """Zero-phase Gaussian over time, `(T, ...)`, ends mirrored."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(points, [(reach, reach)] + [(0, 0)] * (points.ndim - 1), mode="reflect")
    filtered = sum(k * padded[i : i + len(points)] for i, k in enumerate(kernel))
    return np.asarray(filtered, np.float32)


def stabilise(landmarks: Points) -> Points:
    """Crop units for every frame of a clip, `(T, 68, 2)` pixels -> `(T, 68, 2)`.

    Pose points are smoothed before the crop is fitted: otherwise the detector's noise on the eyes
    would become motion of the lips.
    """
    steady = landmarks.copy()
    steady[:, list(POSE)] = smooth(landmarks[:, list(POSE)], _POSE_SMOOTHING)
    return np.stack([warp_points(crop_affine(frame), frame) for frame in steady])


def carry(source: Points, target: Points, points: Points) -> Points:
    """Apply the similarity that carries pose `source` `(T, 37, 2)` to `target` to `points`."""
    linear, shift = fit_similarity(torch.from_numpy(source), torch.from_numpy(target))
    moved: Points = (
        torch.from_numpy(points) @ linear.transpose(-1, -2) + shift[..., None, :]
    ).numpy()
    return moved


def clip_motion(landmarks: Points) -> dict[str, Points]:
    """One clip `(T, 68, 2)` in pixels -> its rows of `motion.npz`."""
    crop = stabilise(landmarks)
    pose = crop[:, list(POSE)]
    mean_pose = pose.mean(axis=0)
    content = carry(pose, np.broadcast_to(mean_pose, pose.shape).copy(), crop[:, list(CONTENT)])
    rigid = crop[:, list(_RIGID)]
    there = carry(pose, np.broadcast_to(mean_pose, pose.shape).copy(), rigid)
    return {
        "grid_landmarks": crop,
        "grid_pose": mean_pose,
        "grid_content": content,
        "tilt": (there - there.mean(axis=0)).reshape(len(there), -1),
    }


def shut_frames(opening: Points) -> NDArray[np.bool_]:
    """Frames of a clip `(T,)` whose mouth is shut, or nearest to it."""
    return opening <= max(_SHUT, float(np.quantile(opening, 0.1)))


def without_tilt(content: Points, tilt: Points, opening: Points) -> tuple[Points, float]:
    """Take away what nods and turns of the head do to lips and jaw beyond a similarity.

    A nod brings the mouth nearer to the eyes. What it does is learnt on shut mouths from the rigid
    points' own displacements: else it would be taken for speech, and a frame for another place of
    the mouth.

    Args:
        content: `(N, T, 31, 2)`, carried to each clip's mean pose.
        tilt: `(N, T, D)`, displacements of rigid points there.
        opening: `(N, T)`.
    Returns:
        The same without tilt, and the share of the shut mouths' variance that it explained.
    """
    _, _, axes = np.linalg.svd(tilt.reshape(-1, tilt.shape[-1])[::7], full_matrices=False)
    modes = tilt @ axes[:_TILT_MODES].T  # (N, T, K)
    inputs, outputs = [], []
    for mode, place, gap in zip(modes, content, opening, strict=True):
        shut = shut_frames(gap)
        inputs.append(mode[shut] - mode[shut].mean(axis=0))
        outputs.append((place[shut] - place[shut].mean(axis=0)).reshape(shut.sum(), -1))
    x, y = np.concatenate(inputs), np.concatenate(outputs)
    gain = np.linalg.solve(x.T @ x + 1e-6 * len(x) * np.eye(x.shape[1]), x.T @ y)
    explained = 1.0 - float(((y - x @ gain) ** 2).sum() / (y**2).sum())
    steady = content - (modes @ gain).reshape(content.shape)
    return steady.astype(np.float32), explained


# 2. the teacher -------------------------------------------------------------------------------


def loudness(mel: NDArray[np.floating[Any]]) -> Points:
    """Log10 energy of each 10 ms `(4T,)`, 0 at the loud stretches of the recording, at least -3."""
    power = 10.0 ** (np.asarray(mel, np.float32) * LOG_MEL_STD + LOG_MEL_MEAN)
    energy = np.log10(power.mean(axis=-1))
    loud = np.percentile(energy, 95, axis=-1, keepdims=True)
    return np.clip(energy - loud, -3.0, 0.5).astype(np.float32)


def teacher_input(phones: NDArray[np.uint8], mel: NDArray[np.floating[Any]]) -> torch.Tensor:
    """Four one-hot phones and four energies a frame, `(T, 4 * 41)`; unknown phones are silence."""
    known = np.where(phones == UNKNOWN_PHONE, SILENCE_PHONE, phones).astype(np.int64)
    one_hot = F.one_hot(torch.from_numpy(known), NUM_PHONES).float()
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


def point_weights() -> torch.Tensor:
    """Weight of each content point `(31, 1)`: jaw 0.5, outer lips 1, inner lips 2."""
    values = [2.0 if i in INNER_LIPS else 1.0 if i in LIPS else 0.5 for i in CONTENT]
    return torch.tensor(values)[:, None]


def train_teacher(inputs: torch.Tensor, offsets: torch.Tensor, steps: int) -> PhoneTeacher:
    """Fit the teacher on `(N, T, 164)` and `(N, T, 31, 2)`."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    teacher = PhoneTeacher()
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    weights = point_weights()
    for _ in tqdm(range(steps), desc="teacher", mininterval=5):
        rows = torch.randint(len(inputs), (48,), generator=generator)
        noisy = inputs[rows]
        # recordings differ in level and noise: energy must not be trusted to the last decibel
        noisy = noisy + 0.1 * torch.randn(noisy.shape, generator=generator) * (
            torch.arange(noisy.shape[-1]) % (NUM_PHONES + 1) == NUM_PHONES
        )
        error = (teacher(noisy) - offsets[rows]) * weights / _UNIT
        loss = error.abs().mean() + error.diff(dim=1).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return teacher.eval()


def full_face(pose: Points, content: Points) -> Points:
    """`(37, 2)` and `(T, 31, 2)` -> `(T, 68, 2)`."""
    face = np.empty((len(content), NUM_LANDMARKS, 2), np.float32)
    face[:, list(POSE)] = pose
    face[:, list(CONTENT)] = content
    return face


# 3. what phones say for certain -----------------------------------------------------------------


def silence_share(phones: NDArray[np.uint8]) -> Points:
    """How shut a pause keeps the mouth `(T,)`: 1 inside silences above 150 ms, with 80 ms ramps."""
    share = np.zeros(len(phones), np.float32)
    for start, end in runs_of(phones == SILENCE_PHONE):
        if end - start > _LONG_SILENCE:
            inside = np.arange(end - start, dtype=np.float32)
            rise = np.ones_like(inside) if start == 0 else inside / _RAMP
            fall = np.ones_like(inside) if end == len(phones) else inside[::-1] / _RAMP
            share[start:end] = np.clip(np.minimum(rise, fall), 0.0, 1.0)
    return share[::MELS_PER_FRAME]


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
    outer = ((49, 59, 0), (50, 58, 0), (51, 57, 1), (52, 56, 2), (53, 55, 2))
    inner = ((61, 67, 0), (62, 66, 1), (63, 65, 2))
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
    face = full_face(neutral[list(POSE)], neutral[list(CONTENT)] + offsets)
    shut_lips(face, closure_share(phones))
    # a pause is as shut as lips get, also where the neutral mouth is a hair open
    shut_lips(face, silence_share(phones))
    return np.asarray(face[:, list(CONTENT)] - neutral[list(CONTENT)], np.float32)


# 4. sound without speech --------------------------------------------------------------------------


def noise_recordings(count: int, seed: int = 0) -> Points:
    """Log-mels `(count, 300, 80)` of coloured hiss, hum, beats and clicks at many levels."""
    rng = np.random.default_rng(seed)
    length = CLIP_FRAMES * SAMPLE_RATE // 25
    time = np.arange(length) / SAMPLE_RATE
    mels = []
    for _ in range(count):
        spectrum = np.fft.rfft(rng.normal(size=length))
        frequency = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 20.0)
        spectrum *= (frequency / 500.0) ** (-rng.uniform(-0.3, 1.6))
        for _ in range(rng.integers(0, 4)):  # resonances of a room or a fan
            centre, width = rng.uniform(60, 6000), rng.uniform(0.05, 0.5)
            spectrum *= 1 + rng.uniform(0, 6) * np.exp(
                -0.5 * (np.log(frequency / centre) / width) ** 2
            )
        sound = np.fft.irfft(spectrum, length)
        sound /= sound.std()
        if rng.random() < 0.4:
            base = rng.choice([50.0, 60.0, 100.0, rng.uniform(40, 300)])
            hum = sum(
                rng.uniform(0, 1) / k * np.sin(2 * np.pi * k * base * time + rng.uniform(0, 6))
                for k in range(1, 12)
            )
            sound = sound + rng.uniform(0.3, 4) * np.asarray(hum)
        if rng.random() < 0.4:  # slow waves: traffic, breath, wind
            sound = sound * (
                1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time)
            )
        for _ in range(rng.integers(0, 4) if rng.random() < 0.3 else 0):  # clicks and knocks
            at, decay = rng.integers(length - 800), rng.uniform(20, 300)
            sound[at : at + 800] += (
                rng.uniform(2, 12) * rng.normal(size=800) * np.exp(-np.arange(800) / decay)
            )
        level = 10 ** rng.uniform(-6, -1)
        mels.append(log_mel((level * sound / sound.std()).astype(np.float32)))
    return np.stack(mels).astype(np.float16)


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder: Path = arguments.prepared
    grid, speech = np.load(folder / "grid.npz"), np.load(folder / "speech.npz")
    portraits = np.load(folder / "portraits.npz")

    # 1. motion of the filmed speaker
    clips = [clip_motion(clip) for clip in tqdm(grid["landmarks"], desc="clips", mininterval=5)]
    arrays = {key: np.stack([clip[key] for clip in clips]) for key in clips[0]}
    opening = mouth_opening(arrays["grid_landmarks"])
    arrays["grid_content"], explained = without_tilt(
        arrays["grid_content"], arrays.pop("tilt"), opening
    )
    print(f"head tilt explains {explained:.2f} of the variance of shut mouths")
    arrays["grid_closed"] = np.stack(
        [
            np.median(content[shut_frames(gap)], axis=0).astype(np.float32)
            for content, gap in zip(arrays["grid_content"], opening, strict=True)
        ]
    )
    neutral = np.median(
        [
            full_face(pose, shut[None])[0]
            for pose, shut in zip(arrays["grid_pose"], arrays["grid_closed"], strict=True)
        ],
        axis=0,
    ).astype(np.float32)

    # 2. teacher
    phones, mels = grid["phones"], grid["log_mel"]
    has_phones = ~(phones == UNKNOWN_PHONE).all(axis=1)
    held_out = np.array([clip_held_out(str(name)) for name in grid["names"]])
    inputs = torch.stack([teacher_input(p, m) for p, m in zip(phones, mels, strict=True)])
    offsets = torch.from_numpy(arrays["grid_content"] - arrays["grid_closed"][:, None])
    train = torch.from_numpy(np.flatnonzero(has_phones & ~held_out))
    teacher = train_teacher(inputs[train], offsets[train], arguments.steps)

    # 3. how good it is on sentences that it has not seen
    test = np.flatnonzero(has_phones & held_out)
    predicted, real = [], []
    for row in test:
        pose, shut = arrays["grid_pose"][row], arrays["grid_closed"][row]
        with torch.no_grad():
            motion = teacher(inputs[row][None])[0].numpy()
        predicted.append(mouth_opening(full_face(pose, shut + motion)))
        real.append(mouth_opening(full_face(pose, arrays["grid_content"][row])))
    r = float(np.corrcoef(np.concatenate(predicted), np.concatenate(real))[0, 1])
    ratio = float(np.std(predicted) / np.std(real))
    print(f"teacher on {len(test)} held-out clips: r(opening) {r:.3f}, articulation {ratio:.2f}")

    # 4. labels for the other voices
    labels, ends = [], np.cumsum(speech["lengths"])
    for start, end in zip(ends - speech["lengths"], ends, strict=True):
        mel = speech["log_mel"][start:end].astype(np.float32)
        labels.append(label_speech(teacher, speech["phones"][start:end], mel, neutral))
    arrays["speech_offsets"] = np.concatenate(labels)
    arrays["speech_valid"] = (
        (speech["phones"] != UNKNOWN_PHONE).reshape(-1, MELS_PER_FRAME).all(axis=1)
    )
    spoken = mouth_opening(
        full_face(neutral[list(POSE)], neutral[list(CONTENT)] + arrays["speech_offsets"])
    )[arrays["speech_valid"]]
    print(
        f"opening: speech std {spoken.std():.3f} mean {spoken.mean():.3f}, "
        f"clips std {np.std(real):.3f} mean {np.mean(real):.3f}"
    )

    # 5. portraits in crop units, noise
    identities = portrait_identities(arguments.source)
    arrays["neutral"] = neutral
    arrays["portraits"] = np.stack(
        [warp_points(crop_affine(face), face) for face in portraits["landmarks"]]
    )
    arrays["portraits_held_out"] = np.array(
        [portrait_held_out(identities[str(name)]) for name in portraits["names"]]
    )
    arrays["noise"] = noise_recordings(160)
    partial = folder / "motion.partial.npz"
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    os.replace(partial, folder / "motion.npz")
    print(f"{folder / 'motion.npz'} written")


if __name__ == "__main__":
    main()
