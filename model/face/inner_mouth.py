"""Real inner mouths - teeth, tongue, darkness - that fill the gap between moved lips.

An entry is *rectified*: column u runs from the left inner corner to the right one, row v from the
upper inner lip to the lower one, so an entry fits any gap without showing its own lips:

      60 ─── u ───► 64                        ┌────────────┐ v = 0, upper inner lip
        ╲  teeth  ╱        ──rectify──►       │   teeth    │
          ╲─────╱                             └────────────┘ v = 1, lower inner lip

Entries stand on a grid of opening x width. A look-up blends the four around the wanted form with
weights that change continuously: nothing pops from one frame to the next. Before this cavity hang
the upper teeth. They sit in the skull and stand still while the lips uncover them, so they are one
picture in the face's own frame, not part of the entries.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError
from model.face.landmarks import (
    INNER_MOUTH_CORNERS,
    LOWER_INNER_LIP,
    UPPER_INNER_LIP,
)

PICTURE_NAME: Final = "inner_mouths.png"
TEETH_NAME: Final = "upper_teeth.png"
TABLE_NAME: Final = "inner_mouths.json"

TOOTH_LUMA: Final = 190.0
"""Brightness of teeth in the bank, 0 to 255: what 488 smiling portraits show on average."""
_FULLNESS: Final = 0.68
"""Lip gap half-way from a corner to the next landmark against the gap at that landmark.

Measured on MediaPipe's dense inner lips: 0.73 in 36 smiles, 0.66 in 179 frames of speech.
"""
_OVERSAMPLING: Final = 4

_UPPER_LIP: Final = (60, 61, 62, 63, 64)
_LOWER_LIP: Final = (60, 67, 66, 65, 64)


@dataclass(frozen=True)
class LipCurves:
    """The inner lips as two curves over x, which meet at the corners.

    Attributes:
        left, right: x of the inner corners, in the landmarks' unit.
        upper, lower: Knots `(7, 2)` with x rising; the second and the sixth lie between landmarks.
    """

    left: float
    right: float
    upper: NDArray[np.float64]
    lower: NDArray[np.float64]

    @classmethod
    def from_landmarks(cls, landmarks: NDArray[np.float32]) -> LipCurves:
        """Curves through the inner lips of `landmarks` `(68, 2)`."""
        upper = landmarks[list(_UPPER_LIP)].astype(np.float64)
        lower = landmarks[list(_LOWER_LIP)].astype(np.float64)
        upper, lower = _add_side_knots(upper, lower)
        for knots in (upper, lower):
            knots[:, 0] = np.maximum.accumulate(knots[:, 0]) + np.arange(7) * 1e-6
        return cls(float(upper[0, 0]), float(upper[-1, 0]), upper, lower)

    @property
    def side_knots(self) -> NDArray[np.float32]:
        """The knots between landmarks `(4, 2)`: upper left, upper right, lower left, lower right."""
        knots = np.concatenate([self.upper[[1, 5]], self.lower[[1, 5]]])
        return knots.astype(np.float32)

    @property
    def width(self) -> float:
        """Distance between the inner corners."""
        return self.right - self.left

    def evaluate(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Heights of upper and lower inner lip at `x` `(N,)`; beyond the corners, the corners'."""
        clipped = np.clip(x, self.left, self.right)
        upper = _hermite(self.upper, clipped)
        lower = _hermite(self.lower, clipped)
        middle = (upper + lower) / 2
        crossed = lower < upper
        return np.where(crossed, middle, upper), np.where(crossed, middle, lower)


