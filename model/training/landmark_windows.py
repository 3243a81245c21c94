"""What stage 1 is fed with: windows of speech, the face that says it, and what it shall do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.mel_augmentation import augment, to_log_mel, to_power
from model.data.phones import SILENCE_PHONE, UNKNOWN_PHONE, silence_share
from model.data.split import FILMED, speakers_of, trained_on
from model.data.voice_corpora import Cutter, load_corpora
from model.face.landmarks import CONTENT, FLIP, POSE, join_landmarks, mouth_opening
from model.face.retargeting import retarget
from model.media.audio import MELS_PER_FRAME, N_MELS, SILENCE
from model.networks.landmark_completion import fit_similarity
from model.training.resting_mouths import RestingMouths
from model.training.stage import Draw

Points = NDArray[np.float32]

_ANCHORS: Final = 48  # frames spread over all openings, from which a photograph's motion starts
_SMALLEST_PAUSE: Final = 10  # frames of a pause cut into speech
_STRETCH: Final = 1.25  # speech is that much faster or slower at most


def stretch(values: Points, frames: int) -> Points:
    """Read `(T, ...)` at `frames` moments of the same stretch of time, linearly between neighbours."""
    if len(values) == frames:
        return values
    moments = np.minimum(np.arange(frames) * (len(values) / frames), len(values) - 1.0)
    before = moments.astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    part = (moments - before).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    mixed: Points = values[before] * (1 - part) + values[after] * part
    return mixed


def in_time(
    mel: NDArray[np.float16], phones: NDArray[np.uint8], frames: int
) -> tuple[Points, NDArray[np.uint8]]:
    """Log-mel `(4T, 80)` and phones `(4T,)` spoken in `frames` video frames, at the same pitch."""
    count = MELS_PER_FRAME * frames
    there = (np.arange(count) * (len(phones) / count)).astype(int)
    return stretch(mel.astype(np.float32), count), phones[there]


@dataclass(frozen=True)
class WindowMix:
    """What windows are made of.

    Attributes:
        frames: Length of a window.
        speech_share: Windows with other voices.
        altered_share: Of these, altered ones, where they were made.
        synthetic_share: Of these, synthetic ones, where they were made.
        silence_share: Windows without any speech.
        stretch_share: Windows spoken faster or slower than they were.
        speakers_share: Filmed windows with other speakers than the first, where they were prepared.
    """

    frames: int = 64
    speech_share: float = 0.5
    altered_share: float = 0.2
    synthetic_share: float = 0.25
    silence_share: float = 0.1
    stretch_share: float = 0.4
    speakers_share: float = 0.5


@dataclass
class Window:
    """One training sample.

    Attributes:
        mel: `(4T, 80)`, standardised.
        phones: `(4T,)`.
        reference: `(68, 2)`.
        pose: `(T, 37, 2)`.
        content: `(T, 31, 2)`, what is wanted.
        valid: `(T,)`, 0 where nothing is known.
        quiet: Whether there is no speech in it (no augmentation that would make some).
    """

    mel: Points
    phones: NDArray[np.uint8]
    reference: Points
    pose: Points
    content: Points
    valid: Points
    quiet: bool


class Pauses:
    """Sound without speech, and mouths that rest in it.

    Args:
        noise: Log-mels `(K, F, 80)` of rooms.
        silence_share: Windows without any speech; as many have a pause.
    """

    def __init__(self, noise: Points, silence_share: float) -> None:
        self.noise, self.silence_share = noise, silence_share

    def quiet(self, frames: int, rng: np.random.Generator) -> Points:
        """Log-mel `(4 frames, 80)` of a room, or of nothing at all."""
        count = MELS_PER_FRAME * frames
        if rng.random() < 0.3:
            return np.full((count, N_MELS), SILENCE, np.float32)
        row = self.noise[rng.integers(len(self.noise))]
        return np.take(row, np.arange(count) + rng.integers(len(row)), axis=0, mode="wrap")

    def interrupt(
        self,
        mel: Points,
        phones: NDArray[np.uint8],
        reference: Points,
        content: Points,
        shut: Points,
        valid: Points,
        rng: np.random.Generator,
    ) -> Window:
        """Silence in the whole window, in a part of it, or nowhere."""
        frames = len(content)
        pose = np.repeat(reference[None, list(POSE)], frames, axis=0)
        chance = rng.random()
        if chance < self.silence_share:
            mel, phones = self.quiet(frames, rng), np.full_like(phones, SILENCE_PHONE)
            content, valid = np.repeat(shut[None], frames, axis=0), np.ones_like(valid)
            return Window(mel, phones, reference, pose, content, valid, quiet=True)
        if chance < 2 * self.silence_share:
            length = int(rng.integers(_SMALLEST_PAUSE, frames // 2))
            start = int(rng.integers(-4, frames - length + 5))
            inside = np.arange(frames)
            edge = np.minimum(inside - start, start + length - 1 - inside)
            share = np.clip(edge / 3.0, 0.0, 1.0)[:, None, None].astype(np.float32)
            content = content + share * (shut - content)
            silent = np.repeat((edge >= 0), MELS_PER_FRAME)
            mel = np.where(silent[:, None], self.quiet(frames, rng), mel)
            phones = np.where(silent, SILENCE_PHONE, phones).astype(np.uint8)
        return Window(mel, phones, reference, pose, content, valid, quiet=False)


def _filmed(
    sounds: Mapping[str, NDArray[Any]],
    motion: Mapping[str, NDArray[Any]],
    name: str,
    rows: NDArray[np.int64],
) -> tuple[NDArray[Any], ...]:
    """Log-mels, phones, moving and still faces and shut mouths of some clips, in the population's style.

    People open their mouths by 0.16 to 0.44 of its width for the same words, and no voice tells by
    how much. Each speaker's motion away from the shut mouth is therefore multiplied by the
    population's amplitude over his own: what remains to be learnt is what the sound says. Some keep
    their lips apart while they wait, others do not; in silence everybody's are shut here.
    """
    pose, content = motion[f"{name}_pose"][rows], motion[f"{name}_content"][rows]
    closed, moving = motion[f"{name}_closed"][rows], motion[f"{name}_landmarks"][rows].copy()
    gain = motion[f"{name}_gain"][rows]
    speaking = 1.0 - np.stack([silence_share(labels) for labels in sounds["phones"][rows]])
    factor = speaking * gain[:, None]  # (N, T)
    added = (factor - 1.0)[..., None, None] * (content - closed[:, None])  # (N, T, 31, 2)
    for face, still_pose, more in zip(moving, pose, added, strict=True):
        linear, _ = fit_similarity(
            torch.from_numpy(still_pose).expand(len(face), -1, -1),
            torch.from_numpy(face[:, list(POSE)]),
        )
        face[:, list(CONTENT)] += np.einsum("tij,tkj->tki", linear.numpy(), more)
    still = join_landmarks(pose[:, None], content + added)
    return sounds["log_mel"][rows], sounds["phones"][rows], moving, still, closed


def _speaker_shares(speakers: NDArray[np.str_]) -> NDArray[np.float64]:
    """Share of each clip `(N,)`: a speaker counts by the square root of the number of his clips."""
    _, speaker, count = np.unique(speakers, return_inverse=True, return_counts=True)
    share = (np.sqrt(count) / count)[speaker]
    return np.asarray(share / share.sum())


class Windows:
    """Draws training windows; see the module's docstring.

    Args:
        prepared: Folder with the prepared arrays.
        mix: Shares and length.
    """

    def __init__(self, prepared: Path, mix: WindowMix) -> None:
        self.mix = mix
        grid, motion = np.load(prepared / "grid.npz"), np.load(prepared / "motion.npz")
        parts, clip_shares = [], []
        for name in FILMED:
            if f"{name}_content" not in motion:
                continue
            films = grid if name == "grid" else np.load(prepared / f"{name}.npz")
            rows = np.flatnonzero(trained_on(name, films))
            parts.append(_filmed(films, motion, name, rows))
            clip_shares.append(_speaker_shares(speakers_of(name, films)[rows]))
        if len(clip_shares) > 1:
            clip_shares[0] *= 1.0 - mix.speakers_share
            clip_shares[1] *= mix.speakers_share
        self.clip_shares = np.concatenate(clip_shares)
        joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        self.mels, self.phones, self.moving, self.still, self.closed = joined
        self.opening = mouth_opening(self.still)
        self.neutral = motion["neutral"]
        self.noise = motion["noise"].astype(np.float32)
        self.pauses = Pauses(self.noise, mix.silence_share)
        self.portraits = motion["portraits"][~motion["portraits_held_out"]]
        shares = {"altered": mix.altered_share, "synthetic": mix.synthetic_share}
        longest = round(mix.frames * _STRETCH)
        corpora = load_corpora(prepared, held_out=False)
        self.voices = [Cutter(corpus, longest) for corpus in corpora.values()]
        others = [shares[name] for name in corpora if name in shares]
        self.voice_shares = np.array([1.0 - sum(others), *others])
        self.anchors = self._spread_anchors()
        self.mouths = RestingMouths(self.still, self.closed, self.portraits, self.anchors)

    def _spread_anchors(self) -> Points:
        """Frames `(A, 68, 2)` of all openings; every photograph's motion starts from one of them."""
        faces, opening = self.still.reshape(-1, *self.still.shape[2:]), self.opening.ravel()
        wanted = np.linspace(opening.min(), np.quantile(opening, 0.999), _ANCHORS)
        order = np.argsort(opening)
        rows = order[np.searchsorted(opening[order], wanted).clip(0, len(order) - 1)]
        return np.concatenate([faces[rows], self.neutral[None]])

    def draw(self, rng: np.random.Generator, speech_share: float | None = None) -> Window:
        """One window; `speech_share` counts in place of the mix's."""
        share = self.mix.speech_share if speech_share is None else speech_share
        spoken = rng.random() < share
        return self._speech_window(rng) if spoken else self._clip_window(rng)

    # where motion comes from

    def _length(self, most: int, rng: np.random.Generator) -> int:
        """Frames that shall be spoken in the time of a window: as many, fewer or more."""
        frames = self.mix.frames
        if rng.random() >= self.mix.stretch_share:
            return frames
        return int(rng.integers(round(frames / _STRETCH), min(most, round(frames * _STRETCH)) + 1))

    def _clip_window(self, rng: np.random.Generator) -> Window:
        frames = self.mix.frames
        clip = int(rng.choice(len(self.mels), p=self.clip_shares))
        longest = self.still.shape[1]
        length = self._length(longest, rng)
        start = int(rng.integers(longest - length + 1))
        there = slice(start, start + length)
        sound = slice(MELS_PER_FRAME * start, MELS_PER_FRAME * (start + length))
        mel, phones = in_time(self.mels[clip, sound], self.phones[clip, sound], frames)
        choice = rng.random()
        valid = np.ones(frames, np.float32)
        if choice < 0.3:  # the head moves as it was filmed
            shown = stretch(self.moving[clip, there], frames)
            return Window(
                mel,
                phones,
                self.moving[clip, self._any_opening(clip, rng)],
                shown[:, list(POSE)],
                shown[:, list(CONTENT)],
                valid,
                quiet=False,
            )
        motion = stretch(self.still[clip, there], frames)
        if choice < 0.6:  # the same face as a still picture
            reference = self.still[clip, self._any_opening(clip, rng)]
            shut, content = self.closed[clip], motion[:, list(CONTENT)]
        else:  # another face
            reference, content, shut = self._on_portrait(motion, rng)
        return self.pauses.interrupt(mel, phones, reference, content, shut, valid, rng)

    def _speech_window(self, rng: np.random.Generator) -> Window:
        frames = self.mix.frames
        cutter = self.voices[rng.choice(len(self.voices), p=self.voice_shares)]
        corpus = cutter.corpus
        there = cutter.draw(rng, self._length(cutter.longest, rng))
        sound = slice(MELS_PER_FRAME * there.start, MELS_PER_FRAME * there.stop)
        mel, phones = in_time(corpus.log_mel[sound], corpus.phones[sound], frames)
        content = self.neutral[list(CONTENT)] + stretch(corpus.offsets[there], frames)
        motion = join_landmarks(self.neutral[list(POSE)], content)
        if rng.random() < 0.8:
            reference, content, shut = self._on_portrait(motion, rng)
        else:
            clip = int(rng.choice(len(self.mels), p=self.clip_shares))
            face = join_landmarks(self.still[clip, 0, list(POSE)], self.closed[clip])
            reference, content, shut = self._on_face(face, motion, rng)
        valid = np.floor(stretch(corpus.valid[there].astype(np.float32), frames))
        return self.pauses.interrupt(mel, phones, reference, content, shut, valid, rng)

    # whose face it is

    def _any_opening(self, clip: int, rng: np.random.Generator) -> int:
        """A frame of the clip: any, or one whose opening is drawn evenly."""
        opening = self.opening[clip]
        if rng.random() < 0.5:
            return int(rng.integers(len(opening)))
        return int(np.abs(opening - rng.uniform(0, opening.max())).argmin())

    def _on_portrait(self, motion: Points, rng: np.random.Generator) -> tuple[Points, ...]:
        return self._on_face(self.portraits[rng.integers(len(self.portraits))], motion, rng)

    def _on_face(
        self, face: Points, motion: Points, rng: np.random.Generator
    ) -> tuple[Points, ...]:
        """Carry motion to a face.

        Returns:
            Its reference (the face, or the face at another opening), the wanted lips and jaw, and
            its shut mouth.
        """
        moved = retarget(face, np.concatenate([self.anchors, motion]))
        count = len(self.anchors)
        reference = face if rng.random() < 0.5 else moved[rng.integers(count - 1)]
        content = moved[:, list(CONTENT)]
        return reference, content[count:], content[count - 1]


