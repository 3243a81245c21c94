"""A photograph whose head moves as another's does: how far it turns, nods and blinks, never how it looks.

    driver track ─▶ similarity to its own first frame, lids, brows ─▶ clamped, smoothed ─▶ HeadMotion
    photograph ─▶ forward field on a coarse grid ─▶ inverse ─▶ remap ─▶ frames, landmarks

Everything is relative: at the driver's first good frame the photograph is itself. The similarity is
taken between crops, so that the size and the shape of the driver's face cancel. The field is whole
over the head and fades to zero around it and towards the edges of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from model.errors import ShapeError
from model.face.alignment import (
    Affine,
    compose_affines,
    crop_affine,
    invert_affine,
    source_pixels,
    warp_points,
)
from model.face.breathing import Breath
from model.face.eye_outline import find_eye
from model.face.eyelids import Eyelids
from model.face.glances import Glances
from model.face.head_depth import face_depth, head_depth, turn_in_depth
from model.face.head_field import GRID, HeadField, HeadPose
from model.face.landmarks import LEFT_EYE, NUM_LANDMARKS, RIGHT_EYE
from model.face.picture_parts import box_around, edge_distance, edge_share
from model.face.resampling import DoubledPicture
from model.face.smoothing import smooth
from model.face.spectacles import wears_spectacles
from model.face.thin_plate import Field, smoothstep
from model.face.tracking import FaceTrack

_CENTRE: Final = (0.5, 0.42)
"""Middle of the head, crop units; what is said about shifts is said about this point."""
_RADII: Final = (0.40, 0.56)
"""Of an ellipse around the head from crown to chin."""
_WHOLE: Final = 1.05
_FADED: Final = 2.1
"""The field is whole up to so many radii and nothing from so many on."""

_EDGE: Final = 0.22
"""The field fades so far from the picture's edge, crop units."""

_MOST_CELL_PX: Final = 4

_MOST_TURN: Final = 0.22
"""Radians."""
_MOST_GROWTH: Final = 0.12
"""Of the logarithm of the scale."""
_MOST_SHIFT: Final = (0.16, 0.18)
"""Crop units. Further, and the picture around the head would fold."""
_MOST_LIFT: Final = 0.03
"""Of a brow, crop units."""
_WIDEST_EYE: Final = 1.2
"""Against the photograph's own."""
_USUAL_SHARE: Final = 0.7
"""A driver who blinks in the first frame is measured against this share of the usual opening."""
_UPPER_LID_SHARE: Final = 0.85

_CUTOFF_HZ: Final = 1.5
_BETA: Final = 20.0
_LID_CUTOFF_HZ: Final = 6.0
_LID_BETA: Final = 30.0

_BROWS: Final = (tuple(range(17, 22)), tuple(range(22, 27)))
_EYES: Final = (LEFT_EYE, RIGHT_EYE)
_LIDS: Final = (((37, 41), (38, 40)), ((43, 47), (44, 46)))
"""Upper and lower lid points that lie above one another."""
_FIXED: Final = (*range(17), *range(27, 37), 39, 42, 45, *range(48, 60))
"""Points that lids and brows do not move."""


@dataclass(frozen=True)
class HeadMotion:
    """Motion of a head relative to its first good frame, N frames; zero there.

    Attributes:
        turn: `(N,)` float32, radians, clockwise in the picture.
        growth: `(N,)` float32, logarithm of the scale.
        shift: `(N, 2)` float32, of the head's middle, crop units.
        lids: `(N, 2)` float32, opening of each eye as a share of its opening at rest.
        lift: `(N, 2)` float32, of each brow, crop units, downwards positive.
        angles: `(N, 2)` float32, radians: yaw towards the picture's right and pitch downwards, in
            depth; None = the head turns in the picture's plane alone.
        glance: `(N,)` float32, -1 to the picture's left to 1 to its right; None = the gaze stays.
        breath: `(N,)` float32, 0 breathed out to 1; None = the shoulders stay.
    """

    turn: NDArray[np.float32]
    growth: NDArray[np.float32]
    shift: NDArray[np.float32]
    lids: NDArray[np.float32]
    lift: NDArray[np.float32]
    angles: NDArray[np.float32] | None = None
    glance: NDArray[np.float32] | None = None
    breath: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.turn)

    def scaled(self, share: float) -> HeadMotion:
        """The head goes `share` of its way; lids and brows do what they did."""
        angles = None if self.angles is None else self.angles * np.float32(share)
        return replace(
            self,
            turn=self.turn * np.float32(share),
            growth=self.growth * np.float32(share),
            shift=self.shift * np.float32(share),
            angles=angles,
        )

    def similarity(self, index: int) -> Affine:
        """The head's way in frame `index`, crop units to crop units."""
        scale, angle = np.exp(self.growth[index]), self.turn[index]
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.array([(cosine, -sine), (sine, cosine)])
        centre = np.array(_CENTRE)
        shift = centre + self.shift[index] - linear @ centre
        return np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)


