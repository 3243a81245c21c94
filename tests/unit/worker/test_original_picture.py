"""A picture that is shrunk is also kept as large as it was sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.pictures import accept_image

LIMITS = IntakeLimits()


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    red = Image.linear_gradient("L").rotate(90).resize((width, height))
    green = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, green, Image.new("L", (width, height), 40)))


def test_a_picture_that_is_shrunk_is_kept_as_large_as_it_was_without_its_secrets(
    tmp_path: Path,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    exif[0x010E] = "where I live"
    gradient(3000, 2000).save(tmp_path / "upload", format="JPEG", exif=exif, quality=95)
    original = tmp_path / "original.jpg"

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS, original=original)

    assert (info.width, info.height, info.has_original) == (1280, 1920, True)
    with Image.open(original) as whole, Image.open(tmp_path / "input.png") as small:
        assert (whole.format, whole.size) == ("JPEG", (2000, 3000))
        assert not whole.getexif()
        assert whole.getpixel((500, 600)) == pytest.approx(small.getpixel((320, 384)), abs=4)
    assert b"where I live" not in original.read_bytes()


def test_a_picture_that_fits_is_kept_once(tmp_path: Path) -> None:
    gradient(900, 600).save(tmp_path / "upload", format="PNG")
    original = tmp_path / "original.jpg"

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS, original=original)

    assert not info.has_original
    assert not original.exists()
