"""The 68-point iBUG topology and its map from MediaPipe's mesh.

    0–16 face contour (3–13 jaw)      36–41 eye on the picture's left     48–59 outer lips
    17–26 brows                       42–47 eye on the picture's right    60–67 inner lips
    27–30 nose bridge, 31–35 nose base

`POSE` is what the upper half of the face shows, `CONTENT` (jaw and lips) is what audio completes (arXiv 2408.05416).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NUM_LANDMARKS: Final = 68

POSE: Final = (*range(0, 3), *range(14, 48))
"""37 points that audio does not move: contour ends, brows, nose, eyes."""
CONTENT: Final = (*range(3, 14), *range(48, 68))
"""31 points that audio completes: jaw, then lips."""

CONTOUR: Final = tuple(range(17))
JAW: Final = tuple(range(3, 14))
LEFT_EYE: Final = tuple(range(36, 42))
RIGHT_EYE: Final = tuple(range(42, 48))
LIPS: Final = tuple(range(48, 68))
OUTER_LIPS: Final = tuple(range(48, 60))
INNER_LIPS: Final = tuple(range(60, 68))
MOUTH_CORNERS: Final = (48, 54)

INNER_MOUTH_CORNERS: Final = (60, 64)
UPPER_INNER_LIP: Final = (61, 62, 63)
LOWER_INNER_LIP: Final = (67, 66, 65)
"""Each point faces the one at the same place of `UPPER_INNER_LIP`."""
UPPER_OUTER_LIP: Final = (49, 50, 51, 52, 53)
LOWER_OUTER_LIP: Final = (59, 58, 57, 56, 55)
"""Each point faces the one at the same place of `UPPER_OUTER_LIP`."""
CHIN: Final = (7, 8, 9)
CHIN_TIP: Final = 8
NOSE_TIP: Final = 30
OUTER_EYE_CORNERS: Final = (36, 45)
NOSE_AND_EYES: Final = tuple(range(27, 48))

MESH_TO_68: Final = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107),
    *(336, 296, 334, 293, 300),
    *(168, 197, 5, 4),
    *(98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144),
    *(362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
"""Vertex of MediaPipe's 468-point face mesh that stands for each of the 68 points."""


def _flip_permutation() -> tuple[int, ...]:
    pairs = [(i, 16 - i) for i in range(8)]
    pairs += [(17 + i, 26 - i) for i in range(5)]
    pairs += [(31, 35), (32, 34)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58)]
    pairs += [(60, 64), (61, 63), (65, 67)]
    permutation = list(range(NUM_LANDMARKS))
    for left, right in pairs:
        permutation[left], permutation[right] = right, left
    return tuple(permutation)


FLIP: Final = _flip_permutation()
"""Index permutation that a horizontal flip of the picture asks for."""


def flip_landmarks(landmarks: NDArray[np.float32], width: float = 1.0) -> NDArray[np.float32]:
    """Mirror landmarks as their picture is mirrored.

    Args:
        landmarks: `(..., 68, 2)`, x from 0 to `width`.
        width: Width of the picture in the landmarks' unit.
    """
    flipped = landmarks[..., FLIP, :].copy()
    flipped[..., 0] = width - flipped[..., 0]
    return flipped


def join_landmarks(pose: NDArray[np.float32], content: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole faces: pose points `(..., 37, 2)` and lips and jaw `(..., 31, 2)` -> `(..., 68, 2)`."""
    shape = np.broadcast_shapes(pose.shape[:-2], content.shape[:-2])
    face = np.empty((*shape, NUM_LANDMARKS, 2), np.float32)
    face[..., list(POSE), :] = pose
    face[..., list(CONTENT), :] = content
    return face


def mouth_width(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance between the mouth corners, `(..., 68, 2)` -> `(...)`, in the landmarks' unit."""
    left, right = MOUTH_CORNERS
    width: NDArray[np.float32] = np.linalg.norm(
        landmarks[..., right, :] - landmarks[..., left, :], axis=-1
    )
    return width


def lip_gap(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean distance between upper and lower inner lip at three places, `(..., 68, 2)` -> `(...)`."""
    upper = landmarks[..., UPPER_INNER_LIP, :]
    lower = landmarks[..., LOWER_INNER_LIP, :]
    gap: NDArray[np.float32] = np.linalg.norm(lower - upper, axis=-1).mean(axis=-1)
    return gap


def mouth_opening(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lip gap as a share of the mouth's width, `(..., 68, 2)` -> `(...)`."""
    width = np.maximum(mouth_width(landmarks), np.float32(1e-6))
    return np.divide(lip_gap(landmarks), width, dtype=np.float32)
