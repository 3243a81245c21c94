from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.clips import ClipFrames
from model.evaluation.metrics.film_faults import (
    flicker,
    leak,
    mouth_light,
    opening_left,
    outline_damage,
    texture,
)
from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import INNER_LIPS, LEFT_EYE, LOWER_INNER_LIP

Image = NDArray[np.uint8]
FACE = (AVERAGE_FACE * 300 + 50).astype(np.float32)
FACES = np.repeat(FACE[None], 6, axis=0)


def grain(seed: int, strength: float = 20.0) -> Image:
    noise = np.random.default_rng(seed).normal(120, strength, (400, 400, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def test_a_mark_beside_the_face_is_damage_and_one_on_the_chin_is_none() -> None:
    source = [grain(0)] * 6
    beside, within = [x.copy() for x in source], [x.copy() for x in source]
    ear, chin = FACE[14].astype(int), ((FACE[8] + FACE[57]) / 2).astype(int)
    for frame in beside[:3]:
        cv2.circle(frame, (int(ear[0]) + 25, int(ear[1])), 14, (255, 255, 255), -1)
    for frame in within:
        cv2.circle(frame, (int(chin[0]), int(chin[1])), 14, (255, 255, 255), -1)
    assert outline_damage(beside, source, FACES, FACES) == 0.5
    assert outline_damage(within, source, FACES, FACES) == 0.0
    assert outline_damage(source, source, FACES, FACES) == 0.0


def test_flicker_is_told_by_skin_that_changes_from_frame_to_frame() -> None:
    steady = [grain(0, 5.0)] * 6
    source = [grain(k, 5.0) for k in range(6)]
    restless = [grain(k, 15.0) for k in range(6)]
    assert flicker(source, source, FACES, FACES)["chin"] == pytest.approx(1.0)
    assert flicker(restless, source, FACES, FACES)["cheek"] == pytest.approx(3.0, rel=0.1)
    assert flicker(steady, source, FACES, FACES)["chin"] == 0.0


def test_a_head_that_moves_does_not_flicker() -> None:
    picture = np.asarray(cv2.GaussianBlur(grain(0, 60.0), (0, 0), 2.0), np.uint8)
    moves = [np.float32([(1, 0, 4 * k), (0, 1, 2 * k)]) for k in range(6)]
    moving = [np.asarray(cv2.warpAffine(picture, m, (400, 400)), np.uint8) for m in moves]
    faces = np.stack([FACE + m[:, 2] for m in moves])
    still = flicker(moving, moving, faces=FACES, targets=faces)["chin"]
    assert still < 0.2  # of what the same frames do beside landmarks that stand still


def test_texture_is_lost_in_blur() -> None:
    sharp = grain(0)
    soft = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 1.0), np.uint8)
    before, after = texture(sharp, FACE), texture(soft, FACE)
    assert set(before) == {"chin", "cheek", "lips"}
    for name, value in before.items():
        assert 0 < after[name] < 0.2 * value


def test_a_mouth_that_is_partly_the_films_own_leaks() -> None:
    rng = np.random.default_rng(0)
    wanted, own, noise = rng.random((3, 400)).astype(np.float32)
    assert abs(leak(wanted + 0.2 * noise, wanted, own)) < 0.1
    assert leak(wanted + 0.5 * own + 0.1 * noise, wanted, own) > 0.8
    assert opening_left(wanted + 0.5 * own + 0.1 * noise, wanted, own) == pytest.approx(
        0.5, abs=0.03
    )
    assert abs(opening_left(wanted + 0.001 * own, wanted, own)) < 0.01
    # a film whose mouth says the same by chance is no leak
    assert abs(leak(wanted + 0.2 * noise, wanted, wanted + 0.3 * own)) < 0.15


def test_teeth_are_measured_against_the_whites_of_the_eyes() -> None:
    face = FACE.copy()
    face[[*LOWER_INNER_LIP], 1] += 20
    frame = np.full((400, 400, 3), 60, np.uint8)
    cv2.fillPoly(frame, [face[list(LEFT_EYE)].astype(np.int32)], (200, 200, 200))
    cv2.fillPoly(frame, [face[list(INNER_LIPS)].astype(np.int32)], (250, 250, 250))
    assert mouth_light(frame, face) == pytest.approx(1.25, abs=0.02)


def test_frames_in_memory_are_read_as_a_films() -> None:
    frames = np.stack([grain(k) for k in range(4)])
    film = ClipFrames(frames)
    assert (film.num_frames, film.height, film.width) == (4, 400, 400)
    np.testing.assert_array_equal(np.stack(list(film.read(1, 3))), frames[1:3])
