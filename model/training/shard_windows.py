"""Stretches of filmed speech out of shards: as stage 1 wants them, and with pictures for stage 3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.filmed_motion import carry
from model.data.held_out_speech import Sound
from model.data.shards import ClipShards
from model.errors import ConfigError
from model.evaluation.metrics.landmarks import articulation, best_lag, correlation
from model.evaluation.speakers import Speaker
from model.face.alignment import jitter_affine, warp_points
from model.face.landmarks import (
    CONTENT,
    OUTER_EYE_CORNERS,
    POSE,
    flip_landmarks,
    join_landmarks,
    mouth_opening,
)
from model.media.audio import MELS_PER_FRAME
from model.training.landmark_windows import Pauses, Window

_MOVING_SHARE = 0.5
_IDENTITY: Final = np.eye(2, 3, dtype=np.float32)


class ShardWindows:
    """Draws windows of tracks of shards (`talkface prepare`), and measures on those that are held out.

    Windows have `frames` frames; shorter tracks are left out. `pauses` cut silence into still pictures' ones.

    Raises:
        ConfigError: No track to train on is long enough.
    """

    def __init__(self, folder: Path, frames: int, pauses: Pauses) -> None:
        self.shards, self.frames, self._pauses = ClipShards(folder), frames, pauses
        self.seen, self.unseen = split_tracks(self.shards, frames)
        if not self.seen:
            raise ConfigError(
                f"shards: {folder} holds {len(self.shards)} tracks, none of {frames} frames to train "
                "on; expected some: prepare more films, or set a smaller frames"
            )

    def draw(self, rng: np.random.Generator) -> Window:
        """One window: half of them with the head as it was filmed, half as a still picture."""
        track = self.seen[int(rng.integers(len(self.seen)))]
        faces = self.shards.landmarks(track)
        start = int(rng.integers(len(faces) - self.frames + 1))
        there = slice(start, start + self.frames)
        sound = slice(MELS_PER_FRAME * start, MELS_PER_FRAME * (start + self.frames))
        mel, phones = self.shards.log_mel(track)[sound], self.shards.phones(track)[sound]
        pose, content = faces[there][:, list(POSE)], faces[there][:, list(CONTENT)]
        opening = mouth_opening(faces)
        reference = faces[_any_opening(opening, rng)]
        valid = np.ones(self.frames, np.float32)
        if rng.random() < _MOVING_SHARE:
            return Window(mel, phones, reference, pose, content, valid, quiet=False)
        still = carry(pose, reference[list(POSE)], content)
        shut = faces[int(opening.argmin())][None]
        rest = carry(shut[:, list(POSE)], reference[list(POSE)], shut[:, list(CONTENT)])[0]
        return self._pauses.interrupt(mel, phones, reference, still, rest, valid, rng)

    def measure(self, speak: Speaker, tracks: int) -> dict[str, float]:
        """Openings said and real on up to `tracks` held-out ones; first frame as the reference."""
        said: list[NDArray[np.float32]] = []
        real: list[NDArray[np.float32]] = []
        for track in self.unseen[:: max(1, len(self.unseen) // tracks)][:tracks]:
            faces = self.shards.landmarks(track)
            first = faces[0, list(POSE)]
            still = carry(faces[:, list(POSE)], first, faces[:, list(CONTENT)])
            said.append(mouth_opening(speak(Sound(self.shards.log_mel(track)), faces[0])))
            real.append(mouth_opening(join_landmarks(first, still)))
        if not said:
            return {}
        lag, r_best_lag = best_lag(said, real)
        return {
            "shards_r": correlation(said, real),
            "shards_best_lag": float(lag),
            "shards_r_best_lag": r_best_lag,
            "shards_articulation": articulation(said, real),
        }


def split_tracks(shards: ClipShards, frames: int) -> tuple[list[int], list[int]]:
    """Tracks of at least `frames` frames: those to train on, and those held out."""
    long = [(i, t.held_out) for i, t in enumerate(shards.tracks) if t.num_frames >= frames]
    return [i for i, held_out in long if not held_out], [i for i, held_out in long if held_out]


@dataclass(frozen=True)
class ClipWindow:
    """A stretch of one clip, its reference from elsewhere in the clip.

    Attributes:
        log_mel: `(4T, 80)`.
        landmarks: `(T, 68, 2)`, crop units.
        drawn: Indices of the frames to draw `(n,)`.
        pictures: Their crops `(n, S, S, 3)` uint8.
        reference: `(S, S, 3)` uint8, with its own jitter.
        reference_landmarks: `(68, 2)`.
    """

    log_mel: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    drawn: NDArray[np.int64]
    pictures: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    reference_landmarks: NDArray[np.float32]


def draw_window(
    shards: ClipShards,
    track: int,
    rng: np.random.Generator,
    *,
    frames: int,
    rendered: int,
    size: int,
    augment: bool = True,
) -> ClipWindow:
    """Cut a window out of a track.

    Args:
        shards: The clips.
        track: Which.
        rng: Randomness.
        frames: T.
        rendered: Frames to draw, from the window's inner half: its ends hear too little.
        size: Side of the crops in pixels.
        augment: Whether crops are jittered (all of the window alike, the reference apart) and
            windows mirrored.
    """
    landmarks = shards.landmarks(track)
    start = int(rng.integers(len(landmarks) - frames + 1))
    inner = np.arange(frames // 4, frames - frames // 4)
    drawn = np.sort(rng.choice(inner, rendered, replace=False))
    reference = int(rng.integers(len(landmarks)))
    jitters = [jitter_affine(_IDENTITY, rng) if augment else _IDENTITY for _ in range(2)]
    pictures, _ = shards.crops(track, [start + int(i) for i in drawn], size=size, jitter=jitters[0])
    shown, shown_landmarks = shards.crops(track, [reference], size=size, jitter=jitters[1])
    face, own = warp_points(jitters[0], landmarks[start : start + frames]), shown_landmarks[0]
    if augment and rng.random() < 0.5:
        pictures = np.ascontiguousarray(pictures[:, :, ::-1])
        shown = np.ascontiguousarray(shown[:, :, ::-1])
        face, own = flip_landmarks(face), flip_landmarks(own)
    log_mel = shards.log_mel(track)[4 * start : 4 * (start + frames)]
    return ClipWindow(log_mel, face, drawn, pictures, shown[0], own)


def landmark_error(windows: list[ClipWindow], target: torch.Tensor) -> torch.Tensor:
    """Mean distance of lips and jaw from the detected ones, in inter-ocular distances."""
    real = torch.from_numpy(np.concatenate([w.landmarks[w.drawn] for w in windows]))
    real = real.to(target.device)
    left, right = (real[:, corner] for corner in OUTER_EYE_CORNERS)
    eyes = torch.linalg.vector_norm(right - left, dim=-1)[:, None]
    away = (target.detach().float() - real)[:, list(CONTENT)]
    return (torch.linalg.vector_norm(away, dim=-1) / eyes).mean()


def _any_opening(opening: NDArray[np.float32], rng: np.random.Generator) -> int:
    """A frame: any, or one whose opening is drawn evenly."""
    if rng.random() < 0.5:
        return int(rng.integers(len(opening)))
    return int(np.abs(opening - rng.uniform(opening.min(), opening.max())).argmin())
