"""Small faces of large pictures: found piece by piece, and cut out where it is the only one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from model.errors import FaceIndexError
from model.face.detection import MIN_FACE_PX, MediaPipeFaceDetector
from model.face.small_faces import choose_picture, cut_around, find_faces


@pytest.fixture(scope="module")
def detector() -> MediaPipeFaceDetector:
    return MediaPipeFaceDetector()


def scene(width: int, height: int, *places: tuple[int, int], size: int = 260) -> np.ndarray:
    """A meadow of soft noise with the astronaut's head and shoulders at these places."""
    noise = np.random.default_rng(0).integers(90, 150, (height // 40, width // 40, 3), np.uint8)
    picture = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    person = cv2.resize(skimage.data.astronaut()[0:300, 80:380], (size, size))
    for left, top in places:
        picture[top : top + size, left : left + size] = person
    return picture


def shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("place", [(300, 200), (2100, 1300), (3600, 2300)])
def test_a_small_face_is_found_where_it_is(
    detector: MediaPipeFaceDetector, place: tuple[int, int]
) -> None:
    faces = find_faces(detector, scene(4000, 2667, place))

    assert len(faces) == 1
    assert faces[0].size_px == pytest.approx(80, abs=8)
    left, top, right, bottom = faces[0].bbox_xyxy
    assert place[0] < left < right < place[0] + 260
    assert place[1] < top < bottom < place[1] + 260


def test_a_picture_without_people_has_no_faces(detector: MediaPipeFaceDetector) -> None:
    assert find_faces(detector, scene(2000, 1300)) == []


def test_the_only_face_that_is_too_small_when_shrunk_is_cut_out(
    detector: MediaPipeFaceDetector,
) -> None:
    original = scene(4000, 2667, (2100, 1300))

    chosen, index = choose_picture(detector, shrunk(original, 1280), lambda: original, 0)

    assert max(chosen.shape[:2]) < 700
    assert chosen.shape[0] % 2 == chosen.shape[1] % 2 == 0
    [face] = detector(chosen)
    assert index == 0
    assert face.size_px >= MIN_FACE_PX
    # Its own pixels, not enlarged ones.
    assert face.size_px == pytest.approx(find_faces(detector, original)[0].size_px, rel=0.05)


def test_a_face_that_is_large_enough_leaves_the_picture_as_it_is(
    detector: MediaPipeFaceDetector,
) -> None:
    image = skimage.data.astronaut()

    def never() -> np.ndarray:
        raise AssertionError("the original is not needed")

    assert choose_picture(detector, image, never, 0) == (image, 0)


@pytest.mark.parametrize("face_index", [0, 1])
def test_of_several_small_faces_the_one_that_is_named_is_cut_out(
    detector: MediaPipeFaceDetector, face_index: int
) -> None:
    original = scene(4000, 2667, (800, 900), (1110, 920))
    left, right = sorted(find_faces(detector, original), key=lambda face: face.bbox_xyxy[0])
    wanted = find_faces(detector, original)[face_index]

    chosen, index = choose_picture(detector, shrunk(original, 1280), lambda: original, face_index)

    # The other one is partly in the cut-out; the one who is meant stands in its middle.
    assert right.bbox_xyxy[0] - left.bbox_xyxy[0] < max(chosen.shape[:2])
    face = find_faces(detector, chosen)[index]
    middle = (face.bbox_xyxy[0] + face.bbox_xyxy[2]) / 2
    assert middle == pytest.approx(chosen.shape[1] / 2, abs=0.1 * wanted.size_px)
    assert face.size_px == pytest.approx(wanted.size_px, rel=0.05)


def test_a_face_that_is_not_there_is_told_by_what_the_original_shows(
    detector: MediaPipeFaceDetector,
) -> None:
    original = scene(4000, 2667, (800, 900), (2400, 1100))

    with pytest.raises(FaceIndexError, match=r"shows 2 face"):
        choose_picture(detector, shrunk(original, 1280), lambda: original, 2)


@pytest.mark.parametrize("place", [(0, 0), (740, 440)])
def test_a_cut_out_stays_inside_the_picture(
    detector: MediaPipeFaceDetector, place: tuple[int, int]
) -> None:
    original = scene(1000, 700, place)
    [face] = find_faces(detector, original)

    cut = cut_around(original, face, 200)

    assert max(cut.shape[:2]) <= 200
    assert len(detector(cut)) == 1