def _add_side_knots(
    upper: NDArray[np.float64], lower: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Insert a knot half-way from each corner to its neighbour: mouths are fuller there than a line.

    Args:
        upper: `(5, 2)`, inner lip from corner to corner.
        lower: `(5, 2)`, likewise.
    Returns:
        Both as `(7, 2)`.
    """
    sides = []
    for corner, neighbour in ((0, 1), (4, 3)):
        middle = (upper + lower) / 2
        half = (upper[neighbour] - lower[neighbour]) / 2
        centre = (middle[corner] + middle[neighbour]) / 2
        sides.append((centre + _FULLNESS * half, centre - _FULLNESS * half))
    (upper_left, lower_left), (upper_right, lower_right) = sides
    return (
        np.concatenate([upper[:1], [upper_left], upper[1:4], [upper_right], upper[4:]]),
        np.concatenate([lower[:1], [lower_left], lower[1:4], [lower_right], lower[4:]]),
    )


def _hermite(knots: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic through `knots` `(7, 2)` at `x` `(N,)`; harmonic-mean tangents, so no overshoot."""
    step = np.diff(knots[:, 0])
    slope = np.diff(knots[:, 1]) / step
    tangent = np.empty(len(knots))
    product = slope[:-1] * slope[1:]
    total = slope[:-1] + slope[1:]
    tangent[1:-1] = np.where(product > 0, 2 * product / np.where(total == 0, 1, total), 0.0)
    tangent[0], tangent[-1] = slope[0], slope[-1]
    index = np.clip(np.searchsorted(knots[:, 0], x, side="right") - 1, 0, len(slope) - 1)
    h = step[index]
    t = (x - knots[index, 0]) / h
    value: NDArray[np.float64] = (
        (1 + 2 * t) * (1 - t) ** 2 * knots[index, 1]
        + t * (1 - t) ** 2 * h * tangent[index]
        + t**2 * (3 - 2 * t) * knots[index + 1, 1]
        + t**2 * (t - 1) * h * tangent[index + 1]
    )
    return value


def inner_opening(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean gap of the inner lips over their width, `(..., 68, 2)` -> `(...)`."""
    gap = (landmarks[..., LOWER_INNER_LIP, 1] - landmarks[..., UPPER_INNER_LIP, 1]).mean(axis=-1)
    left, right = INNER_MOUTH_CORNERS
    width = landmarks[..., right, 0] - landmarks[..., left, 0]
    opening: NDArray[np.float32] = np.maximum(gap, 0.0) / np.maximum(width, 1e-6)
    return opening


@dataclass(frozen=True)
class InnerMouthBank:
    """Rectified inner mouths on a grid of forms.

    Attributes:
        patches: `(O, W, h, w, 3)` uint8 RGB; row 0 lies at the upper lip.
        openings: `(O,)` rising, lip gap / inner width of each row of entries.
        widths: `(W,)` rising, inner width / that person's usual inner width of each column of
            entries.
        teeth: `(h, w, 4)` uint8 RGB and alpha, upper teeth in front view; the midline is the middle
            column.
        teeth_scale: Pixels of `teeth` per crop unit.
        teeth_edge: Row of the front teeth's biting edge in `teeth`, pixels.
    """

    patches: NDArray[np.uint8]
    openings: NDArray[np.float32]
    widths: NDArray[np.float32]
    teeth: NDArray[np.uint8]
    teeth_scale: float
    teeth_edge: float

    def blend(self, opening: float, width: float) -> NDArray[np.float32]:
        """The inner mouth for a form.

        Args:
            opening: Lip gap / inner width.
            width: Inner width / the person's usual inner width.
        Returns:
            `(h, w, 3)` float32, 0 to 255. Forms beyond the grid get its border.
        """
        row, row_weight = _locate(self.openings, opening)
        column, column_weight = _locate(self.widths, width)
        picture = np.zeros(self.patches.shape[2:], np.float32)
        for i, wi in ((row, 1 - row_weight), (row + 1, row_weight)):
            for j, wj in ((column, 1 - column_weight), (column + 1, column_weight)):
                if wi * wj > 0:
                    picture += np.float32(wi * wj) * self.patches[i, j]
        return picture

    def place_teeth(
        self, size: int, edge: NDArray[np.float32], angle: float, scale: float
    ) -> NDArray[np.float32]:
        """Hang the upper teeth into a crop.

        Args:
            size: Side of the crop in pixels.
            edge: `(2,)`, where the middle of the biting edge lies, crop units.
            angle: Roll of the mouth in the picture, radians, clockwise on the screen.
            scale: Size of these teeth against the usual.
        Returns:
            `(size, size, 4)` float32, RGB 0 to 255 and alpha 0 to 1.
        """
        # Only around the teeth, and finer than the crop: the picture is larger than its place.
        reach = scale * np.hypot(*self.teeth.shape[:2]) / self.teeth_scale / 2 + 2 / size
        first = np.clip(((edge - reach) * size).astype(int), 0, size)
        last = np.clip(((edge + reach) * size).astype(int) + 1, 0, size)
        width, height = (last - first).tolist()
        placed = np.zeros((size, size, 4), np.float32)
        if width == 0 or height == 0:
            return placed
        factor = size * _OVERSAMPLING * scale / self.teeth_scale
        cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
        x, y = (edge * size - first) * _OVERSAMPLING - 0.5
        middle = (self.teeth.shape[1] - 1) / 2
        matrix = np.array(
            [
                (cosine, -sine, x - cosine * middle + sine * self.teeth_edge),
                (sine, cosine, y - sine * middle - cosine * self.teeth_edge),
            ]
        )
        fine = cv2.warpAffine(
            self.teeth.astype(np.float32),
            matrix,
            (width * _OVERSAMPLING, height * _OVERSAMPLING),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,  # the teeth go on under the lip
        )
        fine[..., 3] /= 255.0
        placed[first[1] : last[1], first[0] : last[0]] = cv2.resize(
            fine, (width, height), interpolation=cv2.INTER_AREA
        )
        return placed

    def save(self, folder: Path) -> None:
        """Write one PNG and one JSON table into `folder`."""
        rows, columns, height, width = self.patches.shape[:4]
        sheet = self.patches.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
        folder.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(
            str(folder / PICTURE_NAME), sheet[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]
        ):
            raise OSError(f"could not write {folder / PICTURE_NAME}")
        bgra = cv2.cvtColor(self.teeth, cv2.COLOR_RGBA2BGRA)
        if not cv2.imwrite(str(folder / TEETH_NAME), bgra, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
            raise OSError(f"could not write {folder / TEETH_NAME}")
        table = {
            "openings": [round(float(value), 5) for value in self.openings],
            "widths": [round(float(value), 5) for value in self.widths],
            "teeth_scale": round(float(self.teeth_scale), 3),
            "teeth_edge": round(float(self.teeth_edge), 3),
        }
        (folder / TABLE_NAME).write_text(json.dumps(table, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> InnerMouthBank:
        """Read what `save` wrote.

        Raises:
            CheckpointError: A file is absent or the two do not belong together.
        """
        missing = [
            name for name in (PICTURE_NAME, TEETH_NAME, TABLE_NAME) if not (folder / name).exists()
        ]
        if missing:
            raise CheckpointError(
                f"{folder} holds no inner mouths: {', '.join(missing)} is missing. "
                "Make them with `python -m model.training.builders.inner_mouths`."
            )
        sheet = cv2.imread(str(folder / PICTURE_NAME))
        teeth = cv2.imread(str(folder / TEETH_NAME), cv2.IMREAD_UNCHANGED)
        if sheet is None or teeth is None or teeth.ndim != 3 or teeth.shape[2] != 4:
            raise CheckpointError(
                f"{folder}: {PICTURE_NAME} is not an RGB picture or {TEETH_NAME} not an RGBA one; "
                "expected what `InnerMouthBank.save` writes."
            )
        table = json.loads((folder / TABLE_NAME).read_text())
        rows, columns = len(table["openings"]), len(table["widths"])
        if sheet.shape[0] % rows or sheet.shape[1] % columns:
            raise CheckpointError(
                f"{folder / PICTURE_NAME} is {sheet.shape[1]} x {sheet.shape[0]} px; expected a "
                f"grid of {columns} x {rows} entries. The files come from different banks."
            )
        height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
        patches = sheet[..., ::-1].reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
        return cls(
            np.ascontiguousarray(patches).astype(np.uint8),
            np.array(table["openings"], np.float32),
            np.array(table["widths"], np.float32),
            np.asarray(cv2.cvtColor(teeth, cv2.COLOR_BGRA2RGBA), np.uint8),
            float(table["teeth_scale"]),
            float(table["teeth_edge"]),
        )


def _locate(grid: NDArray[np.float32], value: float) -> tuple[int, float]:
    """Index of the grid cell that holds `value` and the weight of its upper end."""
    if len(grid) == 1:
        return 0, 0.0
    index = int(np.clip(np.searchsorted(grid, value) - 1, 0, len(grid) - 2))
    weight = (value - grid[index]) / (grid[index + 1] - grid[index])
    return index, float(np.clip(weight, 0.0, 1.0))
