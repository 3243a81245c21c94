from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import crop_image, invert_affine, lower_face_mask, pixel_affine
from model.face.average_face import AVERAGE_FACE
from model.face.compositing import (
    Compositor,
    add_detail,
    band_limit,
    soft_mask,
)
from model.face.crop_colour import match_colour
from model.face.reference_warp import ReferenceWarp
from model.face.thin_plate import Field, grid_points

GENERATED = lower_face_mask(AVERAGE_FACE, 32)


def wide_open(drop: float = 0.1) -> NDArray[np.float32]:
    face = AVERAGE_FACE.copy()
    face[[55, 56, 57, 58, 59, 65, 66, 67], 1] += drop
    face[5:12, 1] += 0.8 * drop
    return face


FACES = np.stack([AVERAGE_FACE, wide_open()])


def picture(height: int = 300, width: int = 360) -> NDArray[np.uint8]:
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def placed(scale: float = 200.0, angle: float = 0.1) -> NDArray[np.float32]:
    """Picture pixels to crop units of a face `scale` pixels wide, turned a little."""
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return invert_affine(np.array([(cosine, -sine, 80.0), (sine, cosine, 40.0)], np.float32))


def crop_coordinates(affine: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Crop units of every pixel centre `(H, W, 2)`."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) + 0.5
    points = np.stack([x, y], axis=-1)
    return np.asarray(points @ affine[:, :2].T + affine[:, 2], np.float32)


@pytest.mark.parametrize("scale", [90.0, 200.0, 450.0])
def test_pixels_outside_the_soft_mask_are_the_pictures_own(scale: float) -> None:
    image = picture()
    compositor = Compositor(image, placed(scale), FACES, GENERATED)
    crop = np.full((128, 128, 3), 255.0, np.float32)
    frame = compositor.paste(crop)
    outside = compositor.alpha == 0
    assert outside.any() and not outside.all()
    np.testing.assert_array_equal(frame[outside], image[outside])
    assert (frame[compositor.alpha > 0.99] >= 252).all()


def test_the_soft_mask_lies_strictly_within_what_was_generated() -> None:
    image, affine = picture(), placed()
    alpha = Compositor(image, affine, FACES, GENERATED).alpha
    cells = np.floor(crop_coordinates(affine, image.shape)[alpha > 0] * 32).astype(int)
    assert GENERATED[cells[:, 1], cells[:, 0]].all()
    # strictly: a cell's eighth further out everything is still generated
    rows, columns = np.flatnonzero(GENERATED.any(1)), np.flatnonzero(GENERATED.any(0))
    inside = crop_coordinates(affine, image.shape)[alpha > 0] * 32
    assert inside[:, 1].min() > rows[0] + 0.1 and inside[:, 0].min() > columns[0] + 0.1
    assert inside[:, 0].max() < columns[-1] + 0.9


def test_the_soft_mask_holds_the_mouth_and_the_chins_whole_way() -> None:
    mask = soft_mask(FACES, GENERATED)
    for face in FACES:
        for point in [*range(48, 68), *range(6, 11)]:
            x, y = (face[point] * 512).astype(int)
            assert mask[min(y, 511), x] > 0.9, point
    closed_only = soft_mask(FACES[:1], GENERATED)
    assert (closed_only <= mask + 1e-6).all() and closed_only.sum() < mask.sum()


def test_a_crop_of_the_picture_itself_changes_hardly_anything() -> None:
    image, affine = picture(), placed(200.0, 0.0)
    compositor = Compositor(image, affine, FACES, GENERATED)
    frame = compositor.paste(crop_image(image, affine, 400))
    assert np.abs(frame.astype(int) - image).max() <= 8
    assert np.abs(frame.astype(int) - image)[compositor.alpha > 0].mean() < 1.0


NOTHING = np.zeros((0, 0, 3), np.uint8)
NOWHERE = (slice(0, 0), slice(0, 0))


def shifted(by_px: tuple[float, float], scale: float, angle: float = 0.0) -> Field:
    """The field of a face that goes `by_px` as one."""
    linear = placed(scale, angle)[:, :2]
    way = linear @ np.asarray(by_px, np.float32)
    return np.broadcast_to(way, grid_points().shape).astype(np.float32)


@pytest.mark.parametrize("scale", [90.0, 200.0, 450.0])
def test_skin_that_goes_nowhere_is_the_pictures_own_bit_for_bit(scale: float) -> None:
    image = picture()
    compositor = Compositor(image, placed(scale), FACES, GENERATED)
    still = shifted((0.0, 0.0), scale)
    np.testing.assert_array_equal(compositor.paste_mouth(NOTHING, NOWHERE, 256, still), image)


def test_skin_is_carried_by_its_field_in_the_pictures_own_pixels() -> None:
    image, angle = picture(), 0.1
    compositor = Compositor(image, placed(200.0, angle), FACES, GENERATED)
    frame = compositor.paste_mouth(NOTHING, NOWHERE, 256, shifted((3.0, -2.0), 200.0, angle))
    inside = compositor.alpha == 1
    expected = np.roll(image, (-2, 3), (0, 1))
    assert inside.sum() > 2000
    assert np.abs(frame[inside].astype(int) - expected[inside]).max() <= 1


def test_skin_half_way_between_two_pixels_keeps_its_texture() -> None:
    grain = np.random.default_rng(2).integers(0, 256, (300, 360, 3), np.uint8)
    image = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.7), np.uint8)
    compositor = Compositor(image, placed(200.0, 0.0), FACES, GENERATED)
    inside = compositor.alpha == 1

    def texture(frame: NDArray[np.uint8]) -> float:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        return float(np.var(cv2.Laplacian(grey, cv2.CV_32F)[inside]))

    kept = [
        texture(compositor.paste_mouth(NOTHING, NOWHERE, 256, shifted((by, by), 200.0)))
        / texture(image)
        for by in (0.0, 0.25, 0.5, 0.75)
    ]
    assert kept[0] == 1.0 and all(0.85 < x < 1.15 for x in kept)


