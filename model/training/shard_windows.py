"""Stretches of filmed speech out of shards, as stage 1 wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.filmed_motion import carry
from model.data.held_out_speech import Sound
from model.data.shards import ClipShards
from model.errors import ConfigError
from model.evaluation.metrics.landmarks import articulation, best_lag, correlation
from model.evaluation.speakers import Speaker
from model.face.landmarks import CONTENT, POSE, join_landmarks, mouth_opening
from model.media.audio import MELS_PER_FRAME
from model.training.landmark_windows import Pauses, Window

_MOVING_SHARE = 0.5


class ShardWindows:
    """Draws windows of tracks of shards (`talkface prepare`), and measures on those that are held out.

    Windows have `frames` frames; shorter tracks are left out. `pauses` cut silence into still pictures' ones.

    Raises:
        ConfigError: No track to train on is long enough.
    """

    def __init__(self, folder: Path, frames: int, pauses: Pauses) -> None:
        self.shards, self.frames, self._pauses = ClipShards(folder), frames, pauses
        tracks = [(i, t) for i, t in enumerate(self.shards.tracks) if t.num_frames >= frames]
        self.seen = [index for index, track in tracks if not track.held_out]
        self.unseen = [index for index, track in tracks if track.held_out]
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


def _any_opening(opening: NDArray[np.float32], rng: np.random.Generator) -> int:
    """A frame: any, or one whose opening is drawn evenly."""
    if rng.random() < 0.5:
        return int(rng.integers(len(opening)))
    return int(np.abs(opening - rng.uniform(opening.min(), opening.max())).argmin())
