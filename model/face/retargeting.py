"""Carry the lip and jaw motion of one face to another.

    target_t = reference + amplitude * scale * (motion_t - motion_anchor)

The anchor is the frame of the clip whose mouth is open just as far as the reference's own, so that
a reference that smiles with bare teeth can close its mouth as well as open it. Lip offsets scale
with the mouth's width, jaw offsets with the face's size. A head that nods or turns moves jaw and
lips in its crop, too: as much of their motion as the pose points tell is taken away first, or the
still portrait's jaw would slide. Afterwards the lip gap is set once more: two mouths of different
form do not shut under the same offsets.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.landmarks import (
    CHIN_TIP,
    JAW,
    LIPS,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    NUM_LANDMARKS,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
    mouth_opening,
    mouth_width,
)

_UPPER: Final = (*UPPER_OUTER_LIP, *UPPER_INNER_LIP)
_LOWER: Final = (*LOWER_OUTER_LIP, *LOWER_INNER_LIP)
"""Lower lip points, each below the upper one at the same place of `_UPPER`."""
_INNER_OF: Final = (0, 0, 1, 2, 2, 0, 1, 2)
"""Inner pair (left, middle, right) whose gap moves each column of the two rows above."""

_ENDS_OPEN: Final = 0.028
_NOSE_OPEN: Final = 0.006
"""How far contour ends and nose base go down, crop units, as the mouth opens by its own width.

That is speech, not a nod: of what a clip shows of it, so much is left to the jaw.
"""
_LIP_PAIRS: Final = ((50, 61), (51, 62), (52, 63), (58, 67), (57, 66), (56, 65))
"""Outer and inner point of a lip at the same place."""
_OUTER_OF: Final = {50: (49, 50), 51: (51,), 52: (52, 53), 58: (58, 59), 57: (57,), 56: (55, 56)}
"""Outer points that one of them carries along."""
_GROWTH: Final = (0.6, 1.7)
"""Least and greatest thickness of a lip against the reference's."""
_UPPER_SHARE: Final = 0.35
"""Part of a gap correction that the upper lip takes; the lower lip takes the rest."""
_EXCESS: Final = 0.03
"""Share of the mouth's width by which a lip gap may stay wider than the clip's widest."""
_FACE_TOP: Final = 27

_LEFT_ENDS: Final = (0, 1, 2)
_RIGHT_ENDS: Final = (14, 15, 16)
_NOSE_BASE: Final = (31, 32, 33, 34, 35)
_TURN: Final = np.array(
    [
        [(1.25, 1.20), (0.20, 0.20)],  # jaw's ends
        [(0.50, 0.70), (0.85, 1.60)],  # chin
        [(0.35, 0.25), (0.45, 1.50)],  # lips
    ],
    np.float32,
)
"""How far (x, y) jaw and lips go with the contour's ends and with the nose base as a head turns.

Least squares over 4,007 frames of a shut mouth in video: of the jaw's standard deviation, 0.016 x
0.013 crop units, 0.003 x 0.002 is left.
"""