def test_a_drawn_mouth_lies_where_its_part_of_the_crop_says() -> None:
    image, affine, size = picture(), placed(200.0, 0.1), 320
    compositor = Compositor(image, affine, FACES, GENERATED)
    part = (slice(190, 260), slice(110, 210))
    ramp = np.repeat((np.arange(100, dtype=np.float32) + 110.5)[None, :, None], 70, 0).repeat(3, 2)
    frame = compositor.paste_mouth(ramp * 0.5, part, size, shifted((0.0, 0.0), 200.0))
    at = crop_coordinates(affine, image.shape) * size
    well_in = (np.abs(at[..., 0] - 160) < 40) & (np.abs(at[..., 1] - 225) < 25)
    far_off = (np.abs(at[..., 0] - 160) > 52) | (np.abs(at[..., 1] - 225) > 37)
    assert np.abs(frame[well_in, 0] - at[well_in, 0] * 0.5).max() < 1.5
    np.testing.assert_array_equal(frame[far_off], image[far_off])


def test_a_face_beyond_the_pictures_edge_is_pasted_as_far_as_it_shows() -> None:
    image = picture(200, 200)
    affine = invert_affine(np.array([(300, 0, -60), (0, 300, -40)], np.float32))
    frame = Compositor(image, affine, FACES, GENERATED).paste(np.zeros((128, 128, 3), np.float32))
    assert frame.shape == image.shape and (frame[-1, 100] == 0).all()


def test_pasting_leaves_the_picture_itself_alone() -> None:
    image = picture()
    before = image.copy()
    Compositor(image, placed(), FACES, GENERATED).paste(np.zeros((128, 128, 3), np.float32))
    np.testing.assert_array_equal(image, before)


def test_a_picture_that_is_not_rgb_is_refused() -> None:
    with pytest.raises(ShapeError, match="expected \\(H, W, 3\\) uint8"):
        Compositor(np.zeros((8, 8), np.uint8), placed(), FACES, GENERATED)


