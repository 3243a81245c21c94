"""The portrait engine: move a still photograph's lips and jaw to target landmarks, without a network.

    reference ──► thin-plate forward field F ──► backward map ──► cv2.remap ──► inner mouth ──► frame
                  (two: upper, lower lip)        (fixed point)     (two lips)    (bank)

Thin-plate splines through lips, jaw and pose points are linear in the displacements, and their centres are the
reference's own landmarks, so everything but one small matrix product is done once per portrait. The field F moves
reference points to target points; a frame needs the inverse, which the fixed point d(q) = F(q - d(q)) gives on a
coarse grid. Upper and lower lip have a field each: on a closed mouth they touch, and one smooth field cannot tear.

Nothing moves above the nose base, beside the face and at the crop's bottom: those pixels are the reference's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import MASK_TOP, lower_face_mask
from model.face.inner_mouth import TOOTH_LUMA, InnerMouthBank, LipCurves, inner_opening
from model.face.landmarks import CONTOUR, JAW, LEFT_EYE, NUM_LANDMARKS, RIGHT_EYE

Inner = Literal["bank", "flat", "none"]
Field = NDArray[np.float32]

_GRID: Final = 96
"""Cells across the crop in which fields are evaluated; 2.7 px at 256 px."""
_FIRST_ROW: Final = int(MASK_TOP * _GRID) - 2
_STEPS: Final = 6  # of the fixed point
_SMOOTHING: Final = 2e-5
"""Added to the kernel's diagonal: neighbours that are told different things compromise instead of folding."""

_STILL: Final = (0, 1, 2, 14, 15, 16, *range(27, 36), 39, 42)
_UPPER_LIP: Final = (48, 49, 50, 51, 52, 53, 54, 60, 61, 62, 63, 64)
_LOWER_LIP: Final = (48, 59, 58, 57, 56, 55, 54, 60, 67, 66, 65, 64)

_TOP_FADE: Final = 0.05
_SIDE_FADE: Final = 0.05
_BOTTOM_FADE: Final = 0.06
_NECK_MIN: Final = 0.05
_NECK_SLOPE: Final = 2.0
"""The skin below the jaw yields over at least `_NECK_MIN` crop units, and this many times the jaw's own way."""

_STRETCH: Final = 0.05
"""Change of opening (gap / width) over which the photograph's own inner mouth gives way to the bank's."""
_TEETH_SHOW: Final = 0.014
"""How far the upper teeth reach below the resting upper lip, crop units (3 mm on an adult)."""
_USUAL_WIDTH: Final = 0.235
"""Inner width of a usual mouth, crop units."""
_LUMA: Final = np.array((0.299, 0.587, 0.114), np.float32)

_LIP_EDGE: Final = 0.0055
"""Width of the soft edge between lip and inner mouth, crop units (1.4 px at 256 px)."""