def retarget(
    reference: NDArray[np.float32], motion: NDArray[np.float32], amplitude: float = 1.0
) -> NDArray[np.float32]:
    """Move a face's lips and jaw as another's move.

    Args:
        reference: Landmarks of the face to move `(68, 2)`, crop units.
        motion: Landmarks of the clip to follow `(T, 68, 2)`, crop units, T >= 1; each frame in its
            own crop.
        amplitude: Factor on the motion; 1 keeps the clip's articulation.
    Returns:
        `(T, 68, 2)` float32, crop units. Pose points are the reference's. Lips do not cross.
    Raises:
        ShapeError: An array has another shape, or the clip has no frame.
    """
    reference = np.asarray(reference, np.float32)
    motion = np.asarray(motion, np.float32)
    if reference.shape != (NUM_LANDMARKS, 2):
        raise ShapeError(f"reference has shape {reference.shape}; expected (68, 2)")
    if motion.ndim != 3 or motion.shape[1:] != (NUM_LANDMARKS, 2) or not len(motion):
        raise ShapeError(f"motion has shape {motion.shape}; expected (T, 68, 2) with T >= 1")

    anchor = motion[_anchor_index(reference, motion)]
    lip_scale = float(mouth_width(reference)) / max(float(mouth_width(anchor)), 1e-6)
    jaw_scale = _face_height(reference) / max(_face_height(anchor), 1e-6)

    target = np.repeat(reference[None], len(motion), axis=0)
    offsets = amplitude * (motion - anchor - _turn_offsets(motion, anchor))
    target[:, list(LIPS)] += lip_scale * offsets[:, list(LIPS)]
    target[:, list(JAW)] += jaw_scale * offsets[:, list(JAW)]
    _set_thickness(target, reference, motion, anchor, amplitude)
    _set_gaps(target, reference, motion, anchor, amplitude * lip_scale)
    uncross_lips(target)
    return target.astype(np.float32)


def uncross_lips(landmarks: NDArray[np.float32]) -> None:
    """Put lip points that have passed each other on the middle between them, in place.

    Args:
        landmarks: `(..., 68, 2)`, y downwards.
    """
    for upper, lower in zip(UPPER_INNER_LIP, LOWER_INNER_LIP, strict=True):
        above, below = landmarks[..., upper, 1], landmarks[..., lower, 1]
        crossed = np.maximum(above - below, 0.0) / 2
        landmarks[..., upper, 1] -= crossed
        landmarks[..., lower, 1] += crossed
    # A lip has a thickness: its outer edge stays outside its inner one.
    for outer, inner in ((50, 61), (51, 62), (52, 63)):
        landmarks[..., outer, 1] = np.minimum(landmarks[..., outer, 1], landmarks[..., inner, 1])
    for outer, inner in ((58, 67), (57, 66), (56, 65)):
        landmarks[..., outer, 1] = np.maximum(landmarks[..., outer, 1], landmarks[..., inner, 1])


def _anchor_index(reference: NDArray[np.float32], motion: NDArray[np.float32]) -> int:
    """Frame whose opening is nearest to the reference's; of several, the most usual form.

    Most frames of a clip are shut, so the opening alone would pick one of them by chance, mid /w/
    perhaps.
    """
    openings = mouth_opening(motion)
    distance = np.abs(openings - mouth_opening(reference))
    alike = distance <= distance.min() + 0.01
    # Among those, the most usual mouth: nearest to the median form, or the reference itself when it
    # is there.
    lips = motion[:, list(LIPS)] - motion[:, list(LIPS)].mean(axis=1, keepdims=True)
    usual = np.median(lips[alike], axis=0)
    form = np.abs(lips - usual).mean(axis=(1, 2))
    own = np.abs(motion - reference).max(axis=(1, 2))
    form[own < 1e-6] = -1.0
    form[~alike] = np.inf
    return int(np.argmin(form))