def relative_motion(track: FaceTrack, fps: float) -> HeadMotion:
    """What a driver's head does.

    Frames without the face are bridged in a straight line; behind a cut the motion begins anew.

    Args:
        track: The driver.
        fps: Frames per second of the track.
    """
    good = np.flatnonzero(track.found)
    affines = np.stack([crop_affine(points) for points in track.landmarks[good]])
    own = np.stack(
        [warp_points(a, points) for a, points in zip(affines, track.landmarks[good], strict=True)]
    )
    openings = np.stack([_eye_opening(own, eye) for eye in range(2)], axis=1)
    brows = np.stack([own[:, list(brow), 1].mean(axis=1) for brow in _BROWS], axis=1)
    usual = np.maximum(_USUAL_SHARE * np.median(openings, axis=0), 1e-4)

    values = np.empty((len(good), 8))
    for number, frame in enumerate(good):
        rest = int(np.flatnonzero(track.scene[good] == track.scene[frame])[0])
        way = compose_affines(affines[rest], invert_affine(affines[number]))
        values[number, 0] = np.arctan2(way[1, 0], way[0, 0])
        values[number, 1] = np.log(np.hypot(way[0, 0], way[1, 0]))
        values[number, 2:4] = way @ (*_CENTRE, 1.0) - _CENTRE
        closed = openings[rest] - openings[number]
        values[number, 4:6] = 1.0 - closed / np.maximum(openings[rest], usual)
        values[number, 6:8] = brows[number] - brows[rest]
    limits = np.array([_MOST_TURN, _MOST_GROWTH, *_MOST_SHIFT, 1.0, 1.0, _MOST_LIFT, _MOST_LIFT])
    bounded = limits * np.tanh(values / limits)
    bounded[:, 4:6] = np.clip(values[:, 4:6], 0.0, _WIDEST_EYE)

    times = np.arange(len(track.found))
    bridged = np.stack([np.interp(times, good, column) for column in bounded.T], axis=1)
    bridged = bridged.astype(np.float32)
    calm = smooth(bridged, fps, min_cutoff_hz=_CUTOFF_HZ, beta=_BETA)
    calm -= calm[good[0]]  # the smoothing looks ahead, and the rest is the rest
    lids = smooth(bridged[:, 4:6], fps, min_cutoff_hz=_LID_CUTOFF_HZ, beta=_LID_BETA)
    lids += 1.0 - lids[good[0]]
    return HeadMotion(calm[:, 0], calm[:, 1], calm[:, 2:4], lids, calm[:, 6:8])


