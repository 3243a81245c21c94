"""How far a head looks aside, from its 68 points alone."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.average_face import AVERAGE_FACE
from model.face.head_depth import MEAN_DEPTH

_BONE: Final = (0, 1, 2, 14, 15, 16, *range(27, 36), 36, 39, 42, 45)
"""Points that neither speech nor brows move."""


def head_angles(landmarks: NDArray[np.float32]) -> tuple[float, float]:
    """Yaw and pitch of a face `(68, 2)` in any unit: degrees, towards the picture's right and downwards.

    A mean head is fitted by an affine camera; its first two axes say how the head stands. Good to some five
    degrees up to 60, which is enough to tell a portrait from a profile.
    """
    rows = list(_BONE)
    body = np.column_stack([AVERAGE_FACE[rows], MEAN_DEPTH[rows]]).astype(np.float64)
    body -= body.mean(axis=0)
    seen = landmarks[rows].astype(np.float64)
    seen -= seen.mean(axis=0)
    camera = np.linalg.lstsq(body, seen, rcond=None)[0].T  # (2, 3)
    # The nearest scaled rotation: rows of equal length at right angles.
    left, _, right = np.linalg.svd(camera, full_matrices=False)
    across, down = left @ right
    towards = np.cross(across, down)  # the viewer's direction in the head's own axes
    yaw = np.degrees(np.arctan2(-towards[0], towards[2]))
    pitch = np.degrees(np.arcsin(np.clip(-towards[1], -1.0, 1.0)))
    return float(yaw), float(pitch)