def _turn_offsets(motion: NDArray[np.float32], anchor: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the head's own motion since `anchor` does to jaw and lips `(T, 68, 2)`; else zero."""
    moved = motion - anchor
    left, right = moved[:, _LEFT_ENDS].mean(axis=1), moved[:, _RIGHT_ENDS].mean(axis=1)
    nose = moved[:, _NOSE_BASE].mean(axis=1)
    opened = mouth_opening(motion) - mouth_opening(anchor)
    for part, most in ((left, _ENDS_OPEN), (right, _ENDS_OPEN), (nose, _NOSE_OPEN)):
        part[:, 1] -= _share_of(opened, part[:, 1], most) * opened
    offsets = np.zeros_like(moved)
    for point in JAW:
        inward = 1.0 - abs(point - CHIN_TIP) / 5.0
        across = (point - JAW[0]) / (JAW[-1] - JAW[0])
        with_ends, with_nose = _TURN[0] + inward * (_TURN[1] - _TURN[0])
        offsets[:, point] = with_ends * (left + across * (right - left)) + with_nose * nose
    with_ends, with_nose = _TURN[2]
    offsets[:, list(LIPS)] = (with_ends * (left + right) / 2 + with_nose * nose)[:, None]
    return offsets


def _share_of(opened: NDArray[np.float32], moved: NDArray[np.float32], most: float) -> np.float32:
    """Slope of `moved` on `opened`, both `(T,)`, between 0 and `most`."""
    spread = opened - opened.mean()
    slope = float(spread @ moved) / max(float(spread @ spread), 1e-6)
    return np.float32(np.clip(slope, 0.0, most))


def _face_height(landmarks: NDArray[np.float32]) -> float:
    """Nose bridge to chin `(68, 2)` -> crop units."""
    return float(np.linalg.norm(landmarks[CHIN_TIP] - landmarks[_FACE_TOP]))


def _set_thickness(
    target: NDArray[np.float32],
    reference: NDArray[np.float32],
    motion: NDArray[np.float32],
    anchor: NDArray[np.float32],
    amplitude: float,
) -> None:
    """Make the lips of `target` thicken as the clip's do, in proportion, in place.

    A millimetre that the clip's full lip gains would double the thin lip of a smile.
    """
    for outer, inner in _LIP_PAIRS:
        ratio = _thickness(motion, outer, inner) / max(
            float(_thickness(anchor, outer, inner)), 1e-3
        )
        growth = np.clip(1.0 + amplitude * (ratio - 1.0), *_GROWTH)
        wanted = growth * (reference[outer, 1] - reference[inner, 1])
        change = wanted - (target[:, outer, 1] - target[:, inner, 1])
        for point in _OUTER_OF[outer]:
            target[:, point, 1] += change


def _thickness(landmarks: NDArray[np.float32], outer: int, inner: int) -> NDArray[np.float32]:
    """Height of a lip `(..., 68, 2)` -> `(...)`, crop units."""
    return np.abs(landmarks[..., outer, 1] - landmarks[..., inner, 1])


def _set_gaps(
    target: NDArray[np.float32],
    reference: NDArray[np.float32],
    motion: NDArray[np.float32],
    anchor: NDArray[np.float32],
    scale: float,
) -> None:
    """Make the lip gaps of `target` follow the clip's: shut when it is shut, in place.

    Wider than the anchor a gap grows by what the clip's grows; narrower, it shrinks in proportion,
    so that it ends at zero when the clip's does.
    """
    upper, lower = list(UPPER_INNER_LIP), list(LOWER_INNER_LIP)
    reference_gap = reference[lower, 1] - reference[upper, 1]  # (3,)
    anchor_gap = anchor[lower, 1] - anchor[upper, 1]
    motion_gap = motion[:, lower, 1] - motion[:, upper, 1]  # (T, 3)
    rest = reference_gap - scale * anchor_gap
    limit = _EXCESS * float(mouth_width(reference))
    if not np.array_equal(anchor, reference):
        rest = np.clip(rest, -limit, limit)
    closing = np.clip(motion_gap / np.maximum(anchor_gap, 1e-4), 0.0, 1.0)
    closing[:, anchor_gap < 0.02 * float(mouth_width(anchor))] = (
        1.0  # shut already: nothing to shrink
    )
    gap = np.maximum(scale * motion_gap + closing * rest, 0.0)

    excess = gap - (target[:, lower, 1] - target[:, upper, 1])  # what is missing to the wanted gap
    for above, below, pair in zip(_UPPER, _LOWER, _INNER_OF, strict=True):
        target[:, above, 1] -= _UPPER_SHARE * excess[:, pair]
        target[:, below, 1] += (1 - _UPPER_SHARE) * excess[:, pair]
    # Chin and lower lip are one piece of flesh: the jaw follows a part of the correction.
    centre = excess[:, 1] * (1 - _UPPER_SHARE) * 0.5
    for point in JAW:
        share = 1.0 - abs(point - CHIN_TIP) / 6.0
        target[:, point, 1] += share * centre
