from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.face.average_face import AVERAGE_FACE
from model.face.head_depth import MEAN_DEPTH, face_depth, head_depth, turn_in_depth
from model.face.head_motion import HeadMotion, MovedPicture

NOSE_TIP, LEFT_EAR, RIGHT_EAR, LEFT_EYE, RIGHT_EYE = 30, 1, 15, 36, 45
TEN = float(np.radians(10.0))


def turning(yaw: float, pitch: float, shift: float = 0.0) -> HeadMotion:
    nothing, pairs = np.zeros(1, np.float32), np.zeros((1, 2), np.float32)
    return HeadMotion(
        nothing,
        nothing,
        pairs + np.float32(shift),
        pairs + 1,
        pairs,
        np.array([[yaw, pitch]], np.float32),
    )


def placed(size: int = 600, side: float = 300.0, at: float = 150.0) -> NDArray[np.float32]:
    """The average face in a square picture."""
    return (AVERAGE_FACE * np.float32(side) + np.float32(at)).astype(np.float32)


def test_the_nose_goes_ahead_and_the_ears_lag() -> None:
    ways = turn_in_depth(AVERAGE_FACE, MEAN_DEPTH, TEN, 0.0)[:, 0]
    assert ways[NOSE_TIP] > ways[LEFT_EYE] + 0.01 > ways[LEFT_EAR] + 0.03
    assert ways[LEFT_EAR] < 0 and ways[RIGHT_EAR] < 0
    down = turn_in_depth(AVERAGE_FACE, MEAN_DEPTH, 0.0, TEN)[:, 1]
    assert down[NOSE_TIP] > 0.02 > 0 > down[LEFT_EAR]


def test_no_turn_is_no_way() -> None:
    assert not turn_in_depth(AVERAGE_FACE, MEAN_DEPTH, 0.0, 0.0).any()


def test_depth_goes_through_the_face_s_points_and_is_smooth() -> None:
    there = head_depth(AVERAGE_FACE, AVERAGE_FACE)
    assert np.abs(there - MEAN_DEPTH).mean() < 0.01
    y, x = np.mgrid[-0.2:1.2:60j, -0.2:1.2:60j].astype(np.float32)
    depth = head_depth(AVERAGE_FACE, np.stack([x, y], axis=-1))
    slope = np.abs(np.stack(np.gradient(depth, 1.4 / 59))).max()
    assert slope * np.sin(TEN) < 0.75  # less than one: nothing folds


def test_a_face_that_looks_away_turns_less() -> None:
    away = AVERAGE_FACE.copy()
    away[27:36, 0] += 0.09
    assert np.abs(face_depth(away)).max() < 0.8 * np.abs(MEAN_DEPTH).max()
    np.testing.assert_array_equal(face_depth(AVERAGE_FACE), MEAN_DEPTH)


@pytest.mark.parametrize(("yaw", "pitch"), [(TEN, 0.0), (-TEN, 0.0), (0.0, TEN), (0.7 * TEN, -TEN)])
def test_a_turned_picture_keeps_its_order_and_its_edges(yaw: float, pitch: float) -> None:
    """Neighbouring columns and rows keep their order: nothing folds; and the frame stays whole."""
    ramp = np.tile(np.linspace(0, 255, 600, dtype=np.float32)[None], (600, 1))
    picture = np.stack([ramp, ramp.T, ramp * 0], axis=-1).astype(np.uint8)
    frame = MovedPicture(picture, placed(), turning(yaw, pitch, 0.03), 25.0).move(picture, 0)
    assert (frame != picture).any()
    assert (np.diff(frame[..., 0].astype(int), axis=1) >= -1).all()
    assert (np.diff(frame[..., 1].astype(int), axis=0) >= -1).all()
    for edge in (frame[0], frame[-1], frame[:, 0], frame[:, -1]):
        assert edge.shape == (600, 3)
    np.testing.assert_array_equal(frame[[0, -1]], picture[[0, -1]])
    np.testing.assert_array_equal(frame[:, [0, -1]], picture[:, [0, -1]])


def test_landmarks_turn_as_the_picture_does() -> None:
    """A dot on the nose is found where its landmark goes."""
    face = placed()
    picture = np.zeros((600, 600, 3), np.uint8)
    x, y = face[NOSE_TIP].round().astype(int)
    picture[y - 3 : y + 4, x - 3 : x + 4] = 255
    moved = MovedPicture(picture, face, turning(TEN, 0.5 * TEN, 0.02), 25.0)
    frame = moved.move(picture, 0)[..., 0].astype(float)
    rows, columns = np.mgrid[0:600, 0:600]
    centre = np.array([(frame * columns).sum(), (frame * rows).sum()]) / frame.sum()
    expected = moved.landmarks(0)[NOSE_TIP] + (np.array((x, y)) - face[NOSE_TIP])
    np.testing.assert_allclose(centre, expected, atol=1.0)
    assert np.linalg.norm(moved.landmarks(0)[NOSE_TIP] - face[NOSE_TIP]) > 8


def test_a_face_near_the_edge_moves_less_and_keeps_its_shape() -> None:
    blank = np.zeros((260, 260, 3), np.uint8)
    tight = placed(at=-20.0)
    near = MovedPicture(blank, tight, turning(0.0, 0.0, 0.05), 25.0).landmarks(0) - tight
    free = MovedPicture(
        np.zeros((900, 900, 3), np.uint8), placed(at=300.0), turning(0.0, 0.0, 0.05), 25.0
    ).landmarks(0) - placed(at=300.0)
    ways = np.linalg.norm(near, axis=1)
    assert 0 < ways.max() < 0.8 * np.linalg.norm(free, axis=1).max()
    assert np.ptp(ways) < 0.01 * 300
