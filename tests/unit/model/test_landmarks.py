from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.face.landmarks import (
    CONTENT,
    FLIP,
    INNER_LIPS,
    MESH_TO_68,
    NUM_LANDMARKS,
    OUTER_LIPS,
    POSE,
    flip_landmarks,
    lip_gap,
    mouth_opening,
    mouth_width,
)


def make_points() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((3, NUM_LANDMARKS, 2)).astype(np.float32)


def test_pose_and_content_share_out_all_points() -> None:
    assert len(POSE) == 37
    assert len(CONTENT) == 31
    assert sorted((*POSE, *CONTENT)) == list(range(NUM_LANDMARKS))


def test_the_mesh_has_one_vertex_a_point() -> None:
    assert len(MESH_TO_68) == NUM_LANDMARKS
    assert len(set(MESH_TO_68)) == NUM_LANDMARKS
    assert min(MESH_TO_68) >= 0 and max(MESH_TO_68) < 468


def test_flipping_twice_gives_the_same() -> None:
    assert sorted(FLIP) == list(range(NUM_LANDMARKS))
    points = make_points()
    np.testing.assert_allclose(flip_landmarks(flip_landmarks(points)), points, atol=1e-6)
    np.testing.assert_allclose(
        flip_landmarks(flip_landmarks(points, 225.0), 225.0), points, atol=1e-4
    )


def test_flipping_keeps_groups_and_openings() -> None:
    for group in (POSE, CONTENT, OUTER_LIPS, INNER_LIPS):
        assert {FLIP[i] for i in group} == set(group)
    points = make_points()
    np.testing.assert_allclose(mouth_opening(flip_landmarks(points)), mouth_opening(points), 1e-5)


def test_opening_is_gap_over_width() -> None:
    face = np.zeros((NUM_LANDMARKS, 2), np.float32)
    face[48], face[54] = (0.4, 0.6), (0.6, 0.6)
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        face[upper], face[lower] = (0.5, 0.59), (0.5, 0.61)
    assert np.isclose(lip_gap(face), 0.02, atol=1e-6)
    assert np.isclose(mouth_width(face), 0.2, atol=1e-6)
    assert np.isclose(mouth_opening(face), 0.1, atol=1e-5)
    assert np.isclose(mouth_opening(face * 300), 0.1, atol=1e-5)
