from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.face.resampling import DoubledPicture

Image = NDArray[np.uint8]
HEIGHT, WIDTH = 62, 85
SEEN = ("linear", "cubic", "doubled")


@pytest.fixture(scope="module")
def picture() -> Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.uint8)


def everywhere(way: tuple[float, float], cell: int) -> NDArray[np.float32]:
    size = (-(-HEIGHT // cell) + 2, -(-WIDTH // cell) + 2, 2)
    return np.broadcast_to(np.array(way, np.float32), size)


@pytest.mark.parametrize("cell", [1, 2, 3, 4])
def test_pixels_that_stay_are_the_frames_own(picture: Image, cell: int) -> None:
    seen = DoubledPicture(picture).read(picture, everywhere((0.0, 0.0), cell), cell)
    np.testing.assert_array_equal(seen, picture)


@pytest.mark.parametrize("cell", [1, 3, 4])
def test_whole_pixels_are_shifted_exactly(picture: Image, cell: int) -> None:
    seen = DoubledPicture(picture).read(picture, everywhere((3.0, -2.0), cell), cell)
    np.testing.assert_array_equal(seen[:-2, 3:], picture[2:, :-3])


def test_between_pixels_it_is_nearly_a_cubic_and_no_softer(portrait: Image) -> None:
    """Against what a finer camera saw a quarter of a pixel aside."""
    inner = (slice(4, -4), slice(4, -4))
    contrast, errors = dict.fromkeys(SEEN, 0.0), dict.fromkeys(SEEN, 0.0)
    for x, y in ((0, 1), (1, 1), (3, 1), (2, 1), (2, 2)):
        source, truth = (
            np.asarray(
                cv2.resize(p, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.uint8
            )
            for p in (portrait, np.roll(portrait, (-y, -x), axis=(0, 1)))
        )
        height, width = source.shape[:2]
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        at = (columns + np.float32(x / 4), rows + np.float32(y / 4))
        ways = np.full((height // 4 + 2, width // 4 + 2, 2), (-x / 4, -y / 4), np.float32)
        seen = {
            "linear": cv2.remap(source, *at, cv2.INTER_LINEAR),
            "cubic": cv2.remap(source, *at, cv2.INTER_CUBIC),
            "doubled": DoubledPicture(source).read(source, ways, 4),
        }
        for name, frame in seen.items():
            contrast[name] += float(cv2.Laplacian(frame[inner], cv2.CV_32F).var())
            errors[name] += float(((frame.astype(float) - truth)[inner] ** 2).mean())
    assert errors["doubled"] < 0.7 * errors["linear"] and errors["doubled"] < 1.3 * errors["cubic"]
    assert contrast["doubled"] > 0.98 * contrast["cubic"] > 1.2 * contrast["linear"]


def test_a_frame_that_differs_is_read_as_if_it_were_the_photograph(picture: Image) -> None:
    frames = []
    for low, high in (((20, 30), (40, 60)), ((0, 0), (3, 4)), ((HEIGHT - 2, 5), (HEIGHT, WIDTH))):
        frame = picture.copy()
        frame[low[0] : high[0], low[1] : high[1]] = 255 - frame[low[0] : high[0], low[1] : high[1]]
        frames.append(frame)
    ways = everywhere((0.4, 0.7), 2)
    doubled = DoubledPicture(picture)
    with ThreadPoolExecutor(2) as pool:  # threads keep their memory to themselves
        seen = list(pool.map(lambda frame: doubled.read(frame, ways, 2), frames * 4))
    for frame, read in zip(frames * 4, seen, strict=True):
        np.testing.assert_array_equal(read, DoubledPicture(frame).read(frame, ways, 2))
