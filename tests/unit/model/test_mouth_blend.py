from __future__ import annotations

import cv2
import numpy as np
import pytest

from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import INNER_LIPS, LOWER_INNER_LIP, OUTER_LIPS
from model.face.mouth_blend import blend_mouth
from model.face.mouth_crop import network_affine
from model.face.mouth_light import no_brighter

SIZE = 400
WHOLE = np.eye(2, 3, dtype=np.float32)
CARRIED = np.full((SIZE, SIZE, 3), 90, np.uint8)
ALL = (slice(0, SIZE), slice(0, SIZE))


def opened(by: float) -> np.ndarray:
    face = AVERAGE_FACE.copy()
    face[[*LOWER_INNER_LIP, *range(55, 60)], 1] += by
    return face


def filled(points: np.ndarray) -> np.ndarray:
    inside = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(inside, [np.round(points * SIZE).astype(np.int32)], 1)
    return inside > 0


@pytest.mark.parametrize("side", [128, 256, 512])
def test_the_gap_is_drawn_and_all_beyond_the_lips_is_carried(side: int) -> None:
    target = opened(0.08)
    drawn = np.full((side, side, 3), 10.0, np.float32)
    blended = blend_mouth(CARRIED, ALL, SIZE, drawn, target, AVERAGE_FACE, WHOLE, 255.0)
    gap = filled(target[list(INNER_LIPS)])
    np.testing.assert_allclose(blended[cv2.erode(gap.astype(np.uint8), np.ones((3, 3))) > 0], 10.0)
    around = cv2.dilate(filled(target[list(OUTER_LIPS)]).astype(np.uint8), np.ones((9, 9)))
    np.testing.assert_allclose(
        blended[around == 0], 90.0, atol=0.5
    )  # a corner's feather ends softly
    np.testing.assert_array_equal(CARRIED, 90)


def test_a_mouth_that_its_source_shows_is_its_own() -> None:
    target = opened(0.08)
    drawn = np.full((128, 128, 3), 10.0, np.float32)
    np.testing.assert_array_equal(
        blend_mouth(CARRIED, ALL, SIZE, drawn, target, target, WHOLE, 255.0), 90.0
    )
    shares = [
        float(
            (
                90.0
                - blend_mouth(CARRIED, ALL, SIZE, drawn, opened(by), AVERAGE_FACE, WHOLE, 255.0)
            ).max()
        )
        for by in (0.0, 0.004, 0.008, 0.05)
    ]
    assert shares[0] == 0.0 and shares == sorted(shares) and shares[-1] == 80.0


def test_the_drawn_crop_lies_where_its_landmarks_say() -> None:
    """A ramp over crop units keeps its values, whatever the two sizes."""
    target = opened(0.08)
    centres = (np.arange(128, dtype=np.float32) + 0.5) / 128
    ramp = np.repeat(np.repeat(centres[None, :, None], 128, 0), 3, 2) * 200
    blended = blend_mouth(CARRIED, ALL, SIZE, ramp, target, AVERAGE_FACE, WHOLE, 255.0)
    x, y = ((target[62] + target[66]) / 2 * SIZE).astype(int)
    assert blended[y, x, 0] == pytest.approx((x + 0.5) / SIZE * 200, abs=0.3)


def test_a_crop_of_the_mouth_lies_where_its_transform_says() -> None:
    target = opened(0.08)
    affine = network_affine("mouth", target, AVERAGE_FACE)
    centres = (np.arange(96, dtype=np.float32) + 0.5) / 96
    x_of_face = (centres - affine[0, 2]) / affine[0, 0]
    ramp = np.repeat(np.repeat(x_of_face[None, :, None], 96, 0), 3, 2) * 200
    blended = blend_mouth(
        CARRIED, ALL, SIZE, ramp.astype(np.float32), target, AVERAGE_FACE, affine, 255.0
    )
    x, y = ((target[62] + target[66]) / 2 * SIZE).astype(int)
    assert blended[y, x, 0] == pytest.approx((x + 0.5) / SIZE * 200, abs=0.3)


def test_no_tooth_is_brighter_than_it_may_be() -> None:
    target = opened(0.08)
    drawn = np.full((128, 128, 3), 240.0, np.float32)
    blended = blend_mouth(CARRIED, ALL, SIZE, drawn, target, AVERAGE_FACE, WHOLE, 150.0)
    x, y = ((target[62] + target[66]) / 2 * SIZE).astype(int)
    assert 120 < blended[y, x, 0] < 150
    dark = np.full((128, 128, 3), 60.0, np.float32)
    kept = blend_mouth(CARRIED, ALL, SIZE, dark, target, AVERAGE_FACE, WHOLE, 150.0)
    assert kept[y, x, 0] == pytest.approx(60.0)


def test_what_is_dark_stays_as_it_is() -> None:
    colours = np.float32([[0, 0, 0], [-8, -3, 2], [60, 40, 30], [100, 100, 100]])
    np.testing.assert_allclose(no_brighter(colours, 150.0), colours, rtol=1e-5)


def test_the_source_s_own_teeth_keep_their_edges() -> None:
    target = opened(0.08)
    drawn = np.full((96, 96, 3), 120.0, np.float32)
    teeth = np.zeros((SIZE, SIZE, 4), np.float32)
    teeth[..., :3] = np.where(np.arange(SIZE) % 4 < 2, 140.0, 100.0)[None, :, None]
    x, y = ((target[62] + target[66]) / 2 * SIZE).astype(int)
    teeth[: y + 1, :, 3] = 1.0
    blended = blend_mouth(CARRIED, ALL, SIZE, drawn, target, AVERAGE_FACE, WHOLE, 255.0, teeth)
    inside = blended[y - 3 : y, x - 8 : x + 8, 0]
    assert np.ptp(inside, axis=1).min() > 25 and inside.mean() == pytest.approx(120.0, abs=3)
    np.testing.assert_allclose(blended[y + 4 : y + 7, x - 8 : x + 8], 120.0, atol=0.1)


def test_a_part_of_the_face_is_blended_as_the_whole() -> None:
    target, part = opened(0.08), (slice(200, 380), slice(90, 310))
    drawn = np.random.default_rng(0).uniform(0, 255, (96, 96, 3)).astype(np.float32)
    whole, small = (
        blend_mouth(CARRIED[there], there, SIZE, drawn, target, AVERAGE_FACE, WHOLE, 255.0)
        for there in (ALL, part)
    )
    np.testing.assert_allclose(small, whole[part], atol=1e-3)