class MovedPicture:
    """A photograph moved frame by frame: a `FrameSource` whose landmarks are known.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        landmarks: Its face `(68, 2)`, pixels.
        motion: Of the head.
        fps: Frames per second of the motion.
    Attributes:
        doubled: What moves of it, `region`.
        cell: Side of the cells that go one way, pixels.
        field: Where everything goes in a pose.
    Raises:
        ShapeError: `landmarks` has another shape.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        landmarks: NDArray[np.float32],
        motion: HeadMotion,
        fps: float,
    ) -> None:
        if landmarks.shape != (NUM_LANDMARKS, 2):
            raise ShapeError(f"landmarks have shape {landmarks.shape}; expected (68, 2)")
        self.num_frames = len(motion)
        self.height, self.width = int(image.shape[0]), int(image.shape[1])
        self.fps = fps
        self._image = image
        self._affine = crop_affine(landmarks)
        self._points = warp_points(self._affine, landmarks)
        # a face at the edge has little room: all of it moves less, so that it keeps its shape
        nearest = float(edge_distance(self._affine, image.shape, self._points).min())
        self._margin = float(np.clip(nearest, 1e-6, _EDGE))
        room = self._margin / _EDGE
        self._motion = motion if room == 1.0 else motion.scaled(room)
        # what this motion does not do needs no preparation
        self._eyelids = Eyelids(image, landmarks) if (motion.lids < 1).any() else None
        self._glances = None
        if motion.glance is not None:
            outlines = [find_eye(image, landmarks, side) for side in range(2)]
            self._glances = Glances(outlines, image.shape)
        self._breath = None if motion.breath is None else Breath.of(image.shape, landmarks)
        # A rim would bend with the brow behind it.
        self._lifts = 0.0 if motion.lift.any() and wears_spectacles(image, landmarks) else 1.0

        low = np.floor((np.array(_CENTRE) - _FADED * np.array(_RADII)) * GRID)
        high = np.ceil((np.array(_CENTRE) + _FADED * np.array(_RADII)) * GRID)
        y, x = np.mgrid[low[1] : high[1] + 1, low[0] : high[0] + 1].astype(np.float32) / GRID
        grid: Field = np.stack([x, y], axis=-1)
        self._rows, self._columns = self._region(grid)
        # the field bends no faster than its grid, so it need not be read at every pixel
        node_px = source_pixels(self._affine) / GRID
        self.cell = int(np.clip(node_px / 2, 1, _MOST_CELL_PX))
        self.field = HeadField(
            grid=grid,
            weight=self._share(grid),
            depth=None if motion.angles is None else head_depth(self._points, grid),
            upper_face=self._upper_face_matrix(grid),
            breath=None if self._breath is None else self._breath.ways,
            affine=self._affine,
            corner=(self._columns.start, self._rows.start),
            size=(
                self._columns.stop - self._columns.start,
                self._rows.stop - self._rows.start,
            ),
            cell=self.cell,
        )
        self.doubled = DoubledPicture(image[self._rows, self._columns])

    def read(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """Frames `start` to `stop`, `(H, W, 3)` uint8 RGB each."""
        for index in range(start, stop):
            yield self.move(self._image, index)

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns that can move."""
        return self._rows, self._columns

    def landmarks(self, index: int) -> NDArray[np.float32]:
        """The face of frame `index` `(68, 2)`, pixels."""
        turned = self._turn(self._points, face_depth(self._points), index)
        ways = turned + self._offsets(index)
        moved = warp_points(self._motion.similarity(index), self._points + ways)
        weight = self._share(self._points)
        return warp_points(
            invert_affine(self._affine), self._points + weight * (moved - self._points)
        )

    def _turn(self, points: Field, depth: Field, index: int) -> Field:
        """Ways of points of a turning head `(..., 2)`, crop units, before the way in the picture's plane."""
        if self._motion.angles is None:
            return np.zeros_like(points)
        yaw, pitch = self._motion.angles[index].tolist()
        return turn_in_depth(points, depth, yaw, pitch)

    def _share(self, points: Field) -> Field:
        """The field's share at points `(..., 2)` -> `(..., 1)`: 1 on the head, 0 far from it and at the edges."""
        edges = edge_share(self._affine, (self.height, self.width), points, self._margin)
        return _head_weight(points) * edges

    def _offsets(self, index: int) -> NDArray[np.float32]:
        """Ways of lids and brows `(68, 2)`, crop units, before the head's own."""
        offsets = np.zeros((NUM_LANDMARKS, 2), np.float32)
        for side in range(2):
            share = float(self._motion.lids[index, side]) - 1.0
            for upper, lower in _LIDS[side]:
                way = share * (self._points[upper] - self._points[lower])
                offsets[upper] = _UPPER_LID_SHARE * way
                offsets[lower] = -(1.0 - _UPPER_LID_SHARE) * way
            offsets[list(_BROWS[side]), 1] += self._lifts * self._motion.lift[index, side]
        return offsets

    def _upper_face_matrix(self, grid: Field) -> NDArray[np.float32]:
        """From `_offsets` to the field on the grid `(h * w, 68)`; whole at the points, nothing far off."""
        moving = [p for lids in _LIDS for pair in lids for p in pair] + [*_BROWS[0], *_BROWS[1]]
        # a frame around the face holds still as well
        edge = np.linspace(0, 1, 9)
        ring = [(x, y) for x in edge for y in (-0.05, 1.05)] + [
            (x, y) for x in (-0.05, 1.05) for y in edge
        ]
        centres = np.concatenate([self._points[[*moving, *_FIXED]], np.array(ring)])
        unit = np.zeros((len(centres), len(moving)))
        unit[: len(moving)] = np.eye(len(moving))
        near = ((grid >= -0.05) & (grid <= 1.05)).all(axis=-1)
        matrix = np.zeros((near.size, NUM_LANDMARKS), np.float32)
        spline = RBFInterpolator(centres, unit, kernel="thin_plate_spline", smoothing=1e-6)
        matrix[np.flatnonzero(near)[:, None], moving] = spline(grid[near])
        return matrix

    def _region(self, grid: Field) -> tuple[slice, slice]:
        """Pixels that can move."""
        corners = grid[[0, 0, -1, -1], [0, -1, 0, -1]]
        placed = warp_points(invert_affine(self._affine), corners)
        if self._breath is not None:
            rows, columns = self._breath.rows, self._breath.columns
            ends = [(columns.start, rows.start), (columns.stop - 1, rows.stop - 1)]
            placed = np.concatenate([placed, np.array(ends, np.float32)])
        return box_around(placed.min(axis=0), placed.max(axis=0) + 1, (self.height, self.width))

    def move(self, picture: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """A picture of the photograph's size and pose, whose head moves as in frame `index`.

        Args:
            picture: `(H, W, 3)` uint8 RGB: the photograph, or what was drawn into it.
            index: Frame of the motion.
        """
        frame = self.with_eyes(picture, index).copy()
        ground = frame[self._rows, self._columns]
        frame[self._rows, self._columns] = self.doubled.read(
            ground, self.field.ways(self.pose(index)), self.cell
        )
        return frame

    def with_eyes(self, picture: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """A picture as `move` takes it, whose eyes look and blink as in frame `index`, its head still.

        Returns:
            `(H, W, 3)`; `picture` itself where they do neither, and beside `eye_boxes` its very pixels.
        """
        if self._glances is not None and self._motion.glance is not None:
            picture = self._glances.look(picture, float(self._motion.glance[index]))
        lids = self._motion.lids[index]
        if self._eyelids is not None:
            picture = self._eyelids.close(picture, (1 - float(lids[0]), 1 - float(lids[1])))
        return picture

    @property
    def eye_boxes(self) -> list[tuple[slice, slice]]:
        """Rows and columns of a picture that `with_eyes` may change."""
        parts = [part for part in (self._glances, self._eyelids) if part is not None]
        return [box for part in parts for box in part.boxes]

    def pose(self, index: int) -> HeadPose:
        """What the head does in frame `index`."""
        offsets = self._offsets(index)
        for side, eye in enumerate(_EYES):
            if self._motion.lids[index, side] < 1:
                offsets[list(eye)] = 0  # skin slides over the eye; the field only widens it
        motion = self._motion
        yaw, pitch = (0.0, 0.0) if motion.angles is None else motion.angles[index].tolist()
        breath = np.float32(0) if motion.breath is None else motion.breath[index]
        return HeadPose(offsets, motion.similarity(index), yaw, pitch, breath)


def _head_weight(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The field's share at points `(..., 2)` in crop units -> `(..., 1)`: 1 on the head, 0 far from it."""
    radius = np.linalg.norm((points - _CENTRE) / _RADII, axis=-1, keepdims=True)
    return smoothstep(((_FADED - radius) / (_FADED - _WHOLE)).astype(np.float32))


def _eye_opening(faces: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Distance of the lids `(N, 68, 2)` -> `(N,)`."""
    gaps = [faces[:, lower, 1] - faces[:, upper, 1] for upper, lower in _LIDS[side]]
    return np.maximum(np.mean(gaps, axis=0), 0.0).astype(np.float32)
