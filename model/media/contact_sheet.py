"""Pictures tiled into one image file, to be looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import ShapeError


def write_contact_sheet(
    frames: Iterable[NDArray[np.uint8]], path: str | os.PathLike[str], columns: int
) -> None:
    """Tile pictures left to right, top to bottom into one image file.

    Args:
        frames: Pictures `(H, W, 3)`, uint8 RGB, all of one shape.
        path: Destination; the suffix chooses the format.
        columns: Pictures in a row.

    Raises:
        ShapeError: No pictures, or shapes differ.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    pictures = list(frames)
    if not pictures or any(
        picture.shape != pictures[0].shape or picture.ndim != 3 for picture in pictures
    ):
        raise ShapeError(
            "a contact sheet needs pictures of one shape (H, W, 3), got "
            f"{sorted({picture.shape for picture in pictures})}"
        )
    height, width = pictures[0].shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = picture
    Image.fromarray(sheet).save(path)
