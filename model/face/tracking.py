"""One face through a video: where it is in every frame, calmly cropped, and which frame shows it best.

    frames ──detector──▶ faces ──overlap──▶ track (gaps held) ──One-Euro──▶ crops, landmarks in crop units

A frame without the face keeps the last good one's landmarks. Nothing is smoothed over a cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import NoFaceError
from model.face.alignment import (
    crop_affine,
    crop_image,
    fit_similarity,
    invert_affine,
    warp_points,
)
from model.face.detection import MIN_FACE_PX, DetectedFace, FaceDetector, select_face
from model.face.landmarks import CONTENT, JAW, MOUTH_CORNERS, POSE, mouth_opening
from model.face.smoothing import smooth

_MOST_WAY: Final = 0.6
"""From frame to frame a face's centre moves less than this share of its size."""
_MOST_GROWTH: Final = 1.6
_CUT: Final = 40.0
"""Mean difference of two thumbnails, of 255, that only a cut makes."""
_THUMBNAIL_PX: Final = (32, 24)
_LONGEST_GAP_S: Final = 0.2
"""A face that is missed for longer is hidden or gone."""

_CROP_CUTOFF_HZ: Final = 2.0
_CROP_BETA: Final = 40.0
"""A head that turns moves its crop at 0.1 units a second and more: cutoff 6 Hz and more."""
_POINT_CUTOFF_HZ: Final = 5.0
_POINT_BETA: Final = 300.0

_RIGID: Final = (0, 1, 2, 14, 15, 16, *range(27, 36), 36, 39, 42, 45)
"""Points of bone, and of the ears' skin."""
_CORNERS_IN_CONTENT: Final = tuple(CONTENT.index(corner) for corner in MOUTH_CORNERS)
_JAW_SIDES: Final = np.clip((np.abs(np.arange(len(JAW)) - 5.0) - 2.0) / 3.0, 0.0, 1.0)
"""1 at the jaw's ends, 0 around the chin, which speech moves up and down."""
_TURN_NOISE: Final = 0.008
"""Of all rigid points together, crop units; a turn of 3 degrees is twice that."""
_MOST_OFFSET: Final = 0.12
"""Crop units."""

_SHARPNESS_PX: Final = 128
_NEAR_OPENING: Final = 0.25
_NEAR_POSE: Final = 0.4
"""Shares of the frames that stay in the choice of a reference."""
_NEAR_EXTREMES: Final = 0.6
"""Share of the frames, those nearest to its pose, in which the openest and the most shut mouth are looked for."""
_WORTH_SHOWING: Final = 0.04
_ALIKE: Final = 0.02
"""Openings (gap over width): from which a further frame shows something new, and within which the sharpest is taken."""


@dataclass(frozen=True)
class FaceTrack:
    """One face in N frames.

    Attributes:
        landmarks: `(N, 68, 2)` float32, pixels; those of the last good frame where it was not found,
            before the first good frame that one's.
        found: `(N,)`, whether the face was found.
        sharpness: `(N,)` float32, variance of the Laplacian of the face's crop; 0 where not found.
        scene: `(N,)` int64, counts up at every cut.
    """

    landmarks: NDArray[np.float32]
    found: NDArray[np.bool_]
    sharpness: NDArray[np.float32]
    scene: NDArray[np.int64]

    def hidden(self, fps: float) -> NDArray[np.bool_]:
        """Frames `(N,)` of gaps so long that the face cannot be where it was last."""
        hidden = ~self.found
        edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(np.int8), [0]])))
        for start, stop in edges.reshape(-1, 2):
            whole = (self.scene[max(start - 1, 0) : stop + 1] == self.scene[start]).all()
            if whole and stop - start <= _LONGEST_GAP_S * fps:
                hidden[start:stop] = False
        return hidden


