"""How sharp and how grainy a photograph is, and that a drawn mouth follows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from model.face.average_face import AVERAGE_FACE
from model.face.photograph_look import PhotographLook

SIZE = 256


def portrait(blur: float = 0.8, grain: float = 0.0) -> np.ndarray:
    """A face of plain skin with dark eyes and lips."""
    picture = np.full((SIZE, SIZE, 3), (190, 150, 130), np.uint8)
    for points, colour in ((range(36, 42), 30), (range(42, 48), 30), (range(48, 60), 80)):
        shape = np.round(AVERAGE_FACE[list(points)] * SIZE).astype(np.int32)
        cv2.fillPoly(picture, [shape], (colour, colour // 2, colour // 2))
    noise = np.random.default_rng(0).normal(0, grain, (SIZE, SIZE, 1))
    soft = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), blur)
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def drawn(look: PhotographLook) -> np.ndarray:
    """A mouth with a hard edge, as it is drawn `(64, 64, 3)`."""
    mouth = np.full((64, 64, 3), 150, np.float32)
    cover = np.zeros((64, 64), np.float32)
    cover[16:48, 16:48] = 1
    mouth[16:48, 16:48] = 40
    return look.apply(mouth, cover, slice(96, 160), slice(96, 160))


def test_a_sharp_and_clean_photograph_changes_nothing() -> None:
    look = PhotographLook.from_crop(portrait(), AVERAGE_FACE)

    assert (look.blur_px, look.grain) == (0.0, None)
    assert set(np.unique(drawn(look))) == {40.0, 150.0}


@pytest.mark.parametrize("blur", [3.0, 5.0])
def test_a_mouth_is_as_soft_as_its_photograph(blur: float) -> None:
    look = PhotographLook.from_crop(portrait(blur), AVERAGE_FACE)

    assert look.blur_px == pytest.approx(np.sqrt(blur**2 - 1.6**2), rel=0.2)
    steepest = np.abs(np.diff(drawn(look)[32, :, 0])).max()
    assert steepest == pytest.approx(110 / (look.blur_px * np.sqrt(2 * np.pi)), rel=0.2)


@pytest.mark.parametrize("grain", [6.0, 9.0])
def test_a_mouth_is_as_grainy_as_its_photograph(grain: float) -> None:
    photograph = portrait(grain=grain)
    look = PhotographLook.from_crop(photograph, AVERAGE_FACE)

    def noise(picture: np.ndarray) -> float:
        values = picture[..., 1].astype(np.float32)
        return float((values - cv2.GaussianBlur(values, (0, 0), 1.5)).std())

    inside = drawn(look)[20:44, 20:44]
    assert noise(inside) == pytest.approx(noise(photograph[90:120, 60:80]), rel=0.5)
    # Grey: noise has no colour of its own.
    assert np.ptp(inside, axis=2).max() == pytest.approx(0.0, abs=1e-4)


def test_a_mouth_of_own_pixels_has_its_grain_already() -> None:
    assert PhotographLook.from_crop(portrait(grain=9.0), AVERAGE_FACE, own=1.0).grain is None