@dataclass
class Batch:
    """Windows as tensors, augmented; see `Window`."""

    mel: torch.Tensor
    phones: torch.Tensor
    reference: torch.Tensor
    pose: torch.Tensor
    content: torch.Tensor
    valid: torch.Tensor


def collate(windows: list[Window], noise: Points, draw: Draw) -> Batch:
    """Stack, mirror, jitter and augment.

    Args:
        windows: B windows.
        noise: Bank `(K, F, 80)` to mix from.
        draw: Randomness.
    """
    rng = draw.rng
    batch, frames = len(windows), len(windows[0].pose)

    # 1. sound: another voice in another room, mixed with a recording of a third; silence stays silent
    mel = torch.from_numpy(np.stack([w.mel for w in windows]))
    length = mel.shape[1]
    mixed = np.stack(
        [
            np.take(noise[k], np.arange(length) + shift, axis=0, mode="wrap")
            for k, shift in rng.integers([0, 0], [len(noise), noise.shape[1]], (batch, 2))
        ]
    )
    quiet = torch.tensor([w.quiet for w in windows])[:, None, None]
    speech = augment(mel, torch.from_numpy(mixed), draw.generator)
    gain = torch.empty(batch, 1, 1).uniform_(-2.0, 0.5, generator=draw.generator)
    mel = torch.where(quiet, to_log_mel(to_power(mel) * 10.0**gain), speech)

    # 2. faces: half of them mirrored, each window in a crop of its own
    faces = np.stack(  # one more frame at the end: the reference
        [np.concatenate([join_landmarks(w.pose, w.content), w.reference[None]]) for w in windows]
    )
    mirrored = rng.random(batch) < 0.5
    flipped = faces[..., FLIP, :].copy()
    flipped[..., 0] = 1.0 - flipped[..., 0]
    faces = np.where(mirrored[:, None, None, None], flipped, faces)
    scale = np.exp(rng.normal(0, 0.03, (batch, 1, 1)))
    angle = rng.normal(0, 0.026, (batch, 1, 1))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    x, y = faces[..., 0] - 0.5, faces[..., 1] - 0.5
    shift = rng.normal(0.5, 0.012, (batch, 1, 1, 2))
    faces = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1) + shift
    faces = faces.astype(np.float32)

    # 3. the detector's noise: on the reference and, the same in all frames of a still picture, on its pose
    reference, pose = faces[:, -1].copy(), faces[:, :-1, list(POSE)].copy()
    error = rng.normal(0, 0.0025, reference.shape).astype(np.float32)
    reference += error
    pose += error[:, None, list(POSE)]
    phones = np.stack([w.phones for w in windows]).astype(np.int64)
    assert pose.shape[1] == frames
    return Batch(
        mel=mel,
        phones=torch.from_numpy(np.where(phones == UNKNOWN_PHONE, -100, phones)),
        reference=torch.from_numpy(reference)[:, None],
        pose=torch.from_numpy(pose),
        content=torch.from_numpy(faces[:, :-1, list(CONTENT)].copy()),
        valid=torch.from_numpy(np.stack([w.valid for w in windows])),
    )
