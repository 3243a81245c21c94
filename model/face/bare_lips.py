"""The lips of a photograph whose mouth is open, without what is seen between them.

Landmarks miss a lip's edge by a pixel or two. In the photograph that does not show; moved, a rim of
teeth would stick to each lip, and the dark corners of a smile would stay as spots beside a mouth
that has shut. So the moved lips are taken from a picture in which the inner mouth, a little more
than the landmarks say, is continued from the lips around it.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.inner_mouth import LipCurves, inner_opening
from model.face.landmarks import OUTER_LIPS
from model.face.mouth_light import LUMA
from model.face.thin_plate import Field, ramp

_OPEN_FROM: Final = 0.04
_OPEN_TO: Final = 0.08
"""Openings (gap / width) between which a photograph begins to count as an open mouth."""
_CHANGE: Final = 0.04
"""Change of opening over which the photograph's own lips give way to bare ones."""
_RIM: Final = 0.005
"""How far beyond the landmarks the inner mouth may show, crop units."""
_WIDE_RIM: Final = 0.014
"""How far it may show where the picture says so, crop units."""
_CORNER: Final = 0.026
"""How far beyond the inner corners a smile is dark, crop units."""
_REACH: Final = 0.05
"""How far around the outer lips a picture is looked at, crop units."""
_DARK: Final = 0.53
_PALE: Final = 0.5
"""What is darker than this share of the lips, or less red by this share and bright, is no lip."""
_SEAM: Final = 0.0032
_SEAM_DEPTH: Final = 0.27
_SEAM_GAP: Final = 0.008
"""Half-width and depth of the shadow between lips that meet, and the gap at which it is gone."""


class BareLips:
    """Lips of one portrait, ready to be moved.

    Args:
        crop: `(S, S, 3)` uint8 RGB.
        landmarks: `(68, 2)` float32, crop units.
    """

    def __init__(self, crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
        self._crop = crop
        self._opening = float(inner_opening(landmarks))
        self._own = ramp((self._opening - _OPEN_FROM) / (_OPEN_TO - _OPEN_FROM))
        self._bare = _without_inner_mouth(crop, landmarks) if self._own > 0 else crop

    def bareness(self, opening: float) -> float:
        """How much of the inner mouth is taken away for a target's opening, 0 to 1."""
        return self._own * ramp(abs(opening - self._opening) / _CHANGE)

    def picture(self, bareness: np.float32) -> NDArray[np.uint8]:
        """The crop `(S, S, 3)` with its inner mouth taken away by `bareness`."""
        if bareness <= 0:
            return self._crop
        if bareness >= 1:
            return self._bare
        weight = float(bareness)
        mixed = cv2.addWeighted(self._bare, weight, self._crop, 1.0 - weight, 0.0)
        return np.asarray(mixed, np.uint8)

    def seam(self, x: NDArray[np.float64], y: NDArray[np.float64], lips: LipCurves) -> Field:
        """Shadow between lips that meet, `(h, w)`, 0 to 1; an open mouth has none to move.

        Args:
            x: Columns `(w,)`, crop units.
            y: Rows `(h, 1)`, crop units.
            lips: The target's inner lips.
        """
        top, bottom = lips.evaluate(x)
        half = max(_SEAM, 0.7 / len(self._crop))
        line = np.exp(-(((y - (top + bottom) / 2) / half) ** 2))
        shut = np.clip(1.0 - (bottom - top) / _SEAM_GAP, 0.0, 1.0)
        # The line runs out a little beyond the inner corners.
        beyond = np.maximum(np.maximum(lips.left - x, x - lips.right), 0.0)
        shadow: Field = (
            _SEAM_DEPTH * line * shut * np.clip(1.0 - beyond / 0.005, 0.0, 1.0)
        ).astype(np.float32)
        return shadow


def _without_inner_mouth(
    crop: NDArray[np.uint8], landmarks: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """`crop` with its inner mouth continued from the lips."""
    size = len(crop)
    lips = LipCurves.from_landmarks(landmarks)
    outer = (landmarks[list(OUTER_LIPS)] * size).astype(np.float32)
    # Only around the lips: a face of 1000 px has a hundred times as many pixels as its inner mouth.
    low = np.clip(np.floor(outer.min(axis=0) - _REACH * size), 0, size - 1).astype(np.int32)
    high = np.clip(np.ceil(outer.max(axis=0) + _REACH * size), low + 1, size).astype(np.int32)
    part = crop[low[1] : high[1], low[0] : high[0]]
    x = (np.arange(low[0], high[0]) + 0.5) / size
    y = ((np.arange(low[1], high[1]) + 0.5) / size)[:, None]
    top, bottom = lips.evaluate(x)
    between = (x > lips.left) & (x < lips.right)
    inside = ((y > top) & (y < bottom) & between).astype(np.uint8)
    reach = max(1, round(_RIM * size))
    disc = _disc(reach)
    inner = np.asarray(cv2.dilate(inside, disc), np.uint8)

    outline = np.zeros(inside.shape, np.uint8)
    hull = cv2.convexHull(outer)[:, 0]
    cv2.fillConvexPoly(outline, np.round(hull).astype(np.int32) - low, 1)
    outline = np.asarray(cv2.dilate(outline, disc), np.uint8)
    colour = part.astype(np.float32)
    luma = colour @ LUMA
    redness = (colour[..., 0] - colour[..., 1:].mean(axis=-1)) / np.maximum(luma, 1.0)
    vermilion = (outline > 0) & (inner == 0)
    if vermilion.any():
        usual, red = np.median(luma[vermilion]), np.median(redness[vermilion])
        near = np.asarray(cv2.dilate(inside, _disc(_WIDE_RIM * size)), np.uint8)
        for point in (60, 64):
            place = np.round(landmarks[point] * size).astype(int) - low
            cv2.circle(near, (int(place[0]), int(place[1])), round(_CORNER * size), 1, -1)
        foreign = luma < _DARK * usual
        if red > 0.15:
            foreign |= (redness < _PALE * red) & (luma > usual)
        foreign &= (near > 0) & (outline > 0)
        inner |= np.asarray(cv2.dilate(foreign.astype(np.uint8), _disc(1)), np.uint8) & outline

    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    if not len(rows):
        return crop
    margin = 4 * reach
    missing = np.zeros((size, size), np.uint8)
    missing[low[1] : high[1], low[0] : high[0]] = inner
    box = (
        slice(max(0, low[1] + rows[0] - margin), low[1] + rows[-1] + margin + 1),
        slice(max(0, low[0] + columns[0] - margin), low[0] + columns[-1] + margin + 1),
    )
    bare = crop.copy()
    bare[box] = cv2.inpaint(
        np.ascontiguousarray(crop[box]),
        np.ascontiguousarray(missing[box]),
        reach,
        cv2.INPAINT_TELEA,
    )
    return bare


def _disc(radius: float) -> NDArray[np.uint8]:
    """A round brush, `radius` in pixels."""
    side = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