def track_face(
    frames: Iterable[NDArray[np.uint8]], detector: FaceDetector, face_index: int = 0
) -> FaceTrack:
    """Follow one face.

    Args:
        frames: `(H, W, 3)` uint8 RGB each; one is held at a time.
        detector: Finds the faces.
        face_index: Which face of the first frame that shows any, and after a cut; 0 = the largest.
    Raises:
        NoFaceError: No frame shows a face.
        FaceIndexError: The first frame with faces has no such face.
        FaceTooSmallError: The face is too small in most of its frames.
    """
    found: list[DetectedFace | None] = []
    sharpness: list[float] = []
    scenes: list[int] = []
    last: DetectedFace | None = None
    scene, before = 0, None
    for frame in frames:
        small = thumbnail(frame)
        if before is not None and float(np.abs(small - before).mean()) > _CUT:
            scene, last = scene + 1, None
        before = small
        faces = detector(frame)
        if not faces:
            face = None
        elif not any(found):
            face = select_face(faces, face_index, min_face_px=0.0)
        elif last is None:  # behind a cut
            face = faces[min(face_index, len(faces) - 1)]
        else:
            face = follow(last, faces)
        last = face or last
        found.append(face)
        sharpness.append(_sharpness(frame, face) if face else 0.0)
        scenes.append(scene)
    good = [face for face in found if face is not None]
    if not good:
        raise NoFaceError(
            f"No face was found in {len(found)} frame(s) of the video; expected one frontal, "
            "unobstructed face. Send a video in which eyes, nose and mouth are visible."
        )
    # The size is judged once: a face may come nearer while it speaks.
    median = sorted(good, key=lambda face: face.size_px)[len(good) // 2]
    select_face([median], 0, MIN_FACE_PX)
    held, landmarks = good[0], []
    for face in found:
        held = face or held
        landmarks.append(held.landmarks)
    return FaceTrack(
        landmarks=np.stack(landmarks).astype(np.float32),
        found=np.array([face is not None for face in found]),
        sharpness=np.array(sharpness, np.float32),
        scene=np.array(scenes, np.int64),
    )


def follow(last: DetectedFace, faces: list[DetectedFace]) -> DetectedFace | None:
    """The face that `last` has become, or None when it is not among `faces`."""

    def way(face: DetectedFace) -> float:
        moved = face.landmarks.mean(axis=0) - last.landmarks.mean(axis=0)
        return float(np.linalg.norm(moved)) / max(last.size_px, 1.0)

    nearest = min(faces, key=way)
    growth = nearest.size_px / max(last.size_px, 1.0)
    alike = 1 / _MOST_GROWTH < growth < _MOST_GROWTH
    return nearest if alike and way(nearest) < _MOST_WAY else None


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A frame `(H, W, 3)` at `(24, 32, 3)`: what is compared to see a cut."""
    return cv2.resize(frame, _THUMBNAIL_PX, interpolation=cv2.INTER_AREA).astype(np.float32)


def _sharpness(frame: NDArray[np.uint8], face: DetectedFace) -> float:
    crop = crop_image(frame, crop_affine(face.landmarks), _SHARPNESS_PX)
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def smooth_crops(
    landmarks: NDArray[np.float32], fps: float, scene: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Crop transforms that follow a face without trembling.

    The similarity's four parameters are filtered: the crop's centre in units of the face, the
    logarithm of its scale, its angle.

    Args:
        landmarks: `(N, 68, 2)`, pixels.
        fps: Frames per second.
        scene: `(N,)`, see `FaceTrack`; None = no cuts.
    Returns:
        `(N, 2, 3)` float32, pixels to crop units.
    """
    out = np.stack([invert_affine(crop_affine(points)) for points in landmarks]).astype(np.float64)
    scale = np.hypot(out[:, 0, 0], out[:, 1, 0])
    unit = float(np.median(scale))
    centre = out @ np.array((0.5, 0.5, 1.0))
    angle = np.unwrap(np.arctan2(out[:, 1, 0], out[:, 0, 0]))
    parameters = np.column_stack([centre / unit, np.log(scale), angle]).astype(np.float32)
    calm = smooth_scenes(
        parameters, fps, scene, min_cutoff_hz=_CROP_CUTOFF_HZ, beta=_CROP_BETA
    ).astype(np.float64)
    size, turn = np.exp(calm[:, 2]), calm[:, 3]
    cosine, sine = size * np.cos(turn), size * np.sin(turn)
    linear = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], axis=-2)
    shift = calm[:, :2] * unit - linear @ np.array((0.5, 0.5))
    placed = np.concatenate([linear, shift[..., None]], axis=-1).astype(np.float32)
    return np.stack([invert_affine(affine) for affine in placed])


