"""Faces of single frames become tracks; tracks end where faces or shots do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.quality import sharpness, turn
from model.data.tracks import find_tracks, overlaps_larger
from model.face.average_face import AVERAGE_FACE
from model.face.detection import DetectedFace

Place = tuple[float, float, float]
"""Left, top and size of a face in pixels."""


class Script:
    """A detector that finds, frame by frame, the faces of a script."""

    def __init__(self, frames: Sequence[Sequence[Place]]) -> None:
        self._frames = iter(frames)

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        faces = [
            DetectedFace.from_landmarks(size * AVERAGE_FACE + np.float32([left, top]), 1.0)
            for left, top, size in next(self._frames)
        ]
        return sorted(faces, key=lambda face: face.size_px, reverse=True)


def find(
    script: Sequence[Sequence[Place]], shades: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """First frame and length of each track."""
    grey = shades or [90] * len(script)
    frames = (np.full((48, 64, 3), shade, np.uint8) for shade in grey)
    return [(t.first, len(t)) for t in find_tracks(frames, Script(script)).tracks]


def test_a_moving_face_is_one_track() -> None:
    assert find([[(4.0 * i, 10.0, 100.0 + i)] for i in range(20)]) == [(0, 20)]


def test_a_track_ends_where_the_face_vanishes_jumps_or_grows() -> None:
    here, there, near = (0.0, 0.0, 100.0), (200.0, 0.0, 100.0), (0.0, 0.0, 190.0)
    assert find([[here]] * 4 + [[]] + [[here]] * 3) == [(0, 4), (5, 3)]
    assert find([[here]] * 4 + [[there]] * 3) == [(0, 4), (4, 3)]
    assert find([[here]] * 4 + [[near]] * 3) == [(0, 4), (4, 3)]


def test_a_track_ends_at_a_cut() -> None:
    here = (0.0, 0.0, 100.0)
    assert find([[here]] * 6, [90, 92, 95, 160, 161, 162]) == [(0, 3), (3, 3)]


def test_two_people_are_two_tracks() -> None:
    left, right = (0.0, 0.0, 100.0), (300.0, 0.0, 80.0)
    assert find([[left, right], [right, left], [left, right], [left]]) == [(0, 4), (0, 3)]


def test_only_wanted_frames_are_looked_at() -> None:
    here = (0.0, 0.0, 100.0)
    wanted = np.array([0, 1, 1, 0, 1], bool)
    frames = (np.full((48, 64, 3), 90, np.uint8) for _ in range(9))
    seen = find_tracks(frames, Script([[here], [here], []]), wanted)
    assert [(t.first, len(t)) for t in seen.tracks] == [(1, 2)]
    assert (seen.num_frames, seen.num_empty) == (3, 1)


def test_the_larger_of_two_faces_at_once_counts() -> None:
    left, right = (0.0, 0.0, 100.0), (300.0, 0.0, 80.0)
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 6
    script = [[left, right]] * 3 + [[]] + [[right]] * 2
    tracks = find_tracks(frames, Script(script)).tracks
    assert [overlaps_larger(track, tracks) for track in tracks] == [False, True, False]


def test_blur_lowers_sharpness_and_light_does_not() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 180, (128, 128, 3)).astype(np.uint8)
    coarse = np.kron(picture[::8, ::8], np.ones((8, 8, 1))).astype(np.uint8)
    assert sharpness(coarse) < 0.5 * sharpness(picture)
    assert sharpness((picture * 0.6).astype(np.uint8)) == pytest.approx(
        sharpness(picture), rel=0.05
    )


def test_a_nose_over_an_eye_corner_is_turned_away() -> None:
    face = np.repeat(AVERAGE_FACE[None], 2, axis=0)
    face[1, 30, 0] -= 0.15
    aside = turn(face)
    assert aside[0] < 0.05
    assert aside[1] > 0.35
