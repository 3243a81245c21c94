from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import FaceIndexError, FaceTooSmallError, NoFaceError
from model.face.alignment import crop_affine, fit_similarity, source_pixels, warp_points
from model.face.average_face import AVERAGE_FACE
from model.face.detection import DetectedFace
from model.face.landmarks import CONTENT, POSE
from model.face.tracking import (
    FaceTrack,
    choose_extremes,
    choose_reference,
    crop_landmarks,
    smooth_crops,
    track_face,
    turn_offsets,
)
from model.pipelines.landmark_completion import follow_face

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


def placed(x: float, y: float = 100.0, size: float = 160.0) -> Points:
    return (AVERAGE_FACE * size + (x, y)).astype(np.float32)


def film(count: int, cuts: Sequence[int] = ()) -> list[Image]:
    frames = []
    for index in range(count):
        shade = 60 + 90 * (sum(index >= cut for cut in cuts) % 2)
        frame = np.full((240, 320, 3), shade, np.uint8)
        frame[0, 0, 0] = index
        frames.append(frame)
    return frames


class Script:
    """A detector that sees what a script says, largest first, by the frame's number."""

    def __init__(self, faces: Sequence[Sequence[Points]]) -> None:
        self._faces = faces

    def __call__(self, image: Image) -> list[DetectedFace]:
        seen = [DetectedFace.from_landmarks(x, 1.0) for x in self._faces[image[0, 0, 0]]]
        return sorted(seen, key=lambda face: face.size_px, reverse=True)


def test_the_chosen_face_is_followed_and_not_the_largest() -> None:
    faces = [[placed(100 + 2 * i, size=140), placed(400 - i, size=130 + 6 * i)] for i in range(8)]
    track = track_face(film(8), Script(faces))
    np.testing.assert_allclose(track.landmarks, [pair[0] for pair in faces])
    other = track_face(film(8), Script(faces), face_index=1)
    np.testing.assert_allclose(other.landmarks, [pair[1] for pair in faces])


def test_a_gap_holds_the_last_good_face() -> None:
    faces = [[] if i in (0, 3, 4) else [placed(10.0 * i)] for i in range(6)]
    track = track_face(film(6), Script(faces))
    assert track.found.tolist() == [False, True, True, False, False, True]
    held = [1, 1, 2, 2, 2, 5]
    np.testing.assert_allclose(track.landmarks, [placed(10.0 * i) for i in held])


def test_another_face_does_not_take_the_place_of_one_that_is_gone() -> None:
    faces = [[placed(100), placed(500, size=120)]] * 3 + [[placed(500, size=120)]] * 3
    track = track_face(film(6), Script(faces))
    assert track.found.tolist() == [True] * 3 + [False] * 3


def test_behind_a_cut_the_face_is_found_anew() -> None:
    faces = [[placed(50)]] * 3 + [[placed(500)]] * 3
    assert track_face(film(6), Script(faces)).found.tolist() == [True] * 3 + [False] * 3
    track = track_face(film(6, cuts=[3]), Script(faces))
    assert track.found.all() and track.scene.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(track.landmarks[4], placed(500))
    crops = smooth_crops(track.landmarks, 25.0, track.scene)
    np.testing.assert_allclose(crops[2], crop_affine(placed(50)), atol=1e-4)
    np.testing.assert_allclose(crops[3], crop_affine(placed(500)), atol=1e-4)


def test_only_long_gaps_hide_a_face() -> None:
    found = np.ones(40, np.bool_)
    found[[5, 6, 7, 8, 9, *range(20, 26), 39]] = False
    track = FaceTrack(
        np.zeros((40, 68, 2), np.float32), found, np.zeros(40, np.float32), np.zeros(40, np.int64)
    )
    assert np.flatnonzero(track.hidden(25.0)).tolist() == list(range(20, 26))
    cut = FaceTrack(track.landmarks, found, track.sharpness, (np.arange(40) >= 7).astype(np.int64))
    assert np.flatnonzero(cut.hidden(25.0)).tolist() == [*range(5, 10), *range(20, 26)]


def test_videos_without_a_usable_face_are_refused() -> None:
    with pytest.raises(NoFaceError, match="3 frame"):
        track_face(film(3), Script([[]] * 3))
    with pytest.raises(FaceIndexError, match="1 face"):
        track_face(film(3), Script([[], [placed(50)], [placed(50), placed(300)]]), face_index=1)
    with pytest.raises(FaceTooSmallError):
        track_face(film(3), Script([[placed(50, size=60)]] * 3))