def crop_landmarks(
    landmarks: NDArray[np.float32],
    affines: NDArray[np.float32],
    fps: float,
    scene: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Landmarks of a video in crop units, the detector's noise calmed.

    Args:
        landmarks: `(N, 68, 2)`, pixels.
        affines: `(N, 2, 3)`, from `smooth_crops`.
        fps: Frames per second.
        scene: `(N,)`, see `FaceTrack`; None = no cuts.
    Returns:
        `(N, 68, 2)` float32.
    """
    cropped = np.stack(
        [warp_points(affine, points) for affine, points in zip(affines, landmarks, strict=True)]
    )
    return smooth_scenes(cropped, fps, scene, min_cutoff_hz=_POINT_CUTOFF_HZ, beta=_POINT_BETA)


def smooth_scenes(
    samples: NDArray[np.float32],
    fps: float,
    scene: NDArray[np.int64] | None,
    *,
    min_cutoff_hz: float,
    beta: float,
) -> NDArray[np.float32]:
    """`smoothing.smooth` of `(N, ...)`, each scene by itself."""
    if scene is None:
        return smooth(samples, fps, min_cutoff_hz=min_cutoff_hz, beta=beta)
    parts = np.split(samples, np.flatnonzero(np.diff(scene)) + 1)
    return np.concatenate(
        [smooth(part, fps, min_cutoff_hz=min_cutoff_hz, beta=beta) for part in parts]
    )


def choose_reference(
    landmarks: NDArray[np.float32], found: NDArray[np.bool_], sharpness: NDArray[np.float32]
) -> int:
    """Number of the frame that the others are drawn from: usual mouth, usual pose, sharp.

    Args:
        landmarks: `(N, 68, 2)`, crop units.
        found: `(N,)`, frames that may be chosen; at least one.
        sharpness: `(N,)`.
    """
    candidates = np.flatnonzero(found)
    opening = mouth_opening(landmarks[candidates])
    candidates = candidates[_nearest(np.abs(opening - np.median(opening)), _NEAR_OPENING)]
    pose = landmarks[:, list(POSE)]
    turn = np.abs(pose[candidates] - np.median(pose[found], axis=0)).mean(axis=(1, 2))
    candidates = candidates[_nearest(turn, _NEAR_POSE)]
    return int(candidates[np.argmax(sharpness[candidates])])


def choose_extremes(
    landmarks: NDArray[np.float32],
    found: NDArray[np.bool_],
    sharpness: NDArray[np.float32],
    reference: int,
) -> list[int]:
    """Numbers of further frames that show what the reference hides: lips shut, and teeth.

    Args:
        landmarks: `(N, 68, 2)`, crop units.
        found: `(N,)`, frames that may be chosen.
        sharpness: `(N,)`.
        reference: The chosen one; the others have its pose as nearly as may be.
    Returns:
        None, one or two; a frame whose mouth is open hardly more, or less, shows nothing new.
    """
    opening = mouth_opening(landmarks)
    pose = landmarks[:, list(POSE)]
    turn = np.abs(pose - pose[reference]).mean(axis=(1, 2))
    near = found & (turn <= np.quantile(turn[found], _NEAR_EXTREMES))
    candidates = np.flatnonzero(near)
    chosen = []
    for extreme in (opening[candidates].min(), opening[candidates].max()):
        if abs(extreme - opening[reference]) < _WORTH_SHOWING:
            continue
        alike = candidates[np.abs(opening[candidates] - extreme) < _ALIKE]
        chosen.append(int(alike[np.argmax(sharpness[alike])]))
    return chosen


def turn_offsets(
    landmarks: NDArray[np.float32], reference: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How far lips and jaw stand from where a similarity puts them when the head turns in depth.

    A head that turns or nods moves the sides of the jaw, and a little the mouth, against eyes and
    cheeks, which no similarity of the picture does (15 degrees: 6 px of 128 at the jaw's sides, 1 px
    at the mouth). How the one goes with the other is learnt from the video itself: the two main ways
    of the rigid points, against each point of the jaw and the middle of the mouth. Lips go sideways
    only and all alike, the chin not up or down: what the mouth says is not seen.

    Args:
        landmarks: The face of every frame `(N, 68, 2)`, crop units.
        reference: The face whose mouth is carried to all frames `(68, 2)`, crop units.
    Returns:
        `(N, 31, 2)` float32: offset of each `CONTENT` point in the reference's pose, crop units; near
        zero for a head that stays frontal.
    """
    own = reference[list(POSE)]
    aligned = np.stack(
        [
            warp_points(invert_affine(fit_similarity(own, face[list(POSE)])), face)
            for face in landmarks
        ]
    )
    ways = (aligned - reference).astype(np.float64)
    rigid = ways[:, list(_RIGID)].reshape(len(ways), -1)
    follower = ways[:, list(CONTENT)]
    follower[:, len(JAW) :] = follower[:, list(_CORNERS_IN_CONTENT)].mean(axis=1, keepdims=True)
    follower[:, len(JAW) :, 1] = 0.0
    follower[:, : len(JAW), 1] *= _JAW_SIDES
    flat = follower.reshape(len(ways), -1)

    centred = rigid - rigid.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    turn = centred @ directions.T  # (N, 2)
    # Ridge: turns as small as the detector's noise teach nothing.
    noise = len(ways) * _TURN_NOISE**2 * np.eye(len(directions))
    slope = np.linalg.solve(turn.T @ turn + noise, turn.T @ (flat - flat.mean(axis=0)))
    offsets = (rigid @ directions.T @ slope).reshape(follower.shape)
    return np.clip(offsets, -_MOST_OFFSET, _MOST_OFFSET).astype(np.float32)


def _nearest(distance: NDArray[np.float32], share: float) -> NDArray[np.int64]:
    """Indices of the smallest `share` of distances, at least three where there are as many."""
    count = max(min(3, len(distance)), round(share * len(distance)))
    return np.flatnonzero(distance <= np.sort(distance)[count - 1])
