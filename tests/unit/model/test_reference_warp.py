from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.detection import MediaPipeFaceDetector
from model.face.landmarks import mouth_opening
from model.face.portrait_engine import PortraitEngine
from model.face.reference_warp import ReferenceWarp

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
SIZE = 256


@pytest.fixture(scope="module")
def face(portrait: Image) -> tuple[Image, Points]:
    landmarks = MediaPipeFaceDetector()(portrait)[0].landmarks
    affine = crop_affine(landmarks)
    return crop_image(portrait, affine, SIZE), warp_points(affine, landmarks)


def opened(landmarks: Points) -> Points:
    target = landmarks.copy()
    target[[55, 56, 57, 58, 59, 65, 66, 67], 1] += np.float32(0.04)
    return target


def similarity(degrees: float, shift: tuple[float, float]) -> Points:
    matrix = cv2.getRotationMatrix2D((0.5, 0.5), degrees, 1.04)
    matrix[:, 2] += shift
    return matrix.astype(np.float32)


def test_in_the_references_own_pose_the_engine_draws_alone(face: tuple[Image, Points]) -> None:
    crop, landmarks = face
    target = opened(landmarks)
    drawn = ReferenceWarp(crop, landmarks).render(target)
    wanted = PortraitEngine(crop, landmarks).render(target, inner="flat")
    np.testing.assert_array_equal(drawn, wanted)


def test_the_reference_moves_to_the_targets_pose(face: tuple[Image, Points]) -> None:
    crop, landmarks = face
    target = warp_points(similarity(6.0, (0.02, -0.03)), opened(landmarks))
    drawn = ReferenceWarp(crop, landmarks).render(target)
    found = MediaPipeFaceDetector()(drawn)[0].landmarks / np.float32(SIZE)
    assert np.abs(found - target).mean() < 0.01
    assert float(mouth_opening(found)) == pytest.approx(float(mouth_opening(target)), abs=0.08)
    many = ReferenceWarp(crop, landmarks).render_many(np.stack([target, landmarks]))
    np.testing.assert_array_equal(many[0], drawn)
