"""The portrait engine: a photograph's lips and jaw move to target landmarks, without a network.

    reference ──► thin-plate field F ──► backward map ──► cv2.remap ──► inner mouth ──► frame
                  (two: upper, lower)    (fixed point)    (two lips)    (mouth_fill)

The splines' centres are the reference's own landmarks, so all but one small matrix product is done
once per portrait. F moves reference points to target points; a frame needs the inverse, which a
fixed point gives on a coarse grid. Upper and lower lip have a field each: in a shut mouth they
touch, and one smooth field cannot tear.

Nothing moves above the nose base, beside the face and at the crop's bottom: those pixels are the
reference's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import lower_face_mask
from model.face.bare_lips import BareLips
from model.face.field_reach import distance_outside, fade_window
from model.face.inner_mouth import InnerMouthBank, LipCurves, inner_opening
from model.face.landmarks import JAW, NUM_LANDMARKS
from model.face.mouth_fill import Gap, Inner, MouthFill
from model.face.photograph_look import PhotographLook
from model.face.thin_plate import (
    FIRST_ROW,
    GRID,
    Field,
    ThinPlate,
    grid_kernel,
    grid_points,
    invert,
    smoothstep,
)

Centres = NDArray[np.float64]

_STILL: Final = (0, 1, 2, 14, 15, 16, *range(27, 36), 39, 42)
# 68 to 71 are `LipCurves.side_knots`, appended to the landmarks.
_UPPER_LIP: Final = (48, 49, 50, 51, 52, 53, 54, 60, 61, 62, 63, 64, 68, 69)
_LOWER_LIP: Final = (48, 59, 58, 57, 56, 55, 54, 60, 67, 66, 65, 64, 70, 71)

_NECK_MIN: Final = 0.05
_NECK_SLOPE: Final = 2.0
"""Skin below the jaw yields over `_NECK_MIN` crop units, or this many times the jaw's own way."""

_LIP_EDGE: Final = 0.0055
"""Width of the soft edge between lip and inner mouth, crop units (1.4 px at 256 px)."""
_SPAN_FADE: Final = 0.03
"""Beyond the mouth corners the two lips become one piece of skin over this distance, crop units."""
_BOX_MARGIN: Final = 0.03


