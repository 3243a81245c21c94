from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import (
    ANCHORS,
    MASK_TOP,
    TEMPLATE,
    crop_affine,
    crop_image,
    fit_similarity,
    invert_affine,
    jitter_affine,
    low_pass,
    lower_face_mask,
    pixel_affine,
    source_pixels,
    warp_points,
)
from model.face.landmarks import CONTENT, NUM_LANDMARKS

TURN = np.array([(0.9, -0.2, 13.0), (0.2, 0.9, -7.0)], np.float32)


def make_face(seed: int = 0) -> NDArray[np.float32]:
    """68 points in a 200 px picture whose anchors look like a face's."""
    rng = np.random.default_rng(seed)
    face = rng.uniform(20, 180, (NUM_LANDMARKS, 2)).astype(np.float32)
    face[list(ANCHORS)] = 200 * TEMPLATE + rng.normal(0, 1, (len(ANCHORS), 2))
    face[[0, 1, 2], 0], face[[14, 15, 16], 0] = 40, 160
    return face


def test_similarity_is_recovered() -> None:
    points = make_face()
    np.testing.assert_allclose(fit_similarity(points, warp_points(TURN, points)), TURN, atol=1e-3)


def test_anchors_land_on_the_template() -> None:
    face = make_face()
    moved = warp_points(TURN, face)
    there = warp_points(crop_affine(moved), moved)[list(ANCHORS)]
    assert np.abs(there - TEMPLATE).max() < 0.03


def test_crop_does_not_see_lips_or_jaw() -> None:
    face = make_face()
    talking = face.copy()
    talking[list(CONTENT)] += np.random.default_rng(1).normal(0, 20, (len(CONTENT), 2))
    np.testing.assert_array_equal(crop_affine(face), crop_affine(talking))


def test_crop_follows_the_face() -> None:
    face = make_face()
    moved = warp_points(TURN, face)
    np.testing.assert_allclose(
        warp_points(crop_affine(moved), moved), warp_points(crop_affine(face), face), atol=1e-4
    )


def test_there_and_back() -> None:
    face = make_face()
    affine = crop_affine(face)
    back = warp_points(invert_affine(affine), warp_points(affine, face))
    np.testing.assert_allclose(back, face, atol=1e-3)


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="68"):
        crop_affine(np.zeros((5, 2), np.float32))


def test_jitter_is_small_and_seeded() -> None:
    affine = crop_affine(make_face())
    one = jitter_affine(affine, np.random.default_rng(3))
    again = jitter_affine(affine, np.random.default_rng(3))
    np.testing.assert_array_equal(one, again)
    corners = np.array([(20, 20), (180, 180)], np.float32)
    shift = np.abs(warp_points(one, corners) - warp_points(affine, corners)).max()
    assert 0 < shift < 0.2


def test_crop_image_puts_pixels_where_points_go() -> None:
    face = make_face()
    image = np.zeros((200, 200, 3), np.uint8)
    affine = crop_affine(face)
    spot = np.array([101.0, 121.0], np.float32)  # corner shared by four white pixels
    image[120:122, 100:102] = 255
    crop = crop_image(image, affine, 400).astype(np.float64)
    assert crop.shape == (400, 400, 3)
    weight = crop[..., 0]
    ys, xs = np.mgrid[:400, :400] + 0.5
    centre = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum() / 400
    np.testing.assert_allclose(centre, warp_points(affine, spot), atol=0.5 / 400)


def test_mask_knows_pose_points_only() -> None:
    face = warp_points(crop_affine(make_face()), make_face())
    talking = face.copy()
    talking[list(CONTENT)] += 0.2
    mask = lower_face_mask(face, 32)
    np.testing.assert_array_equal(mask, lower_face_mask(talking, 32))
    assert mask.dtype == np.bool_ and mask.any() and not mask.all()
    assert not mask[: int(MASK_TOP * 32)].any()
    assert mask[-1].any()


def test_only_what_a_crop_sees_is_blurred_and_it_is_the_same_crop() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (200, 260, 3), np.uint8)
    for _ in range(40):
        scale, angle = np.exp(rng.uniform(-7.0, -3.5)), rng.uniform(-0.6, 0.6)
        turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
        linear = scale * turn
        shift = 0.5 - linear @ rng.uniform(-40, 280, 2)  # some look beyond the picture
        affine = np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)
        matrix = pixel_affine(affine, 48)
        whole = cv2.warpAffine(
            low_pass(image, source_pixels(matrix)),
            matrix,
            (48, 48),
            flags=cv2.INTER_CUBIC if source_pixels(matrix) < 1 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.testing.assert_array_equal(crop_image(image, affine, 48), whole)
