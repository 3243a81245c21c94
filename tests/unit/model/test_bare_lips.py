from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.bare_lips import BareLips
from model.face.detection import MediaPipeFaceDetector
from model.face.inner_mouth import LipCurves, inner_opening
from model.face.mouth_light import LUMA
from model.face.portrait_engine import PortraitEngine

SIZE = 256

Portrait = tuple[NDArray[np.uint8], NDArray[np.float32]]


@pytest.fixture(scope="module")
def smile() -> Portrait:
    """A real photograph: a woman who smiles and shows her teeth."""
    image = skimage.data.astronaut()
    landmarks = MediaPipeFaceDetector()(image)[0].landmarks
    affine = crop_affine(landmarks)
    return crop_image(image, affine, SIZE), warp_points(affine, landmarks)


def shut(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same face with its lips together, the lips as thick as they are."""
    target = landmarks.copy()
    for upper, lower, outers in (
        (61, 67, ((49, 50), (58, 59))),
        (62, 66, ((51,), (57,))),
        (63, 65, ((52, 53), (55, 56))),
    ):
        gap = float(landmarks[lower, 1] - landmarks[upper, 1])
        target[[upper, *outers[0]], 1] += 0.35 * gap
        target[[lower, *outers[1]], 1] -= 0.65 * gap
    return target


def between(landmarks: NDArray[np.float32], share: float) -> tuple[slice, slice]:
    """Pixels of the middle of the inner mouth: `share` of its width and of its height."""
    lips = LipCurves.from_landmarks(landmarks)
    left, right = (
        lips.left + lips.width * (1 - share) / 2,
        lips.right - lips.width * (1 - share) / 2,
    )
    top, bottom = lips.evaluate(np.array([(left + right) / 2]))
    cut = (bottom[0] - top[0]) * (1 - share) / 2
    rows = slice(round((top[0] + cut) * SIZE), round((bottom[0] - cut) * SIZE))
    return rows, slice(round(left * SIZE), round(right * SIZE))


def redness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    colour = pixels.astype(np.float32)
    return np.asarray(
        (colour[..., 0] - colour[..., 1:].mean(axis=-1)) / np.maximum(colour @ LUMA, 1.0)
    )


def test_bare_lips_hold_no_teeth(smile: Portrait) -> None:
    crop, landmarks = smile
    teeth = between(landmarks, 0.6)
    bare = BareLips(crop, landmarks).picture(np.float32(1.0))
    lips = landmarks[[57, 66]].mean(axis=0) * SIZE  # the middle of the lower lip
    lip = redness(crop[int(lips[1]) - 2 : int(lips[1]) + 3, int(lips[0]) - 8 : int(lips[0]) + 9])
    assert np.median(redness(crop[teeth])) < 0.5 * np.median(lip)
    assert np.median(redness(bare[teeth])) > 0.75 * np.median(lip)


def test_far_from_the_mouth_the_picture_stays(smile: Portrait) -> None:
    crop, landmarks = smile
    bare = BareLips(crop, landmarks).picture(np.float32(1.0))
    hull = np.zeros((SIZE, SIZE), np.uint8)
    outline = cv2.convexHull(np.round(landmarks[48:60] * SIZE).astype(np.int32))
    cv2.fillConvexPoly(hull, outline, 1)
    far = cv2.dilate(hull, np.ones((13, 13), np.uint8)) == 0
    np.testing.assert_array_equal(bare[far], crop[far])


def test_at_its_own_opening_a_photograph_keeps_its_lips(smile: Portrait) -> None:
    crop, landmarks = smile
    lips = BareLips(crop, landmarks)
    own = float(inner_opening(landmarks))
    assert own > 0.08
    assert lips.bareness(own) == 0.0
    assert lips.bareness(0.0) == 1.0
    np.testing.assert_array_equal(lips.picture(np.float32(0.0)), crop)


def test_a_mouth_that_is_shut_has_nothing_to_lose(smile: Portrait) -> None:
    crop, landmarks = smile
    lips = BareLips(crop, shut(landmarks))
    assert lips.bareness(0.3) == 0.0
    np.testing.assert_array_equal(lips.picture(np.float32(1.0)), crop)


def test_lips_that_meet_have_a_dark_line_between_them(smile: Portrait) -> None:
    crop, landmarks = smile
    target = shut(landmarks)
    luma = PortraitEngine(crop, landmarks).render(target, inner="flat").astype(np.float32) @ LUMA
    lips = LipCurves.from_landmarks(target)
    x = np.linspace(lips.left + 0.3 * lips.width, lips.right - 0.3 * lips.width, 9)
    columns = (x * SIZE).astype(int)
    line = ((np.stack(lips.evaluate(x)).mean(axis=0)) * SIZE).astype(int)
    around = np.minimum(luma[line - 4, columns], luma[line + 4, columns])
    assert (luma[line, columns] < 0.92 * around).mean() > 0.7


def test_a_smile_shuts_without_teeth_on_its_lips(smile: Portrait) -> None:
    crop, landmarks = smile
    target = shut(landmarks)
    frame = PortraitEngine(crop, landmarks).render(target, inner="flat")
    lips = LipCurves.from_landmarks(target)
    middle = float(np.stack(lips.evaluate(np.array([0.5 * (lips.left + lips.right)]))).mean())
    rows = slice(round((middle - 0.02) * SIZE), round((middle + 0.02) * SIZE))
    columns = slice(
        round((lips.left + 0.2 * lips.width) * SIZE), round((lips.right - 0.2 * lips.width) * SIZE)
    )
    teeth = redness(crop[between(landmarks, 0.6)])
    assert (redness(frame[rows, columns]) < np.median(teeth)).mean() < 0.01