class PortraitEngine:
    """One portrait, ready to be moved.

    Args:
        reference_crop: `(S, S, 3)` uint8 RGB, made by `model.face.alignment.crop_image`.
        reference_landmarks: `(68, 2)` float32, crop units.
        inner_mouths: What `inner="bank"` draws; may be None when that is never asked for.
        match_look: Whether drawn mouths are as soft and as grainy as the crop. Not in films: what is measured
            changes a little from frame to frame, and mouths would shimmer.
    Attributes:
        look: What is matched, or None.
    Raises:
        ShapeError: The crop is not a square RGB picture, or the landmarks are not `(68, 2)`.
    """

    def __init__(
        self,
        reference_crop: NDArray[np.uint8],
        reference_landmarks: NDArray[np.float32],
        inner_mouths: InnerMouthBank | None = None,
        *,
        match_look: bool = True,
    ) -> None:
        size = reference_crop.shape[0]
        if reference_crop.shape != (size, size, 3):
            raise ShapeError(f"reference crop has shape {reference_crop.shape}; expected (S, S, 3)")
        _check_landmarks(reference_landmarks)
        self._crop = np.ascontiguousarray(reference_crop)
        self._size = size
        self._landmarks = np.asarray(reference_landmarks, np.float32)
        self._fill = MouthFill(self._crop, self._landmarks, inner_mouths)
        self._lips = BareLips(self._crop, self._landmarks)
        self.look: PhotographLook | None = None
        if match_look:
            self.look = PhotographLook.from_crop(self._crop, self._landmarks, self._fill.own_share)

        self._grid = grid_points()
        side_knots = LipCurves.from_landmarks(self._landmarks).side_knots
        self._points = np.concatenate([self._landmarks, side_knots])
        kernel = grid_kernel(self._points)
        self._upper = ThinPlate(self._points, kernel, _STILL, (*JAW, *_UPPER_LIP))
        self._lower = ThinPlate(self._points, kernel, _STILL, (*JAW, *_LOWER_LIP))
        self._outside = distance_outside(self._landmarks)
        self._window = fade_window(self._landmarks)

        mask = lower_face_mask(self._landmarks, size)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        self._rows = slice(int(rows[0]), int(rows[-1]) + 1)
        self._columns = slice(int(columns[0]), int(columns[-1]) + 1)

    @property
    def size(self) -> int:
        """Side of crop and frames in pixels."""
        return self._size

    @property
    def brightest_tooth(self) -> float:
        """Brightness, 0 to 255, that no tooth in this face exceeds."""
        return self._fill.brightest

    @property
    def own_teeth(self) -> Field | None:
        """The reference's own inner mouth `(S, S, 4)` RGB and alpha 0 to 1, standing in the skull; None = shut."""
        return self._fill.own_teeth

    @property
    def crop(self) -> NDArray[np.uint8]:
        """The reference crop `(S, S, 3)`."""
        return self._crop

    def render(self, target: NDArray[np.float32], *, inner: Inner = "bank") -> NDArray[np.uint8]:
        """Draw one frame.

        Args:
            target: `(68, 2)`, crop units; only jaw and lips are looked at.
            inner: Between the lips: "bank" a real inner mouth, "own" the teeth that the reference
                shows before one dark colour, "flat" that colour alone, "none" the reference's own
                pixels, stretched.
        Returns:
            `(S, S, 3)` uint8 RGB.
        Raises:
            ShapeError: `target` is not `(68, 2)`.
            ValueError: `inner` is "bank", but the engine was made without one.
        """
        return self.move(target).draw(inner)

    def move(
        self, target: NDArray[np.float32], seen: tuple[slice, slice] | None = None
    ) -> MovedFace:
        """Carry skin, lips and jaw to a target; what the gap shows is drawn later.

        Args:
            target: `(68, 2)`, crop units.
            seen: Rows and columns of which the skin is wanted; None = all.

        Raises:
            ShapeError: `target` is not `(68, 2)`.
        """
        _check_landmarks(target)
        lips = LipCurves.from_landmarks(target)
        offsets = np.concatenate([target, lips.side_knots]).astype(np.float32) - self._points
        window = self._window * self._neck_fade(offsets)
        upper = invert(self._upper(offsets) * window)
        lower = invert(self._lower(offsets) * window)
        fields = (upper, lower, self._join_lips(upper, lower, lips))
        opening, mouth = float(inner_opening(target)), self._mouth_box(lips)
        return MovedFace(self, fields, lips, opening, mouth, seen)

    def carry(self, backward: Field, seen: tuple[slice, slice] | None = None) -> NDArray[np.uint8]:
        """The reference seen through a field `(S, S, 3)`, or as far as it is `seen`."""
        skin = self._crop.copy()
        rows, columns = self._rows, self._columns
        if seen is not None:
            rows, columns = (
                slice(max(own.start, part.start), min(own.stop, part.stop))
                for own, part in zip((rows, columns), seen, strict=True)
            )
        if rows.start < rows.stop and columns.start < columns.stop:
            origin = (self._rows.start, self._columns.start)
            skin[rows, columns] = self._warp(backward, rows, columns, origin=origin)
        return skin

    def render_many(
        self, targets: Iterable[NDArray[np.float32]], *, inner: Inner = "bank"
    ) -> NDArray[np.uint8]:
        """`render` for each of `targets` `(T, 68, 2)` -> `(T, S, S, 3)`."""
        return np.stack([self.render(target, inner=inner) for target in targets])

    def _neck_fade(self, offsets: Field) -> Field:
        """1 in the face, 0 well below the jaw `(h, w, 1)`; wider for wider moves, lest it fold."""
        reach = max(_NECK_MIN, _NECK_SLOPE * float(np.abs(offsets[list(JAW)]).max()))
        fade: Field = 1.0 - smoothstep(self._outside / np.float32(reach))
        return fade[..., None]

    def _warp(
        self,
        backward: Field,
        rows: slice,
        columns: slice,
        picture: NDArray[np.uint8] | None = None,
        origin: tuple[int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """The reference, or another `picture`, seen through a field, for a part of the frame.

        OpenCV rounds a field's places as they lie to `origin` (row, column), the part's first pixel where it is None.
        """
        size, cell = self._size, GRID / self._size
        top, left = origin or (rows.start, columns.start)
        to_grid = np.array(
            [(cell, 0.0, (left + 0.5) * cell), (0.0, cell, (top + 0.5) * cell - FIRST_ROW)]
        )
        fine = cv2.warpAffine(
            backward,
            to_grid,
            (columns.stop - left, rows.stop - top),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        fine = np.asarray(fine[rows.start - top :, columns.start - left :], np.float32)
        map_x = np.arange(columns.start, columns.stop, dtype=np.float32) - size * fine[..., 0]
        map_y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - size * fine[..., 1]
        return np.asarray(
            cv2.remap(
                self._crop if picture is None else picture,
                map_x,
                map_y,
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.uint8,
        )

    def _join_lips(self, upper: Field, lower: Field, lips: LipCurves) -> Field:
        """One field of two: the upper lip's above the mouth's line, the lower lip's below it.

        They are blended over a band, which widens away from the corners, where nothing tears and a
        step would show.
        """
        x = self._grid[0, :, 0].astype(np.float64)
        top, bottom = lips.evaluate(x)
        beyond = np.maximum(np.maximum(lips.left - x, x - lips.right), 0.0)
        half = 0.012 + (bottom - top) / 2 + 0.4 * beyond
        position = (self._grid[..., 1] - (top + bottom) / 2) / (2 * half) + 0.5
        weight = smoothstep(position.astype(np.float32))[..., None]
        return upper + weight * (lower - upper)

    def draw_mouth(self, moved: MovedFace, inner: Inner) -> NDArray[np.uint8]:
        """See `MovedFace.draw_mouth`."""
        if inner == "bank" and not self._fill.has_bank:
            raise ValueError(
                'inner="bank" needs an InnerMouthBank; give one to PortraitEngine or ask for "flat"'
            )
        rows, columns = moved.mouth
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return np.zeros((0, 0, 3), np.uint8)  # the mouth lies outside what may be drawn
        lips = moved.lips
        picture = self.draw_lips(moved, 0.0) if inner == "none" else moved.lip_pixels.copy()
        x, y, top, bottom = moved.gap_edges
        height, edge = bottom - top, self._lip_edge

        # How much of each pixel the gap covers; nothing where it is thinner than its edge is soft.
        cover = np.clip(np.minimum(y - top, bottom - y) / edge + 0.5, 0.0, 1.0)
        cover *= np.clip(height / edge, 0.0, 1.0) * ((x > lips.left) & (x < lips.right))
        if cover.any():
            v = np.clip((y - top) / np.maximum(height, 1e-6), 0.0, 1.0)
            gap = Gap(rows, columns, x, v, (y - top).astype(np.float32), lips, moved.opening)
            fill = self._fill.paint(gap, inner)
            picture += cover[..., None].astype(np.float32) * (fill - picture)
            if inner == "bank" and self.look is not None:
                # The networks are shown clean mouths, as in their training.
                picture = self.look.apply(picture, cover.astype(np.float32), rows, columns)
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def draw_lips(self, moved: MovedFace, bare: float) -> Field:
        """The pixels of `moved.mouth` with a sharp line between the lips and no gap `(h, w, 3)`, 0 to 255.

        Args:
            moved: The carried face.
            bare: How much of the reference's own inner mouth is taken away, 0 to 1.
        """
        lips = moved.lips
        upper, lower, joined = moved.fields
        rows, columns = moved.mouth
        x, y, top, bottom = moved.gap_edges
        apart = _span(self._grid[0, :, 0], lips)[None, :, None]
        share = np.float32(bare)
        lip_picture = self._lips.picture(share)
        above, below = (
            self._warp(joined + apart * (lip - joined), rows, columns, lip_picture).astype(
                np.float32
            )
            for lip in (upper, lower)
        )
        side = np.clip((y - (top + bottom) / 2) / self._lip_edge + 0.5, 0.0, 1.0)
        picture: Field = above + side.astype(np.float32)[..., None] * (below - above)
        if share > 0:
            picture *= 1.0 - share * self._lips.seam(x, y, lips)[..., None]
        return picture

    def bareness(self, opening: float) -> float:
        """How much of the reference's own inner mouth shows no more at a target's opening, 0 to 1."""
        return self._lips.bareness(opening)

    @property
    def _lip_edge(self) -> float:
        """Width of the soft edge between lip and inner mouth, crop units; never under a pixel's."""
        return max(_LIP_EDGE, 0.7 / self._size)

    def _mouth_box(self, lips: LipCurves) -> tuple[slice, slice]:
        """Pixels around the gap in which the two lips are drawn apart."""
        size = self._size
        heights = np.concatenate([lips.upper[:, 1], lips.lower[:, 1]])
        top, bottom = heights.min() - _BOX_MARGIN, heights.max() + _BOX_MARGIN
        rows = slice(
            max(self._rows.start, int(top * size)),
            min(self._rows.stop, int(np.ceil(bottom * size)) + 1),
        )
        columns = slice(
            max(self._columns.start, int((lips.left - _SPAN_FADE) * size) - 1),
            min(self._columns.stop, int(np.ceil((lips.right + _SPAN_FADE) * size)) + 2),
        )
        return rows, columns


@dataclass(frozen=True, eq=False)
class MovedFace:
    """A portrait carried to one target, its gap not yet drawn.

    Attributes:
        engine: Whose portrait it is.
        fields: Backward maps of the upper lip, of the lower one, and of both joined.
        lips: The target's inner lips.
        opening: The target's gap over the mouth's inner width.
        mouth: Rows and columns of the crop in which the two lips are drawn apart.
        seen: Rows and columns of which the skin is wanted; elsewhere it is the portrait's. None = all.
    """

    engine: PortraitEngine
    fields: tuple[Field, Field, Field]
    lips: LipCurves
    opening: float
    mouth: tuple[slice, slice]
    seen: tuple[slice, slice] | None = None

    @cached_property
    def skin(self) -> NDArray[np.uint8]:
        """`(S, S, 3)` uint8 RGB; around the mouth's line the two lips run into each other."""
        return self.engine.carry(self.fields[-1], self.seen)

    @cached_property
    def gap_edges(self) -> tuple[Centres, Centres, Centres, Centres]:
        """Of `mouth`, crop units: centres of columns `(w,)` and rows `(h, 1)`, the gap's top and bottom `(w,)`."""
        rows, columns = self.mouth
        x = (np.arange(columns.start, columns.stop) + 0.5) / self.engine.size
        y = ((np.arange(rows.start, rows.stop) + 0.5) / self.engine.size)[:, None]
        return x, y, *self.lips.evaluate(x)

    @cached_property
    def lip_pixels(self) -> Field:
        """The two lips as what the gap shows is drawn between them `(h, w, 3)`; see `PortraitEngine.draw_lips`."""
        return self.engine.draw_lips(self, self.engine.bareness(self.opening))

    def draw(self, inner: Inner) -> NDArray[np.uint8]:
        """The frame `(S, S, 3)` uint8 RGB.

        Raises:
            ValueError: See `draw_mouth`.
        """
        frame, mouth = self.skin.copy(), self.draw_mouth(inner)
        if mouth.size:
            frame[self.mouth] = mouth
        return frame

    def draw_mouth(self, inner: Inner) -> NDArray[np.uint8]:
        """The pixels of `mouth`: lips with a sharp line between them, and what the gap shows.

        Returns:
            `(h, w, 3)` uint8 RGB; empty where the mouth lies outside what may be drawn.
        Raises:
            ValueError: `inner` is "bank", but the engine was made without one.
        """
        return self.engine.draw_mouth(self, inner)


def _check_landmarks(landmarks: NDArray[np.float32]) -> None:
    if landmarks.shape != (NUM_LANDMARKS, 2):
        raise ShapeError(f"landmarks have shape {landmarks.shape}; expected (68, 2)")


def _span(x: Field, lips: LipCurves) -> Field:
    """1 between the mouth corners, falling to 0 beyond them `(N,)`."""
    beyond = np.maximum(np.maximum(lips.left - x, x - lips.right), 0.0)
    return smoothstep((1.0 - beyond / _SPAN_FADE).astype(np.float32))
