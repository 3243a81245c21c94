"""Smiles that shut: corners come in and down, gaps stay the voice's, other faces are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.face.alignment import warp_points
from model.face.average_face import AVERAGE_FACE
from model.face.inner_mouth import inner_opening
from model.face.landmarks import LOWER_INNER_LIP, UPPER_INNER_LIP, mouth_width
from model.face.smiles import relax_smile
from model.face.smoothing import closed_mouth

Face = NDArray[np.float32]


@pytest.fixture
def smile() -> Face:
    """The average face with raised corners and a gap of a fifth of its mouth's width."""
    face = AVERAGE_FACE.copy()
    face[[48, 54, 60, 64], 1] -= 0.02
    missing = 0.2 * mouth_width(face) - (face[66, 1] - face[62, 1])
    for upper, lower in zip((61, 62, 63, 50, 51, 52), (67, 66, 65, 58, 57, 56), strict=True):
        face[upper, 1] -= 0.4 * missing
        face[lower, 1] += 0.6 * missing
    assert inner_opening(face) > 0.15
    return face


def gaps(face: Face) -> NDArray[np.float32]:
    return face[..., list(LOWER_INNER_LIP), 1] - face[..., list(UPPER_INNER_LIP), 1]


def test_shut_lips_of_a_smile_are_narrower_and_their_corners_lower(smile: Face) -> None:
    shut = closed_mouth(smile)
    [relaxed] = relax_smile(shut[None], smile)
    assert 0.85 < mouth_width(relaxed) / mouth_width(shut) < 0.95
    for corner in (48, 54, 60, 64):
        assert 0.03 < (relaxed[corner, 1] - shut[corner, 1]) / mouth_width(smile) < 0.08
    np.testing.assert_allclose(gaps(relaxed), gaps(shut), atol=1e-6)
    np.testing.assert_array_equal(relaxed[:48], shut[:48])


def test_a_mouth_as_open_as_the_smile_stays_as_it_is(smile: Face) -> None:
    wider = smile.copy()
    wider[[65, 66, 67, 55, 56, 57, 58, 59], 1] += 0.03
    frames = np.stack([smile, wider])
    np.testing.assert_allclose(relax_smile(frames, smile), frames, atol=1e-6)


def test_lips_that_shut_slowly_come_to_rest_slowly(smile: Face) -> None:
    shut = closed_mouth(smile)
    way = np.linspace(0, 1, 21, dtype=np.float32)[:, None, None]
    frames = smile + way * (shut - smile)
    moved = np.abs(relax_smile(frames, smile) - frames)[:, 48, 1]
    assert (np.diff(moved) >= 0).all()
    assert np.diff(moved).max() < 0.1 * moved[-1]


def test_faces_that_hardly_smile_are_left_alone() -> None:
    reference = closed_mouth(AVERAGE_FACE)
    frames = np.stack([AVERAGE_FACE, reference])
    np.testing.assert_array_equal(relax_smile(frames, reference), frames)


def test_a_mouth_that_is_open_to_speak_is_no_smile(smile: Face) -> None:
    spoken = smile.copy()
    spoken[[48, 54, 60, 64], 1] += 0.045
    frames = closed_mouth(spoken)[None]
    np.testing.assert_array_equal(relax_smile(frames, spoken), frames)


def test_a_tilted_face_is_relaxed_along_its_own_mouth(smile: Face) -> None:
    angle = np.deg2rad(12)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([(cosine, -sine, 0.1), (sine, cosine, -0.05)], np.float32)
    shut = closed_mouth(smile)
    [straight] = relax_smile(shut[None], smile)
    [tilted] = relax_smile(warp_points(turn, shut)[None], warp_points(turn, smile))
    # Openings are measured downwards, so a tilt changes a little how much.
    np.testing.assert_allclose(tilted, warp_points(turn, straight), atol=0.01 * mouth_width(smile))
