"""The crops of a moving face: one similarity a frame, its tremble filtered away, without lag."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import crop_affine, invert_affine
from model.face.landmarks import NUM_LANDMARKS
from model.face.smoothing import smooth

_MIN_CUTOFF_HZ: Final = 1.5
_BETA: Final = 20.0
"""Hz of cutoff per crop side a second (also per radian and per unit of log scale)."""


def steady_crop_affines(landmarks: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """Transforms from picture pixels to crop units over one track of a face.

    Each frame's `crop_affine` is taken apart into place, size and angle of its square, these four
    are filtered over time (forwards and backwards: no lag), and put together again. A detector
    trembles by a fraction of a pixel; an unfiltered crop would tremble with it.

    Args:
        landmarks: `(T, 68, 2)`, pixels, one per frame without gaps.
        rate_hz: Frames a second.
    Returns:
        `(T, 2, 3)` float32.
    Raises:
        ShapeError: `landmarks` has another shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_LANDMARKS, 2) or len(landmarks) == 0:
        raise ShapeError(f"landmarks have shape {landmarks.shape}; expected (T, 68, 2), T > 0")
    squares = np.stack([invert_affine(crop_affine(frame)) for frame in landmarks])
    side = np.hypot(squares[:, 0, 0], squares[:, 1, 0])
    typical = float(np.median(side))
    centre = squares[:, :, :2].sum(axis=2) / 2 + squares[:, :, 2]
    angle = np.unwrap(np.arctan2(squares[:, 1, 0], squares[:, 0, 0]))
    states = np.column_stack([centre / typical, np.log(side / typical), angle]).astype(np.float32)
    states = smooth(states, rate_hz, min_cutoff_hz=_MIN_CUTOFF_HZ, beta=_BETA)
    scale = typical * np.exp(states[:, 2])
    cosine, sine = scale * np.cos(states[:, 3]), scale * np.sin(states[:, 3])
    linear = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)
    shift = states[:, :2] * typical - linear.sum(axis=2) / 2
    steady = np.concatenate([linear, shift[:, :, None]], axis=2).astype(np.float32)
    return np.stack([invert_affine(square) for square in steady])
