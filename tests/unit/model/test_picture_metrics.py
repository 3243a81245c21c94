from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.evaluation.metrics.pictures import (
    FINE_PX,
    FaceWindow,
    fine_sharpness,
    mouth_sharpness,
    psnr,
    ssim,
)
from model.face.alignment import TEMPLATE, crop_affine, warp_points
from model.face.average_face import AVERAGE_FACE

Image = NDArray[np.uint8]


@pytest.fixture
def picture() -> Image:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.uint8)


def test_psnr_is_the_textbooks(picture: Image) -> None:
    other = (picture // 2 + 4).astype(np.uint8)
    shifted = (other + 3).astype(np.uint8)
    assert psnr(other, shifted) == pytest.approx(20 * np.log10(255 / 3))
    assert psnr(picture, picture) == float("inf")


def test_only_the_mask_counts(picture: Image) -> None:
    mask = np.zeros((64, 64), bool)
    mask[40:] = True
    other = picture.copy()
    other[:20] = 0
    assert psnr(picture, other, mask) == float("inf")
    whole, inside = ssim(picture, other, mask)
    assert inside == pytest.approx(1.0, abs=1e-3)
    assert whole < 0.9


def test_blur_costs_ssim_and_sharpness(picture: Image) -> None:
    blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.0), np.uint8)
    assert ssim(picture, picture) == (pytest.approx(1.0), pytest.approx(1.0))
    assert ssim(picture, blurred)[0] < 0.8
    face = AVERAGE_FACE * 64
    assert mouth_sharpness(blurred, face) < 0.3 * mouth_sharpness(picture, face)


def test_pictures_of_two_sizes_are_refused(picture: Image) -> None:
    with pytest.raises(ShapeError, match="expected one"):
        psnr(picture, picture[1:])


@pytest.mark.parametrize(("face_px", "expected"), [(150, 150), (40, 96), (900, 256)])
def test_a_window_has_the_faces_own_size_within_limits(face_px: int, expected: int) -> None:
    face = AVERAGE_FACE * np.float32(face_px) + 20
    window = FaceWindow(np.stack([crop_affine(face)] * 3), np.stack([face] * 3))
    side = face_px * np.ptp(TEMPLATE[:, 0]) / np.ptp(AVERAGE_FACE[[36, 45], 0])
    assert window.size_px == pytest.approx(expected if expected != 150 else side, abs=6)
    assert window.mask.shape == (window.size_px, window.size_px)


def test_a_window_may_be_given_its_size() -> None:
    face = AVERAGE_FACE * np.float32(150) + 20
    window = FaceWindow(np.stack([crop_affine(face)] * 3), np.stack([face] * 3), crop_px=300)
    assert window.size_px == 300 and window.mask.shape == (300, 300)


def test_fine_sharpness_does_not_depend_on_where_the_face_stands() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    texture = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.uint8)
    moved = np.asarray(np.roll(texture, (17, 40), axis=(0, 1)), np.uint8)
    face = AVERAGE_FACE * np.float32(FINE_PX) + 30
    values = [
        fine_sharpness(picture, crop_affine(points), warp_points(crop_affine(points), points))
        for picture, points in ((texture, face), (moved, face + np.float32((40, 17))))
    ]
    assert values[0] == pytest.approx(values[1], rel=0.02)
    blurred = np.asarray(cv2.GaussianBlur(texture, (0, 0), 2.0), np.uint8)
    affine = crop_affine(face)
    assert fine_sharpness(blurred, affine, warp_points(affine, face)) < 0.3 * values[0]


def test_the_mask_covers_lips_and_chin_and_no_eyes() -> None:
    face = AVERAGE_FACE * np.float32(200)
    window = FaceWindow(np.stack([crop_affine(face)] * 2), np.stack([face] * 2))
    rows, columns = (AVERAGE_FACE[[51, 57, 8], ::-1] * window.size_px).astype(int).T
    assert window.mask[rows, columns].all()
    assert not window.mask[: window.size_px // 2].any()
    assert 0.05 < window.mask.mean() < 0.35
