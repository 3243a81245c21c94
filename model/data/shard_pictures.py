"""Pictures out of shards, cut and jittered when they are needed: crops for stage 0, pairs for stage 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.crops import recolour, roughen
from model.data.shards import ClipShards
from model.errors import ConfigError
from model.face.alignment import Affine, jitter_affine
from model.face.landmarks import flip_landmarks, mouth_opening
from model.face.reference_warp import ReferenceWarp

_IDENTITY: Final[Affine] = np.eye(2, 3, dtype=np.float32)
_CANDIDATES: Final = 8  # frames among which a reference is chosen

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class PairPictures:
    """Targets and references `(N, S, S, 3)` uint8 of the same people, landmarks `(N, 68, 2)` in crop units.

    A reference is another frame of the same track, in another crop; `warped` is the reference moved to
    the target (`ReferenceWarp`). Of one pair without the first dimension.
    """

    target: NDArray[np.uint8]
    target_landmarks: NDArray[np.float32]
    reference: NDArray[np.uint8]
    reference_landmarks: NDArray[np.float32]
    warped: NDArray[np.uint8]


class ShardPictures:
    """Draws pictures with `size` pixels a side of a folder of shards (`talkface prepare`).

    Raises:
        ConfigError: Every track is held out.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.shards, self.size = ClipShards(folder), size
        self.seen = [i for i, track in enumerate(self.shards.tracks) if not track.held_out]
        self.unseen = [i for i, track in enumerate(self.shards.tracks) if track.held_out]
        if not self.seen:
            raise ConfigError(
                f"shards: {folder} holds {len(self.shards)} tracks, all of them held out; expected "
                "some to train on: prepare more films"
            )
        cv2.setNumThreads(1)  # the pool below is what runs at once

    def crops(
        self, rng: np.random.Generator, count: int, *, held_out: bool = False
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """`count` jittered crops of any frames of any tracks; of `held_out` ones there must be some.

        Returns:
            `(N, S, S, 3)` uint8 and landmarks `(N, 68, 2)`, crop units.
        """

        def cut(own: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
            track = self._choose(own, held_out)
            frame = int(own.integers(self.shards.tracks[track].num_frames))
            jitter = jitter_affine(_IDENTITY, own)
            pictures, landmarks = self.shards.crops(track, [frame], size=self.size, jitter=jitter)
            return pictures[0], landmarks[0]

        drawn = _each(cut, rng, count)
        pictures, points = zip(*drawn, strict=True)
        return np.stack(pictures), np.stack(points)

    def pairs(
        self, rng: np.random.Generator, count: int, *, held_out: bool = False
    ) -> PairPictures:
        """`count` targets and references, as `model.training.builders.pairs` makes them of clips."""
        drawn = _each(lambda own: self._pair(own, held_out), rng, count)
        columns = zip(*(vars(pair).values() for pair in drawn), strict=True)
        return PairPictures(*(np.stack(column) for column in columns))

    def _choose(self, rng: np.random.Generator, held_out: bool) -> int:
        tracks = self.unseen if held_out else self.seen
        return tracks[int(rng.integers(len(tracks)))]

    def _pair(self, rng: np.random.Generator, held_out: bool) -> PairPictures:
        # 1. two frames; lip-dissimilar references count more: copying must not pay
        track = self._choose(rng, held_out)
        frames = rng.integers(self.shards.tracks[track].num_frames, size=1 + _CANDIDATES)
        opening = mouth_opening(self.shards.landmarks(track)[frames])
        weight = np.abs(opening[1:] - opening[0]).astype(np.float64) + 0.05
        other = int(rng.choice(frames[1:], p=weight / weight.sum()))

        # 2. the same light and side for both, a crop for each
        seed, mirror = int(rng.integers(2**31)), rng.random() < 0.5
        pictures: list[NDArray[np.uint8]] = []
        points: list[NDArray[np.float32]] = []
        for frame in (int(frames[0]), other):
            jitter = jitter_affine(_IDENTITY, rng)
            cut, landmarks = self.shards.crops(track, [frame], size=self.size, jitter=jitter)
            picture = recolour(cut[0], seed)
            pictures.append(np.ascontiguousarray(picture[:, ::-1]) if mirror else picture)
            points.append(flip_landmarks(landmarks[0]) if mirror else landmarks[0])

        # 3. the reference where a prediction would put it
        warped = ReferenceWarp(pictures[1], points[1]).render(roughen(points[0], rng))
        return PairPictures(pictures[0], points[0], pictures[1], points[1], warped)


def _each(
    make: Callable[[np.random.Generator], Sample], rng: np.random.Generator, count: int
) -> list[Sample]:
    """`count` samples, several at once; each has its own generator, so threads change nothing."""
    generators = rng.spawn(count)
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(make, generators))
