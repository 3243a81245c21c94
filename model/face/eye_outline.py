"""Where an eye's lids are: coordinates of the eye's own, and curves along its margins.

    across: -1 at one corner of the eye, 1 at the other      down: 1 is an average eye's width

The landmarks give six points an eye. The upper lid's margin is then found in the picture, as the
smooth line near them where bright skin turns into dark lashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, source_pixels
from model.face.landmarks import LEFT_EYE, RIGHT_EYE
from model.face.thin_plate import smoothstep

_Values = NDArray[np.float64]
Curve = NDArray[np.float32]
"""Heights over `ACROSS` `(65,)`, in `down`; negative above the corners."""

ACROSS: Final = np.linspace(-1.6, 1.6, 65, dtype=np.float32)
"""Where curves are sampled."""
_EYES: Final = (LEFT_EYE, RIGHT_EYE)
_BROWS: Final = (tuple(range(17, 22)), tuple(range(22, 27)))
_EYE_WIDTH: Final = 0.115
"""Of an average eye, crop units."""
_NARROWEST: Final = 0.1
"""Half an eye's width, at least."""
_INNER_REACH: Final = 1.2
_OUTER_REACH: Final = 1.12
"""The corner landmarks lie within the eye: the lids meet so much further from its middle."""

SAMPLE: Final = 0.0125
"""Rows of a search, `down` units."""
_BAND: Final = 5
"""Rows of skin and of lashes that are compared: 0.06 of an eye's width."""
_SEARCH: Final = (-0.22, 0.10)
"""Around the landmarks' curve."""
_HEIGHTS: Final = np.arange(-0.20, 0.081, 0.0125)
_SLOPES: Final = np.linspace(-0.1, 0.1, 9)
_BENDS: Final = np.linspace(-0.1, 0.1, 9)
_LIKELY: Final = -0.05
_SPREAD: Final = 0.10
_CANDLE: Final = 16.0
"""Added to the light, of 255, before its logarithm: noise in black is no contrast."""