class PortraitEngine:
    """One portrait, ready to be moved.

    Args:
        reference_crop: `(S, S, 3)` uint8 RGB, made by `model.face.alignment.crop_image`.
        reference_landmarks: `(68, 2)` float32, crop units.
        inner_mouths: What `inner="bank"` draws; may be None when that is never asked for.
    Raises:
        ShapeError: The crop is not a square RGB picture or the landmarks are not `(68, 2)`.
    """

    def __init__(
        self,
        reference_crop: NDArray[np.uint8],
        reference_landmarks: NDArray[np.float32],
        inner_mouths: InnerMouthBank | None = None,
    ) -> None:
        if reference_crop.ndim != 3 or reference_crop.shape != (*reference_crop.shape[:1] * 2, 3):
            raise ShapeError(f"reference crop has shape {reference_crop.shape}; expected (S, S, 3)")
        if reference_landmarks.shape != (NUM_LANDMARKS, 2):
            raise ShapeError(f"landmarks have shape {reference_landmarks.shape}; expected (68, 2)")
        self._crop = np.ascontiguousarray(reference_crop)
        self._size = reference_crop.shape[0]
        self._landmarks = reference_landmarks.astype(np.float32)
        self._bank = inner_mouths
        self._lips = LipCurves.from_landmarks(self._landmarks)

        self._grid = _grid_points()
        self._upper = _ThinPlate(self._landmarks, (*_STILL, *JAW, *_UPPER_LIP), self._grid)
        self._lower = _ThinPlate(self._landmarks, (*_STILL, *JAW, *_LOWER_LIP), self._grid)
        self._outside = _distance_outside(self._landmarks)
        self._window = _fade_window(self._landmarks)

        mask = lower_face_mask(self._landmarks, self._size)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        self._rows = slice(int(rows[0]), int(rows[-1]) + 1)
        self._columns = slice(int(columns[0]), int(columns[-1]) + 1)
        self._opening = float(inner_opening(self._landmarks))
        self._skin = self._skin_colour()
        self._flat = self._dark_colour()
        self._light = self._tooth_luma() / TOOTH_LUMA
        self._teeth = self._place_teeth()
        self._teeth_shadow = self._shade_below_teeth()
        self._own_alpha = self._own_mouth_alpha()

    @property
    def size(self) -> int:
        """Side of crop and frames in pixels."""
        return self._size

    def render(self, target: NDArray[np.float32], *, inner: Inner = "bank") -> NDArray[np.uint8]:
        """Draw one frame.

        Args:
            target: `(68, 2)`, crop units; only jaw and lips are looked at.
            inner: Between the lips: "bank" a real inner mouth, "flat" one dark colour, "none" the reference's own
                pixels, stretched.
        Returns:
            `(S, S, 3)` uint8 RGB.
        Raises:
            ShapeError: `target` is not `(68, 2)`.
            ValueError: `inner` is "bank", but the engine was made without one.
        """
        if target.shape != (NUM_LANDMARKS, 2):
            raise ShapeError(f"target has shape {target.shape}; expected (68, 2)")
        if inner == "bank" and self._bank is None:
            raise ValueError(
                'inner="bank" needs an InnerMouthBank; give one to PortraitEngine or ask for "flat"'
            )
        offsets = (target - self._landmarks).astype(np.float32)
        window = self._window * self._neck_fade(offsets)
        upper = _invert(self._upper(offsets) * window)
        lower = _invert(self._lower(offsets) * window)
        lips = LipCurves.from_landmarks(target)
        frame = self._crop.copy()
        frame[self._rows, self._columns] = self._warp(
            _join_lips(upper, lower, lips, self._grid), self._rows, self._columns
        )
        self._draw_mouth(frame, upper, lower, lips, target, inner)
        return frame

    def render_many(
        self, targets: Iterable[NDArray[np.float32]], *, inner: Inner = "bank"
    ) -> NDArray[np.uint8]:
        """`render` for each of `targets` `(T, 68, 2)` -> `(T, S, S, 3)`."""
        return np.stack([self.render(target, inner=inner) for target in targets])

    # --- fields ---------------------------------------------------------------------------------------------

    def _neck_fade(self, offsets: Field) -> Field:
        """1 within the face, falling to 0 below the jaw; wider for a wider move, so that the neck never folds."""
        reach = max(_NECK_MIN, _NECK_SLOPE * float(np.abs(offsets[list(JAW)]).max()))
        fade: Field = 1.0 - _smoothstep(self._outside / reach)
        return fade[..., None]

    def _warp(self, displacement: Field, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """The reference seen through a backward displacement on the coarse grid, for a part of the frame."""
        map_x, map_y = self._maps(displacement, rows, columns)
        return np.asarray(
            cv2.remap(self._crop, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
            np.uint8,
        )

    def _maps(self, displacement: Field, rows: slice, columns: slice) -> tuple[Field, Field]:
        """Where each pixel comes from, in pixels."""
        size, cell = self._size, _GRID / self._size
        width, height = columns.stop - columns.start, rows.stop - rows.start
        to_grid = np.array(
            [
                (cell, 0.0, (columns.start + 0.5) * cell),
                (0.0, cell, (rows.start + 0.5) * cell - _FIRST_ROW),
            ]
        )
        fine = cv2.warpAffine(
            displacement,
            to_grid,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        fine *= -size
        map_x = fine[..., 0] + np.arange(columns.start, columns.stop, dtype=np.float32)
        map_y = fine[..., 1] + np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        return map_x, map_y

    # --- mouth ----------------------------------------------------------------------------------------------

    def _draw_mouth(
        self,
        frame: NDArray[np.uint8],
        upper: Field,
        lower: Field,
        lips: LipCurves,
        target: NDArray[np.float32],
        inner: Inner,
    ) -> None:
        """Draw lips with a sharp line between them, and what shows through the gap, into `frame`."""
        size = self._size
        rows, columns = self._mouth_box(lips)
        x = (np.arange(columns.start, columns.stop) + 0.5) / size
        y = ((np.arange(rows.start, rows.stop) + 0.5) / size)[:, None]
        top, bottom = lips.evaluate(x)
        gap = bottom - top

        span = _span(x, lips)
        joined = _join_lips(upper, lower, lips, self._grid)
        grid_span = _span(self._grid[0, :, 0].astype(np.float64), lips)[None, :, None].astype(
            np.float32
        )
        above = self._warp(joined + grid_span * (upper - joined), rows, columns).astype(np.float32)
        below = self._warp(joined + grid_span * (lower - joined), rows, columns).astype(np.float32)

        edge = max(_LIP_EDGE, 0.7 / size)
        side = np.clip((y - (top + bottom) / 2) / edge + 0.5, 0.0, 1.0)[..., None].astype(
            np.float32
        )
        picture = above + side * (below - above)

        # Coverage of the gap with a soft edge; none where the gap is thinner than the edge is soft.
        cover = np.clip(np.minimum(y - top, bottom - y) / edge + 0.5, 0.0, 1.0)
        cover = cover * np.clip(gap / edge, 0.0, 1.0) * (span > 0.999)
        if cover.any():
            v = np.clip((y - top) / np.maximum(gap, 1e-6), 0.0, 1.0)
            fill = self._inner_picture(
                rows,
                columns,
                x,
                v,
                (y - top).astype(np.float32),
                lips,
                float(inner_opening(target)),
                inner,
            )
            picture += cover[..., None].astype(np.float32) * (fill - picture)
        frame[rows, columns] = np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def _mouth_box(self, lips: LipCurves) -> tuple[slice, slice]:
        """Pixels around the gap in which the two lips are drawn apart."""
        size = self._size
        margin = 0.02
        top = min(lips.upper[:, 1].min(), lips.lower[:, 1].min()) - margin
        bottom = max(lips.upper[:, 1].max(), lips.lower[:, 1].max()) + margin
        rows = slice(
            max(self._rows.start, int(top * size)),
            min(self._rows.stop, int(np.ceil(bottom * size)) + 1),
        )
        columns = slice(
            max(self._columns.start, int((lips.left - _SPAN_FADE) * size) - 1),
            min(self._columns.stop, int(np.ceil((lips.right + _SPAN_FADE) * size)) + 2),
        )
        return rows, columns

    def _inner_picture(
        self,
        rows: slice,
        columns: slice,
        x: NDArray[np.float64],
        v: NDArray[np.float64],
        below_lip: Field,
        lips: LipCurves,
        opening: float,
        inner: Inner,
    ) -> Field:
        """What is seen between the lips `(h, w, 3)` float32.

        Args:
            rows, columns: The part of the frame.
            x: Columns' centres, crop units.
            v: 0 at the upper, 1 at the lower lip, `(h, w)`.
            below_lip: Distance from the upper lip `(h, w)`, crop units.
            lips: The target's inner lips.
            opening: The target's `inner_opening`.
            inner: As in `render`.
        """
        if inner == "flat":
            amount = float(_smoothstep(np.float32(opening / _STRETCH)))
            own = (
                self._own_picture(x, v, lips) if amount < 1 else np.zeros((*v.shape, 3), np.float32)
            )
            return np.asarray(own + np.float32(amount) * (self._flat - own), np.float32)
        if inner == "none":
            return self._own_picture(x, v, lips)
        # Hardly wider or narrower than in the photograph: its own pixels, a little stretched, are the best there are.
        if self._opening < _STRETCH:
            foreign = float(_smoothstep(np.float32((opening - self._opening) / (0.6 * _STRETCH))))
        else:
            foreign = float(_smoothstep(np.float32(abs(opening - self._opening) / _STRETCH)))
        if foreign <= 0.0:
            return self._own_picture(x, v, lips)
        fill = self._cavity(x, v, lips, opening)
        if self._teeth is not None:
            teeth = self._teeth[rows, columns]
            u = (x - lips.left) / max(lips.width, 1e-6)
            shade = 0.45 + 0.55 * _smoothstep(below_lip / 0.016)  # of the upper lip
            shade = shade * _smoothstep(((np.minimum(u, 1 - u) - 0.02) / 0.24).astype(np.float32))
            fill = fill * self._teeth_shadow[rows, columns, None]
            fill = fill + teeth[..., 3:] * (shade[..., None] * teeth[..., :3] - fill)
        if self._own_alpha is not None:
            alpha = self._own_alpha[rows, columns, None]
            fill = fill + alpha * (self._crop[rows, columns].astype(np.float32) - fill)
        if foreign < 1.0:
            own = self._own_picture(x, v, lips)
            fill = own + np.float32(foreign) * (fill - own)
        return np.asarray(fill, np.float32)

    def _own_picture(
        self, x: NDArray[np.float64], v: NDArray[np.float64], lips: LipCurves
    ) -> Field:
        """The reference's own inner mouth, stretched to the target's form."""
        size = self._size
        own_x = self._lips.left + (x - lips.left) * self._lips.width / max(lips.width, 1e-6)
        top, bottom = self._lips.evaluate(own_x)
        own_y = top + v * (bottom - top)
        return np.asarray(
            cv2.remap(
                self._crop,
                np.broadcast_to((own_x * size - 0.5).astype(np.float32), v.shape).copy(),
                (own_y * size - 0.5).astype(np.float32),
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.float32,
        )

    def _cavity(
        self, x: NDArray[np.float64], v: NDArray[np.float64], lips: LipCurves, opening: float
    ) -> Field:
        """The bank's inner mouth of this form, in this photograph's light."""
        assert self._bank is not None
        patch = self._bank.blend(opening, lips.width / max(self._lips.width, 1e-6))
        height, width = patch.shape[:2]
        u = np.clip((x - lips.left) / max(lips.width, 1e-6), 0.0, 1.0)
        map_x = np.broadcast_to((u * width - 0.5).astype(np.float32), v.shape).copy()
        map_y = (v * height - 0.5).astype(np.float32)
        picture = cv2.remap(patch, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(picture * np.float32(self._light), np.float32)

    def _place_teeth(self) -> Field | None:
        """Upper teeth of the bank in the skull of this face `(S, S, 4)`; None where the face shows its own."""
        own = float(_smoothstep(np.float32((self._opening - 0.04) / 0.04)))
        if self._bank is None or own >= 1.0:
            return None
        points = self._landmarks
        left, right = points[60], points[64]
        angle = float(np.arctan2(right[1] - left[1], right[0] - left[0]))
        middle = (points[62] + points[66]) / 2
        edge = np.array((middle[0], points[62, 1] + _TEETH_SHOW), np.float32)
        scale = float(np.clip(self._lips.width / _USUAL_WIDTH, 0.75, 1.25)) ** 0.5
        layer = self._bank.place_teeth(self._size, edge, angle, scale)
        layer[..., :3] *= np.float32(self._light)
        layer[..., 3] *= np.float32(1.0 - own)
        return layer

    def _shade_below_teeth(self) -> Field:
        """Factor `(S, S)` on what lies behind the upper teeth: they keep the light from it."""
        if self._teeth is None:
            return np.ones((self._size, self._size), np.float32)
        sigma = 0.007 * self._size
        blurred = cv2.GaussianBlur(self._teeth[..., 3], (0, 0), sigma)
        down = np.array([(1.0, 0.0, 0.0), (0.0, 1.0, sigma)])
        return np.asarray(
            1.0 - 0.65 * cv2.warpAffine(blurred, down, (self._size, self._size)), np.float32
        )

    def _own_mouth_alpha(self) -> Field | None:
        """Where the photograph itself shows the inner mouth `(S, S)`, 0 to 1; None for a shut mouth."""
        own = float(_smoothstep(np.float32((self._opening - 0.04) / 0.04)))
        if own <= 0.0:
            return None
        centres = (np.arange(self._size) + 0.5) / self._size
        top, bottom = self._lips.evaluate(centres)
        y = centres[:, None]
        depth = np.minimum(y - top, bottom - y)
        alpha = _smoothstep((depth / 0.008).astype(np.float32))
        inside = (centres > self._lips.left) & (centres < self._lips.right)
        return np.asarray(own * alpha * inside, np.float32)

    # --- colours --------------------------------------------------------------------------------------------

    def _skin_colour(self) -> Field:
        """Median colour of the cheeks `(3,)`."""
        points = self._landmarks
        centres = [(points[a] + points[b]) / 2 for a, b in ((3, 48), (13, 54), (2, 31), (14, 35))]
        radius = max(1, int(0.015 * self._size))
        samples = []
        for centre in centres:
            column, row = np.clip(
                (centre * self._size).astype(int), radius, self._size - radius - 1
            )
            samples.append(
                self._crop[
                    row - radius : row + radius + 1, column - radius : column + radius + 1
                ].reshape(-1, 3)
            )
        return np.median(np.concatenate(samples), axis=0).astype(np.float32)

    def _tooth_luma(self) -> float:
        """How bright teeth are in this photograph's light, 0 to 255.

        A least-squares fit to the teeth that 488 smiling portraits show; the whites of the eyes tell light from skin tone
        (residual 20, against 25 without the fit). Less than the fit, because an open mouth is darker than a smile.
        """
        canvas = np.zeros((self._size, self._size), np.uint8)
        for eye in (LEFT_EYE, RIGHT_EYE):
            corners = np.round(self._landmarks[list(eye)] * self._size - 0.5).astype(np.int32)
            cv2.fillPoly(canvas, [corners], 1)
        seen = self._crop[canvas > 0].astype(np.float32) @ _LUMA
        white = float(np.percentile(seen, 95)) if len(seen) else 154.0
        return 0.9 * (78.0 + 0.47 * float(self._skin @ _LUMA) + 0.26 * white)

    def _dark_colour(self) -> Field:
        """A dark red of this photograph's light `(3,)`: what a mouth without teeth looks like."""
        tint = np.array((1.0, 0.62, 0.6), np.float32)
        brightness = float(self._skin.mean())
        return (0.26 * brightness * tint).astype(np.float32)


_SPAN_FADE: Final = 0.03


class _ThinPlate:
    """Thin-plate interpolation from displacements at fixed centres to a fixed grid: one matrix.

    Args:
        landmarks: `(68, 2)`, the centres, crop units.
        indices: Which landmarks are centres. Those of `_STILL` never move and only hold the field.
        grid: `(h, w, 2)`, where the field is wanted.
    """

    def __init__(
        self, landmarks: NDArray[np.float32], indices: tuple[int, ...], grid: Field
    ) -> None:
        centres = landmarks[list(indices)].astype(np.float64)
        count = len(centres)
        system = np.zeros((count + 3, count + 3))
        system[:count, :count] = _kernel(centres[:, None] - centres[None]) + _SMOOTHING * np.eye(
            count
        )
        system[:count, count:] = np.concatenate([np.ones((count, 1)), centres], axis=1)
        system[count:, :count] = system[:count, count:].T
        moving = [i for i, index in enumerate(indices) if index not in _STILL]
        solution = np.linalg.inv(system)[:, moving]
        points = grid.reshape(-1, 2).astype(np.float64)
        basis = np.concatenate(
            [_kernel(points[:, None] - centres[None]), np.ones((len(points), 1)), points], axis=1
        )
        self._matrix = np.ascontiguousarray((basis @ solution).astype(np.float32))
        self._moving = [indices[i] for i in moving]
        self._shape = grid.shape

    def __call__(self, offsets: Field) -> Field:
        """Field `(h, w, 2)` for landmark displacements `(68, 2)`."""
        return (self._matrix @ offsets[self._moving]).reshape(self._shape)


def _kernel(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """r^2 log r, zero at zero."""
    squared = (difference**2).sum(axis=-1)
    value: NDArray[np.float64] = 0.5 * squared * np.log(np.maximum(squared, 1e-20))
    return value


def _grid_points() -> Field:
    """Grid nodes `(h, w, 2)` in crop units: columns 0 to `_GRID`, rows from `_FIRST_ROW` to `_GRID`."""
    y, x = np.mgrid[_FIRST_ROW : _GRID + 1, 0 : _GRID + 1].astype(np.float32) / _GRID
    return np.stack([x, y], axis=-1)


def _smoothstep(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(value, 0.0, 1.0)
    smooth: NDArray[np.float32] = t * t * (3.0 - 2.0 * t)
    return smooth


def _distance_outside(landmarks: NDArray[np.float32]) -> Field:
    """Distance of each grid node from the face contour, crop units; 0 within the face."""
    scale = 4
    contour = landmarks[list(CONTOUR)].copy()
    closed = np.concatenate([contour, [(contour[-1, 0], 0.0), (contour[0, 0], 0.0)]])
    side = _GRID * scale
    canvas = np.full((side * 3 // 2, side + 1), 255, np.uint8)
    cv2.fillPoly(canvas, [np.round(closed * side).astype(np.int32)], 0)
    distance = cv2.distanceTransform(canvas, cv2.DIST_L2, 5) / side
    picked = distance[_FIRST_ROW * scale : side + 1 : scale, 0 : side + 1 : scale]
    # The chin's true edge lies a little outside the landmarks.
    return np.maximum(cv2.GaussianBlur(picked, (0, 0), 1.0) - 0.012, 0.0).astype(np.float32)


def _fade_window(landmarks: NDArray[np.float32]) -> Field:
    """`(h, w, 1)`: 0 above the nose base, beside the face and at the bottom edge; 1 around the mouth."""
    mask = lower_face_mask(landmarks, 1024)
    columns = np.flatnonzero(mask.any(axis=0))
    left, right = columns[0] / 1024, (columns[-1] + 1) / 1024
    grid = _grid_points()
    x, y = grid[..., 0], grid[..., 1]
    # One cell of zeros inside the edge: the upsampled field then ends before it.
    cell = 1.0 / _GRID
    window = (
        _smoothstep((y - MASK_TOP - cell) / _TOP_FADE)
        * _smoothstep((x - left - cell) / _SIDE_FADE)
        * _smoothstep((right - cell - x) / _SIDE_FADE)
        * _smoothstep((1.0 - cell - y) / _BOTTOM_FADE)
    )
    return np.asarray(window, np.float32)[..., None]


def _invert(forward: Field) -> Field:
    """Backward displacement d with d(q) = F(q - d(q)), on the same grid.

    Args:
        forward: F `(h, w, 2)`, crop units, at grid nodes.
    """
    height, width = forward.shape[:2]
    columns = np.arange(width, dtype=np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    backward = forward
    for _ in range(_STEPS):
        backward = cv2.remap(
            forward,
            columns - _GRID * backward[..., 0],
            rows - _GRID * backward[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return np.asarray(backward, np.float32)


def _span(x: NDArray[np.float64], lips: LipCurves) -> NDArray[np.float64]:
    """1 between the mouth corners, falling to 0 beyond them `(N,)`: how far the two lips are apart things there."""
    beyond = np.maximum(np.maximum(lips.left - x, x - lips.right), 0.0)
    t = np.clip(1.0 - beyond / _SPAN_FADE, 0.0, 1.0)
    smooth: NDArray[np.float64] = t * t * (3 - 2 * t)
    return smooth


def _join_lips(upper: Field, lower: Field, lips: LipCurves, grid: Field) -> Field:
    """One field of two: the upper lip's above the mouth's line, the lower lip's below, blended over a band.

    The band widens away from the corners, where nothing tears and a step would show.
    """
    x = grid[0, :, 0].astype(np.float64)
    top, bottom = lips.evaluate(x)
    beyond = np.maximum(np.maximum(lips.left - x, x - lips.right), 0.0)
    half = 0.012 + (bottom - top) / 2 + 0.4 * beyond
    t = (grid[..., 1] - (top + bottom) / 2) / (2 * half) + 0.5
    weight = _smoothstep(t.astype(np.float32))[..., None]
    return upper + weight * (lower - upper)
