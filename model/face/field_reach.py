"""How far the portrait engine moves skin: whole around the mouth, nothing above the nose base and beside the face."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import MASK_TOP, lower_face_mask
from model.face.landmarks import CONTOUR
from model.face.thin_plate import FIRST_ROW, GRID, Field, grid_points, smoothstep

_TOP_FADE: Final = 0.05
_SIDE_FADE: Final = 0.05
_BOTTOM_FADE: Final = 0.06
"""Crop units over which the field grows from zero at the region's edges."""
_CHIN_MARGIN: Final = 0.012
"""The chin's true edge lies this far outside its landmarks, crop units."""


def distance_outside(landmarks: NDArray[np.float32]) -> Field:
    """Distance `(h, w)` of each grid node from the face, crop units; 0 within it."""
    fine = 4  # pixels a cell
    side = GRID * fine
    contour = landmarks[list(CONTOUR)]
    closed = np.concatenate([contour, [(contour[-1, 0], 0.0), (contour[0, 0], 0.0)]])
    # Half a crop more below: a chin that leaves the crop still has its distance.
    canvas = np.full((side * 3 // 2, side + 1), 255, np.uint8)
    cv2.fillPoly(canvas, [np.round(closed * side).astype(np.int32)], 0)
    distance = cv2.distanceTransform(canvas, cv2.DIST_L2, 5) / side
    nodes = distance[FIRST_ROW * fine : side + 1 : fine, 0 : side + 1 : fine]
    smooth = cv2.GaussianBlur(nodes, (0, 0), 1.0)
    return np.maximum(smooth - _CHIN_MARGIN, 0.0).astype(np.float32)


def fade_window(landmarks: NDArray[np.float32]) -> Field:
    """`(h, w, 1)`: 0 above the nose base, beside the face and at the bottom; 1 around the mouth."""
    fine = 1024
    columns = np.flatnonzero(lower_face_mask(landmarks, fine).any(axis=0))
    left, right = columns[0] / fine, (columns[-1] + 1) / fine
    grid = grid_points()
    x, y = grid[..., 0], grid[..., 1]
    cell = 1.0 / GRID  # one cell of zeros inside the edge: the upsampled field then ends before it
    window = (
        smoothstep((y - MASK_TOP - cell) / _TOP_FADE)
        * smoothstep((x - left - cell) / _SIDE_FADE)
        * smoothstep((right - cell - x) / _SIDE_FADE)
        * smoothstep((1.0 - cell - y) / _BOTTOM_FADE)
    )
    return np.asarray(window, np.float32)[..., None]