@dataclass(frozen=True, eq=False)
class EyeOutline:
    """One eye of a photograph.

    Attributes:
        centre: Middle between the corners `(2,)`, pixels.
        axes: Columns are the units of `across` and `down` `(2, 2)`, pixels.
        nose: The sign of `across` towards the nose.
        brow: The brow's upper edge.
        upper: Upper edge of the lashes at the upper lid's margin.
        lower: The lower lid's margin.
        width: 1 in the middle of the eye, 0 where the lids have met.
    """

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]
    nose: int
    brow: Curve
    upper: Curve
    lower: Curve
    width: Curve

    @property
    def opening(self) -> float:
        """Mean distance of the lids between the corners, `down` units."""
        inside = np.abs(ACROSS) < 1
        return float((self.lower - self.upper)[inside].mean())

    def place(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels `(..., 2)` -> `across` and `down` `(..., 2)`."""
        return np.asarray((pixels - self.centre) @ np.linalg.inv(self.axes).T, np.float32)

    def pixels(self, across: NDArray[np.float32], down: NDArray[np.float32]) -> NDArray[np.float32]:
        """`across` and `down`, of one shape, -> pixels `(..., 2)`."""
        return np.asarray(self.centre + np.stack([across, down], -1) @ self.axes.T, np.float32)


def find_eye(picture: NDArray[np.uint8], landmarks: NDArray[np.float32], side: int) -> EyeOutline:
    """Find one eye's outline.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        landmarks: Of the face `(68, 2)`, pixels.
        side: 0 for the eye on the picture's left, 1 for the other.
    Raises:
        ShapeError: `landmarks` has another shape.
    """
    unit = _EYE_WIDTH * source_pixels(crop_affine(landmarks))
    points = landmarks[list(_EYES[side])]
    half = (points[3] - points[0]) / 2
    if np.linalg.norm(half) < _NARROWEST * unit:  # a head in profile hides this eye
        half = np.array((_NARROWEST * unit, 0.0))
    downwards = unit * np.array((-half[1], half[0])) / np.linalg.norm(half)
    axes = np.stack([half, downwards], axis=1).astype(np.float32)
    centre = ((points[0] + points[3]) / 2).astype(np.float32)
    blank = np.zeros_like(ACROSS)
    nose = 1 if side == 0 else -1
    eye = EyeOutline(centre, axes, nose, blank, blank, blank, blank)

    reach = np.where(nose * ACROSS > 0, _INNER_REACH, _OUTER_REACH)
    width = np.clip(1.0 - (ACROSS / reach) ** 2, 0.0, None).astype(np.float32)
    own = eye.place(points)
    brow = eye.place(landmarks[list(_BROWS[side])])
    brow = brow[np.argsort(brow[:, 0])]
    above = np.interp(ACROSS, brow[:, 0], brow[:, 1]).astype(np.float32)
    lower = _arc(own[[4, 5]], width)
    upper = _margin(picture, eye, _arc(own[[1, 2]], width), width)
    return EyeOutline(centre, axes, nose, above, np.minimum(upper, lower), lower, width)


def log_light(picture: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural logarithm of the light of `picture` `(H, W, 3)` at pixels `(h, w, 2)` -> `(h, w)`."""
    last = np.array((picture.shape[1], picture.shape[0])) - 1
    low = np.clip(np.floor(points.min(axis=(0, 1))).astype(int) - 2, 0, last)
    high = np.maximum(np.ceil(points.max(axis=(0, 1))).astype(int) + 3, low + 1)
    grey = cv2.cvtColor(picture[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    where = points - np.float32(0.5) - low.astype(np.float32)
    seen = cv2.remap(
        grey.astype(np.float32),
        where[..., 0],
        where[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    light: NDArray[np.float32] = np.log(seen + np.float32(_CANDLE))
    return light


def _arc(points: NDArray[np.float32], width: Curve) -> Curve:
    """The arc between the corners through two points `(2, 2)`."""
    share = np.interp(points[:, 0], ACROSS, width)
    first, second = points[:, 1] / np.maximum(share, 0.2)
    between = float(points[1, 0] - points[0, 0])
    slope = (second - first) / between if abs(between) > 0.05 else 0.0
    arc: Curve = width * (first + slope * (np.clip(ACROSS, -1, 1) - points[0, 0]))
    return arc.astype(np.float32)


def _margin(picture: NDArray[np.uint8], eye: EyeOutline, guess: Curve, width: Curve) -> Curve:
    """The line near `guess` where skin turns into lashes."""
    inside = np.abs(ACROSS) < 1
    half = _BAND // 2 + 1
    offsets = np.arange(*_SEARCH, SAMPLE, dtype=np.float32)
    rows = offsets[0] + SAMPLE * np.arange(-half, len(offsets) + half, dtype=np.float32)
    down = guess[inside] + rows[:, None]
    light = log_light(picture, eye.pixels(np.broadcast_to(ACROSS[inside], down.shape), down))
    means = cv2.blur(light, (3, _BAND))
    edge = means[: -2 * half] - means[2 * half :]
    gain = np.clip(edge, 0.0, 0.5) / max(float(edge.std()), 0.05)
    gain -= 0.5 * ((offsets[:, None] - _LIKELY) / _SPREAD) ** 2
    parabolas = make_parabolas(ACROSS, _HEIGHTS, _SLOPES, _BENDS)
    scores = score_curves(gain, offsets[0], parabolas[:, inside])
    line: Curve = guess + parabolas[scores.argmax()] * smoothstep(width / 0.3)
    return line


def make_parabolas(
    x: NDArray[np.float32], heights: _Values, slopes: _Values, bends: _Values
) -> NDArray[np.float32]:
    """All parabolas of these heights in the middle, slopes and bends at `x` `(w,)` -> `(N, w)`."""
    grid = np.stack(np.meshgrid(heights, slopes, bends, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid @ np.stack([np.ones_like(x), x, x**2]), np.float32)


def score_curves(
    gain: NDArray[np.float32], first: float, curves: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean of `gain` `(h, w)`, whose rows lie `SAMPLE` apart from `first` on, along `curves` `(N, w)` -> `(N,)`."""
    rows = np.clip(np.rint((curves - first) / SAMPLE).astype(int), 0, len(gain) - 1)
    return np.asarray(gain[rows, np.arange(gain.shape[1])].mean(axis=1), np.float32)
