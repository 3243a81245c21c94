from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.breathing import Breath
from model.face.detection import MediaPipeFaceDetector
from model.face.eye_outline import ACROSS, find_eye
from model.face.eyelids import Eyelids
from model.face.glances import Glances
from model.face.head_motion import HeadMotion, MovedPicture
from model.face.landmarks import LEFT_EYE, RIGHT_EYE
from model.face.spectacles import find_rim, wears_spectacles
from model.motion.head_motion import still_motion
from model.motion.life import breaths, glances

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]


@pytest.fixture(scope="module")
def face(portrait: Image) -> Points:
    return MediaPipeFaceDetector()(portrait)[0].landmarks


def eyeballs(face: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels between the lids of the open eyes."""
    mask = np.zeros(shape[:2], np.uint8)
    for eye in (LEFT_EYE, RIGHT_EYE):
        cv2.fillPoly(mask, [np.round(face[list(eye)]).astype(np.int32)], 1)
    return np.asarray(mask > 0)


def with_spectacles(picture: Image, face: Points) -> Image:
    """The portrait behind a thin dark frame, with its rims a little above the eyes."""
    drawn = picture.copy()
    width = float(np.linalg.norm(face[39] - face[36]))
    for eye in (LEFT_EYE, RIGHT_EYE):
        low, high = face[list(eye)].min(axis=0), face[list(eye)].max(axis=0)
        first = (round(low[0] - 0.25 * width), round(low[1] - 0.30 * width))
        last = (round(high[0] + 0.25 * width), round(high[1] + 0.5 * width))
        cv2.rectangle(drawn, first, last, (25, 20, 20), 3)
    bridge = np.round([face[39] + (0.25 * width, 0), face[42] - (0.25 * width, 0)]).astype(int)
    cv2.line(drawn, tuple(bridge[0]), tuple(bridge[1]), (25, 20, 20), 3)
    return drawn


def test_open_lids_are_the_very_picture(portrait: Image, face: Points) -> None:
    assert Eyelids(portrait, face).close(portrait, 0.0) is portrait
    assert Eyelids(portrait, face).close(portrait, (0.0, 0.0)) is portrait


def test_closed_lids_cover_the_white_with_skin(portrait: Image, face: Points) -> None:
    closed = Eyelids(portrait, face).close(portrait, 1.0)
    inside = eyeballs(face, portrait.shape)
    grey = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
    shut = cv2.cvtColor(closed, cv2.COLOR_RGB2GRAY)
    cheek = np.percentile(grey[round(face[41, 1]) + 20 : round(face[41, 1]) + 40, 230:290], 95)
    assert (grey[inside] > cheek).mean() > 0.05
    assert (shut[inside] > cheek).mean() < 0.01


def test_pixels_away_from_the_eyes_stay(portrait: Image, face: Points) -> None:
    lids = Eyelids(portrait, face)
    unit = np.linalg.norm(face[39] - face[36])
    y, x = np.mgrid[: portrait.shape[0], : portrait.shape[1]]
    far = np.ones(portrait.shape[:2], bool)
    for eye in (LEFT_EYE, RIGHT_EYE):
        middle = face[list(eye)].mean(axis=0)
        far &= np.hypot(x - middle[0], y - middle[1]) > 1.1 * unit
    for amount in (0.3, 1.0):
        closed = lids.close(portrait, amount)
        assert (closed != portrait).any()
        np.testing.assert_array_equal(closed[far], portrait[far])
    brows = np.round(face[17:27]).astype(int)
    assert (closed[brows[:, 1], brows[:, 0]] == portrait[brows[:, 1], brows[:, 0]]).all()


def test_the_uncovered_eyeball_stays_what_it_is(portrait: Image, face: Points) -> None:
    half = Eyelids(portrait, face).close(portrait, 0.4)
    for lower in ([41, 40], [47, 46]):
        x, y = np.round(face[lower].mean(axis=0)).astype(int)
        below = (slice(y - 3, y), slice(x - 2, x + 3))
        np.testing.assert_array_equal(half[below], portrait[below])


def test_the_detector_sees_the_eyes_close(portrait: Image, face: Points) -> None:
    closed = Eyelids(portrait, face).close(portrait, 1.0)
    found = MediaPipeFaceDetector()(closed)[0].landmarks
    before = (face[LOWER_LIDS, 1] - face[UPPER_LIDS, 1]).mean()
    assert (found[LOWER_LIDS, 1] - found[UPPER_LIDS, 1]).mean() < 0.5 * before


def test_one_eye_can_wink(portrait: Image, face: Points) -> None:
    winking = Eyelids(portrait, face).close(portrait, (1.0, 0.0))
    middle = round(float(face[27, 0]))
    assert (winking[:, :middle] != portrait[:, :middle]).any()
    np.testing.assert_array_equal(winking[:, middle:], portrait[:, middle:])


def test_closed_eyes_stay(portrait: Image, face: Points) -> None:
    asleep = face.copy()
    asleep[UPPER_LIDS] = asleep[LOWER_LIDS] - np.float32((0, 0.5))
    picture = portrait.copy()
    picture[210:330] = portrait[400, 300]
    np.testing.assert_array_equal(Eyelids(picture, asleep).close(picture, 1.0), picture)


def test_eyes_at_the_edge_and_tiny_ones_close(portrait: Image, face: Points) -> None:
    cut = np.ascontiguousarray(portrait[250:])
    low = face - np.float32((0, 250))
    assert Eyelids(cut, low).close(cut, 1.0).shape == cut.shape
    small = np.asarray(cv2.resize(portrait, (64, 64), interpolation=cv2.INTER_AREA), np.uint8)
    assert (Eyelids(small, face / 10).close(small, 1.0) != small).any()


def test_hidden_eyes_and_faces_beyond_the_edge_do_no_harm(portrait: Image, face: Points) -> None:
    profile = face.copy()
    profile[list(RIGHT_EYE)] = profile[42]
    assert Eyelids(portrait, profile).close(portrait, 1.0).shape == portrait.shape
    for shift in ((-400, 0), (500, 0), (0, -320), (0, 500)):
        beyond = face + np.float32(shift)
        assert Eyelids(portrait, beyond).close(portrait, 1.0).shape == portrait.shape


def test_grey_pictures_stay_grey(portrait: Image, face: Points) -> None:
    grey = np.repeat(cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    closed = Eyelids(grey, face).close(grey, 0.8)
    assert (closed != grey).any()
    assert np.ptp(closed.astype(int), axis=2).max() == 0


def test_spectacles_are_seen_and_stay(portrait: Image, face: Points) -> None:
    assert not wears_spectacles(portrait, face)
    worn = with_spectacles(portrait, face)
    assert wears_spectacles(worn, face)
    rim = find_rim(worn, find_eye(worn, face, 0))
    assert rim is not None
    middle = float(rim[np.abs(ACROSS) < 0.5].mean())
    assert middle == pytest.approx(-0.45, abs=0.06)
    closed = Eyelids(worn, face).close(worn, 1.0)
    frame = (worn != portrait).any(axis=2)
    assert (closed != worn).any()
    assert np.abs(closed[frame].astype(int) - worn[frame]).mean() < 1.0
    lifted = one_frame(lift=np.full((1, 2), -0.02, np.float32))
    np.testing.assert_array_equal(MovedPicture(worn, face, lifted, 25.0).move(worn, 0), worn)


def test_glances_move_the_iris_and_not_the_lids(portrait: Image, face: Points) -> None:
    glances = Glances(Eyelids(portrait, face).outlines, portrait.shape)
    assert glances.look(portrait, 0.0) is portrait
    inside = eyeballs(face, portrait.shape)
    near = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9))) > 0
    grey = 255 - cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY).astype(float)
    one = inside & (np.arange(portrait.shape[1]) < face[27, 0])
    x = np.arange(portrait.shape[1])
    places = {}
    for amount in (-1.0, 1.0):
        looking = glances.look(portrait, amount)
        np.testing.assert_array_equal(looking[~near], portrait[~near])
        dark = 255 - cv2.cvtColor(looking, cv2.COLOR_RGB2GRAY).astype(float)
        weight = np.where(one & (dark > np.percentile(grey[inside], 60)), dark, 0)
        places[amount] = float((x * weight).sum() / weight.sum())
    width = float(np.linalg.norm(face[39] - face[36]))
    assert 0.04 < (places[1.0] - places[-1.0]) / width < 0.12


def one_frame(**moving: np.ndarray) -> HeadMotion:
    """A head that only does what is named."""
    return replace(still_motion(1), **moving)


def test_brows_rise_and_eyes_stay(portrait: Image, face: Points) -> None:
    lifted = one_frame(lift=np.full((1, 2), -0.02, np.float32))
    raised = MovedPicture(portrait, face, lifted, 25.0).move(portrait, 0)
    found = MediaPipeFaceDetector()(raised)[0].landmarks
    assert (found - face)[17:27, 1].mean() < -1.0
    assert np.abs(found - face)[36:48].mean() < 1.0


def test_shoulders_breathe_where_they_are_seen(portrait: Image, face: Points) -> None:
    moved = MovedPicture(portrait, face, one_frame(breath=np.ones(1, np.float32)), 25.0)
    breath = moved.move(portrait, 0)
    chin = round(float(face[8, 1]))
    np.testing.assert_array_equal(breath[:chin], portrait[:chin])
    assert (breath[-60:] != portrait[-60:]).any()
    rows, columns = moved.region
    beyond = np.ones(portrait.shape[:2], bool)
    beyond[rows, columns] = False
    np.testing.assert_array_equal(breath[beyond], portrait[beyond])
    head = np.ascontiguousarray(portrait[: chin + 20])
    assert Breath.of(head.shape, face) is None


def test_breath_and_glances_are_slow_quick_and_mostly_at_rest() -> None:
    times = np.arange(0, 120, 0.04)
    breath = breaths(times, np.random.default_rng(0))
    assert breath.min() < 0.01 and breath.max() > 0.99
    turns = int((np.diff(np.sign(np.diff(breath))) != 0).sum())
    assert 120 / 4.6 - 2 <= turns / 2 <= 120 / 3.2 + 2
    gaze = glances(times, np.random.default_rng(0))
    assert np.abs(gaze).max() <= 1.0 and 0.4 < (gaze == 0).mean() < 0.9
    assert (np.abs(np.diff(gaze)) > 0.2).sum() < 120
    np.testing.assert_array_equal(gaze, glances(times, np.random.default_rng(0)))


@pytest.mark.parametrize("made", [Eyelids, partial(find_eye, side=0)])
def test_other_landmarks_are_refused(made: Callable[..., object], portrait: Image) -> None:
    with pytest.raises(ShapeError, match="68"):
        made(portrait, np.zeros((5, 2), np.float32))
