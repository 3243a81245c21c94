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

from model.data.crops import FACE_PX, Crop, cut_crop, jittered_affine, recolour, roughen
from model.data.shards import ClipShards
from model.errors import ConfigError
from model.face.alignment import Affine
from model.face.landmarks import flip_landmarks, mouth_opening
from model.face.mouth_crop import NetworkCrop, network_inner
from model.face.reference_warp import ReferenceWarp

_IDENTITY: Final[Affine] = np.eye(2, 3, dtype=np.float32)
_CANDIDATES: Final = 8  # frames among which a reference is chosen

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class PairPictures:
    """Targets and references `(N, S, S, 3)` uint8 of the same people, landmarks `(N, 68, 2)` in crop units.

    A reference is another frame of the same track, in another crop; `warped` is a third one moved to the
    target (`ReferenceWarp`). Of one pair without the first dimension.
    """

    target: NDArray[np.uint8]
    target_landmarks: NDArray[np.float32]
    reference: NDArray[np.uint8]
    reference_landmarks: NDArray[np.float32]
    warped: NDArray[np.uint8]


class ShardPictures:
    """Draws pictures with `size` pixels a side of a folder of shards (`talkface prepare`).

    Args:
        folder: The shards.
        size: Side of the pictures.
        crop: What they show; the landmarks are in its units.
    Raises:
        ConfigError: Every track is held out.
    """

    def __init__(self, folder: Path, size: int, crop: NetworkCrop = "face") -> None:
        self.shards, self.size, self._crop = ClipShards(folder), size, crop
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
            pictures, landmarks = self.shards.crops(track, [frame], size=FACE_PX)
            affine = jittered_affine(self._crop, landmarks[0], landmarks[0], own)
            return cut_crop((pictures[0], landmarks[0]), affine, self.size)

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
        # 1. three frames; lip-dissimilar ones count more: copying must not pay
        track = self._choose(rng, held_out)
        frames = rng.integers(self.shards.tracks[track].num_frames, size=1 + _CANDIDATES)
        opening = mouth_opening(self.shards.landmarks(track)[frames])
        weight = np.abs(opening[1:] - opening[0]).astype(np.float64) + 0.05
        others = rng.choice(frames[1:], 2, p=weight / weight.sum())

        # 2. the same light and side for all
        seed, mirror = int(rng.integers(2**31)), rng.random() < 0.5
        faces: list[Crop] = []
        for frame in (int(frames[0]), *others.tolist()):
            cut, landmarks = self.shards.crops(track, [frame], size=FACE_PX)
            picture = recolour(cut[0], seed)
            if mirror:
                picture, landmarks = (
                    np.ascontiguousarray(picture[:, ::-1]),
                    flip_landmarks(landmarks),
                )
            faces.append((picture, landmarks[0]))

        # 3. a crop for each; the third frame where a prediction would put it
        usual = faces[int(rng.integers(3))][1]
        affines = [jittered_affine(self._crop, face, usual, rng) for _, face in faces]
        face = faces[0][1]
        inner = network_inner(self._crop)
        moved = ReferenceWarp(*faces[2]).render(roughen(face, rng), inner=inner)
        target, reference = (
            cut_crop(*pair, self.size) for pair in zip(faces[:2], affines[:2], strict=True)
        )
        warped, _ = cut_crop((moved, face), affines[0], self.size)
        return PairPictures(*target, *reference, warped)


def _each(
    make: Callable[[np.random.Generator], Sample], rng: np.random.Generator, count: int
) -> list[Sample]:
    """`count` samples, several at once; each has its own generator, so threads change nothing."""
    generators = rng.spawn(count)
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(make, generators))