def test_light_is_the_photographs_and_the_mouth_the_crops_own() -> None:
    warped = crop_image(picture(), placed(), 128)
    drifted = warped.astype(np.float32) + np.array([16.0, -12.0, 8.0], np.float32)
    drifted += 10.0 * np.linspace(-1, 1, 128, dtype=np.float32)[:, None, None]
    matched = match_colour(drifted, warped, AVERAGE_FACE)
    inside = slice(16, 112)  # a gradient does not end evenly at the border
    assert np.abs(matched - warped)[inside, inside].max() < 3.0

    mouth = slice(74, 79), slice(58, 70)
    drawn = warped.astype(np.float32)
    drawn[mouth] = 20.0
    np.testing.assert_allclose(match_colour(drawn, warped, AVERAGE_FACE)[mouth], 20.0, atol=0.5)


def test_a_crop_put_back_where_it_came_from_keeps_its_sharpness() -> None:
    grain = np.random.default_rng(2).integers(0, 256, (300, 360, 3), np.uint8)
    image, affine = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.7), np.uint8), placed(190.0, 0.0)
    crop = crop_image(image, affine, 256)
    frame = Compositor(image, affine, FACES, GENERATED).paste(crop)
    again = crop_image(frame, affine, 256)
    lips = (slice(170, 215), slice(100, 156))

    def sharpness(pixels: NDArray[np.uint8]) -> float:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
        return float(np.var(cv2.Laplacian(grey, cv2.CV_32F)[lips]))

    assert sharpness(again) > 0.8 * sharpness(crop)


def test_detail_comes_back_where_the_crop_has_lost_it() -> None:
    sharp = crop_image(picture(), placed(), 320)
    warped = ReferenceWarp(sharp, AVERAGE_FACE).render(AVERAGE_FACE)
    small = cv2.resize(sharp.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA)
    restored = add_detail(np.asarray(small, np.float32), warped, AVERAGE_FACE)
    assert restored.shape == (320, 320, 3)
    still = ~lower_face_mask(AVERAGE_FACE, 320)
    np.testing.assert_allclose(restored[still], sharp[still], atol=1e-2)
    upsampled = band_limit(sharp.astype(np.float32), 128)
    assert np.abs(upsampled - sharp)[still].mean() > 0.5  # else there was nothing to restore


def test_detail_stays_out_of_the_open_mouth() -> None:
    sharp = crop_image(picture(), placed(), 320)
    flat = np.full((128, 128, 3), 90.0, np.float32)
    target = wide_open()
    restored = add_detail(flat, ReferenceWarp(sharp, AVERAGE_FACE).render(target), target)
    middle = ((target[62] + target[66]) / 2 * 320).astype(int)
    inside = restored[middle[1] - 4 : middle[1] + 5, middle[0] - 10 : middle[0] + 11]
    np.testing.assert_allclose(inside, 90.0, atol=1e-3)
    assert np.abs(restored - 90.0).max() > 1.0


def test_pixel_and_unit_conventions_agree() -> None:
    """A pixel centre goes to the place that its crop units say."""
    affine = placed()
    matrix = pixel_affine(affine, 128)
    units = affine[:, :2] @ np.array((10.5, 20.5), np.float32) + affine[:, 2]
    pixels = matrix[:, :2] @ np.array((10.0, 20.0), np.float32) + matrix[:, 2]
    np.testing.assert_allclose(pixels + 0.5, units * 128, atol=1e-3)


def test_footages_mask_keeps_close_to_its_face() -> None:
    wide, close = soft_mask(FACES, GENERATED), soft_mask(FACES, GENERATED, close=True)
    assert (close <= wide + 1e-6).all() and close.sum() < 0.97 * wide.sum()
    chin = FACES[-1, 8]
    assert close[int(min(chin[1], 0.95) * 512) - 6, int(chin[0] * 512)] > 0.9
