"""Turns in depth: how far each part of a head lies before or behind the eyes, and what a turn does to it.

    landmarks ─▶ mean depth of the 68 points, of ears and crown ─▶ thin plate ─▶ depth of any point
    depth, yaw, pitch ─▶ displacement: the nose goes ahead, cheeks follow, ears lag

A photograph has no depth. The mean of many faces is near enough for turns of a few degrees, where an
error of a tenth of the nose moves it by less than half a percent of the face.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from model.face.landmarks import NOSE_TIP
from model.face.thin_plate import ramp

Points = NDArray[np.float32]

MEAN_DEPTH: Final = np.array(
    [
        *(-0.219, -0.243, -0.249, -0.240, -0.223, -0.184, -0.110, -0.049, -0.020),
        *(-0.049, -0.110, -0.184, -0.223, -0.240, -0.249, -0.243, -0.219),
        *(-0.005, 0.031, 0.060, 0.085, 0.097, 0.097, 0.085, 0.060, 0.031, -0.005),
        *(0.088, 0.124, 0.167, 0.175, 0.061, 0.088, 0.095, 0.088, 0.061),
        *(-0.011, 0.019, 0.026, 0.011, 0.019, 0.012, 0.011, 0.026, 0.019, -0.011, 0.012, 0.019),
        *(-0.020, 0.062, 0.081, 0.083, 0.081, 0.062, -0.020, 0.032, 0.050, 0.054, 0.050, 0.032),
        *(-0.013, 0.054, 0.059, 0.054, -0.013, 0.041, 0.046, 0.041),
    ],
    np.float32,
)
"""`(68,)`, crop units towards the viewer, 0 at the corners of the eyes: medians over 48 portraits by
MediaPipe's mesh, made symmetric."""

_OUTLINE: Final = ((0.5, 0.42), (0.42, 0.56), -0.30)
"""Hair and crown: middle and radii of an ellipse, crop units, and its depth."""
_BEHIND: Final = -0.33
"""Nothing that moves along lies deeper."""
_SMOOTHING: Final = 1e-4
_TURNED: Final = (0.08, 0.40)
"""A face that looks away by less than the first (nose tip off the middle of the contour, in half widths)
is frontal; at the second the far cheek is hardly seen."""
_LEAST_SHARE: Final = 0.35

EYES: Final = np.array((0.5, 0.3), np.float32)
"""What a head turns about, crop units."""


def face_depth(landmarks: Points) -> Points:
    """Depth of the 68 points of a face `(68, 2)`, crop units -> `(68,)`.

    A face that looks away gets less: its far cheek is a sliver that no turn can make whole.
    """
    left, right = landmarks[:5, 0].mean(), landmarks[12:17, 0].mean()
    aside = abs(float(landmarks[NOSE_TIP, 0] - (left + right) / 2) / max((right - left) / 2, 1e-6))
    away = (aside - _TURNED[0]) / (_TURNED[1] - _TURNED[0])
    share = 1.0 - (1.0 - _LEAST_SHARE) * ramp(away)
    return np.asarray(MEAN_DEPTH * np.float32(share), np.float32)


def head_depth(landmarks: Points, points: Points) -> Points:
    """Depth of `points` `(..., 2)` of a head whose face is `landmarks` `(68, 2)`, crop units -> `(...)`."""
    middle, radii, behind = _OUTLINE
    around = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    # the chin is the outline's own, the neck below it lies far back
    ring = np.stack([np.cos(around), np.sin(around)], axis=1) * radii * 1.25 + middle
    centres = np.concatenate([landmarks, ring])
    own = face_depth(landmarks)
    shallow = own[0] / MEAN_DEPTH[0]
    behind, deepest = behind * shallow, _BEHIND * shallow
    depths = np.concatenate([own, np.full(len(ring), behind)])
    spline = RBFInterpolator(centres, depths, kernel="thin_plate_spline", smoothing=_SMOOTHING)
    flat = spline(points.reshape(-1, 2))
    distance = np.linalg.norm((points.reshape(-1, 2) - middle) / radii, axis=1)
    share = np.clip((distance - 1.0) / 0.25, 0.0, 1.0)
    depth = np.maximum(flat * (1.0 - share) + behind * share, deepest)
    return depth.reshape(points.shape[:-1]).astype(np.float32)


def turn_in_depth(points: Points, depth: Points, yaw: float, pitch: float) -> Points:
    """What a turn moves points by.

    Args:
        points: `(..., 2)`, crop units.
        depth: Theirs `(...)`, crop units before the eyes.
        yaw: Radians, towards the picture's right.
        pitch: Radians, downwards.
    Returns:
        `(..., 2)`, crop units.
    """
    from_eyes = points - EYES
    across = from_eyes[..., 0] * (np.cos(yaw) - 1.0) + depth * np.sin(yaw)
    down = from_eyes[..., 1] * (np.cos(pitch) - 1.0) + depth * np.sin(pitch)
    return np.stack([across, down], axis=-1).astype(np.float32)
