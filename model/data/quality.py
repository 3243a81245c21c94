"""Which tracks are good enough to learn from, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.tracks import FaceTrack, overlaps_larger
from model.face.alignment import source_pixels
from model.face.landmarks import NOSE_TIP, OUTER_EYE_CORNERS
from model.media.audio import FPS
from model.networks.sync_network import MARGIN, SyncNetwork

Reason = Literal[
    "no face",
    "too short",
    "beside a larger face",
    "too small",
    "turned away",
    "blurred",
    "sound does not match",
]
"""Why film was left out."""

IN_STEP: Final = 1
"""Offset of lips and sound, in frames, that is left as it is."""
_MAX_OFFSET: Final = 15
_FEWEST_FRAMES: Final = _MAX_OFFSET + 2 * MARGIN + 5
"""Shorter tracks cannot be measured against their sound."""


@dataclass(frozen=True)
class QualityLimits:
    """What a track must have.

    Attributes:
        min_s: Length in seconds.
        min_face_px: Side of the crop in pixels of the film.
        max_turn: See `turn`; 0.35 is about 40 degrees.
        min_sharpness: See `sharpness`; a face of 50 px enlarged to 128 has 0.012.
        min_confidence: Of the sync network that lips and sound belong together: 0.5 to 0.7 on
            GRID, 0.1 to 0.35 with another sentence's sound. 0 switches the check off.
        max_offset: Frames by which the sound may be moved to meet the lips.
    """

    min_s: float = 2.0
    min_face_px: float = 96.0
    max_turn: float = 0.35
    min_sharpness: float = 0.025
    min_confidence: float = 0.3
    max_offset: int = 10


def turn(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far a face looks to the side: the nose tip's distances to the outer eye corners compared.

    `(T, 68, 2)` -> `(T,)`, 0 frontal, 1 with the nose over an eye corner.
    """
    corners = landmarks[:, list(OUTER_EYE_CORNERS)]
    left, right = np.linalg.norm(corners - landmarks[:, NOSE_TIP, None], axis=-1).T
    aside: NDArray[np.float32] = np.abs(left - right) / np.maximum(left + right, 1e-6)
    return aside


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Share of fine detail in a crop's contrast: variance of its Laplacian by its own variance.

    Of `(S, S, 3)` uint8 RGB, about 128 pixels to a crop unit.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(float(grey.var()), 1.0))


def why_not(
    track: FaceTrack, affines: NDArray[np.float32], others: list[FaceTrack], limits: QualityLimits
) -> Reason | None:
    """What speaks against a track with crops `(T, 2, 3)`, pixels to crop units, before its pictures are cut.

    `others` are all tracks of the film. None for nothing.
    """
    # Without a face to compare with, the speaker is the one whom the camera shows largest.
    if overlaps_larger(track, (other for other in others if len(other) >= FPS)):
        return "beside a larger face"
    if np.median([source_pixels(affine) for affine in affines]) < limits.min_face_px:
        return "too small"
    if np.median(turn(track.landmarks)) > limits.max_turn:
        return "turned away"
    return None


def find_offset(
    network: SyncNetwork,
    log_mel: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    limits: QualityLimits,
) -> int | None:
    """By how many frames the lips are late; None when they do not belong to the sound.

    Of log-mel `(4 T, 80)` and landmarks `(T, 68, 2)`. 0 when they are in step to within `IN_STEP`, and
    for tracks too short to be measured.
    """
    if len(landmarks) < _FEWEST_FRAMES:
        return 0
    scores = network.sync_scores(log_mel, landmarks, _MAX_OFFSET)
    if scores.confidence < limits.min_confidence or abs(scores.offset_frames) > limits.max_offset:
        return None
    return scores.offset_frames if abs(scores.offset_frames) > IN_STEP else 0