def test_crops_are_calm_and_do_not_lag() -> None:
    rng = np.random.default_rng(0)
    true = np.stack([placed(100 + 40 * np.sin(0.12 * i), size=160 + 0.3 * i) for i in range(80)])
    noisy = (true + rng.normal(0, 0.7, true.shape)).astype(np.float32)
    crops = smooth_crops(noisy, 25.0)
    exact = np.stack([crop_affine(points) for points in true])
    rough = np.stack([crop_affine(points) for points in noisy])

    def centres(affines: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.array([np.linalg.solve(a[:, :2], 0.5 - a[:, 2]) for a in affines])

    def tremble(affines: NDArray[np.float32]) -> float:
        return float(np.abs(np.diff(centres(affines) - centres(exact), axis=0)).mean())

    assert tremble(crops) < 0.6 * tremble(rough)
    assert np.abs(centres(crops) - centres(exact)).max() < 2.0
    sizes = np.array(
        [source_pixels(a) / source_pixels(b) for a, b in zip(crops, exact, strict=True)]
    )
    assert np.abs(sizes - 1).max() < 0.02
    own = crop_landmarks(noisy, crops, 25.0)
    np.testing.assert_allclose(own, np.broadcast_to(AVERAGE_FACE, own.shape), atol=0.02)


def test_a_turned_head_keeps_its_crop_upright_across_half_a_turn() -> None:
    turned = []
    for angle in np.linspace(np.pi - 0.2, np.pi + 0.2, 20):
        cosine, sine = np.cos(angle), np.sin(angle)
        turned.append(placed(0) @ np.array([(cosine, sine), (-sine, cosine)], np.float32))
    points = np.stack(turned).astype(np.float32)
    for affine, face in zip(smooth_crops(points, 25.0), points, strict=True):
        np.testing.assert_allclose(warp_points(affine, face), AVERAGE_FACE, atol=0.03)


def test_the_reference_is_sharp_with_a_usual_mouth() -> None:
    faces = np.repeat(AVERAGE_FACE[None], 40, axis=0)
    faces[:, 65:68, 1] += np.linspace(0, 0.08, 40)[:, None].astype(np.float32)
    sharpness = np.ones(40, np.float32)
    sharpness[[1, 38]] = 9.0  # sharp, but shut or wide open
    sharpness[20] = 5.0
    found = np.ones(40, np.bool_)
    assert choose_reference(faces, found, sharpness) == 20
    found[20] = False
    assert 10 < choose_reference(faces, found, sharpness) < 30
    alone = np.zeros(40, np.bool_)
    alone[7] = True
    assert choose_reference(faces, alone, sharpness) == 7


def test_further_references_show_shut_lips_and_teeth() -> None:
    faces = np.repeat(AVERAGE_FACE[None], 40, axis=0)
    faces[:, 65:68, 1] += np.linspace(0, 0.08, 40)[:, None].astype(np.float32)
    sharpness, found = np.ones(40, np.float32), np.ones(40, np.bool_)
    sharpness[[1, 38]] = 9.0
    assert choose_extremes(faces, found, sharpness, 20) == [1, 38]
    found[36:], sharpness[34] = False, 4.0
    assert choose_extremes(faces, found, sharpness, 20) == [1, 34]
    faces[30:36, :48] += np.float32([0.05, 0.0])  # turned away: not the reference's pose
    sharpness[29] = 2.0
    assert choose_extremes(faces, found, sharpness, 20) == [1, 29]
    assert choose_extremes(np.repeat(AVERAGE_FACE[None], 40, axis=0), found, sharpness, 3) == []


DEPTH = np.array([*np.linspace(0.31, 0.055, 9), *np.linspace(0.09, 0.31, 8)], np.float32)
"""Of the contour behind the nose's root, crop units; ears far back, the chin near."""


def turned(face: Points, yaw: float, nod: float) -> Points:
    """The face turned to the side and nodding, with the depth of a common head."""
    depth = np.repeat(np.float32([0, 0.03, -0.04, 0.08, 0.01]), [17, 10, 9, 12, 20])
    depth[:17] = DEPTH
    depth[27:31] = 0, -0.03, -0.07, -0.1
    depth[[48, 54, 60, 64]] = 0.05
    x, y = (face - face[27]).T
    x, depth = x * np.cos(yaw) + depth * np.sin(yaw), depth * np.cos(yaw) - x * np.sin(yaw)
    y = y * np.cos(nod) - depth * np.sin(nod)
    return (np.stack([x, y], axis=1) + face[27]).astype(np.float32)


def test_jaw_and_mouth_go_with_a_head_that_turns_in_depth() -> None:
    rng = np.random.default_rng(1)
    times = np.linspace(0, 9, 80)
    faces = np.repeat(AVERAGE_FACE[None], 80, axis=0)
    faces[:, 65:68, 1] += 0.04 * np.abs(np.sin(np.arange(80)))[:, None].astype(np.float32)
    ways = zip(faces, 0.3 * np.sin(times), 0.15 * np.cos(1.7 * times), strict=True)
    shown = np.stack([turned(*way) for way in ways])
    noisy = (shown + rng.normal(0, 0.002, shown.shape)).astype(np.float32)
    own = np.stack([warp_points(crop_affine(points), points) for points in noisy])

    carried = follow_face(np.repeat(AVERAGE_FACE[None], 80, axis=0), AVERAGE_FACE, own)
    plain = own.copy()
    pose, content = list(POSE), list(CONTENT)
    for face in plain:
        affine = fit_similarity(AVERAGE_FACE[pose], face[pose])
        face[content] = warp_points(affine, AVERAGE_FACE[content])

    def error(faces: Points, points: list[int]) -> float:
        return float(np.abs(faces[:, points] - own[:, points]).mean())

    sides = [3, 4, 12, 13]
    assert error(plain, sides) > 0.015
    assert error(carried, sides) < 0.5 * error(plain, sides)
    np.testing.assert_array_equal(carried[:, pose], own[:, pose])


def test_a_frontal_head_turns_nothing_and_speech_is_not_seen() -> None:
    rng = np.random.default_rng(2)
    faces = np.repeat(AVERAGE_FACE[None], 60, axis=0)
    faces[:, 48:68] += rng.normal(0, 0.03, (60, 1, 2)).astype(np.float32)  # a mouth that wanders
    faces += rng.normal(0, 0.001, faces.shape).astype(np.float32)
    offsets = turn_offsets(faces, AVERAGE_FACE)
    assert np.abs(offsets).max() < 0.006
    assert (offsets[:, 11:, 1] == 0).all() and np.ptp(offsets[:, 11:, 0], axis=1).max() == 0
