"""A smile gives way as the mouth shuts: its corners come in and down, its lips grow full.

The completer moves the reference's own lips, so a toothy smile that shuts for an /m/ would keep its width and
its raised corners, a smirk. How lips get from a smile to rest was measured on people who were photographed
smiling and neutral.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.inner_mouth import inner_opening
from model.face.landmarks import FLIP, NUM_LANDMARKS, mouth_width
from model.face.smoothing import closed_mouth
from model.face.thin_plate import ramp

_TO_REST: Final = {
    48: (0.082, 0.088), 49: (0.046, 0.0), 50: (0.025, -0.016), 51: (0.0, -0.015),
    57: (0.0, 0.04), 58: (0.027, 0.045), 59: (0.047, 0.066),
    60: (0.078, 0.078), 61: (0.029, 0.016), 62: (0.0, 0.016), 66: (0.0, 0.016), 67: (0.026, 0.016),
}  # fmt: skip
"""Way (x, y) of the left half's lip points from a smile's shut lips to neutral ones, over the mouth's width.

Mean of 40 people of the Face Research Lab London Set whose smile shows teeth and whom nothing is measured on,
both halves alike. The inner lips move as one: a gap is the voice's.
"""
_SHARE: Final = 0.6
"""How far on that way shut lips go: cheeks and the folds beside the mouth keep smiling."""
_SMILE_FROM: Final = 0.06
_SMILE_TO: Final = 0.12
"""Openings (gap over width) between which a reference begins to show its teeth."""
_RAISED_FROM: Final = -0.02
_RAISED_TO: Final = 0.01
"""Heights of the shut mouth's corners over its lips, in its width, between which they begin to smile: neutral
people of that set have -0.030, smiling ones 0.023 (medians). A mouth that is open to speak does not raise them."""


def relax_smile(target: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let the lips of a smiling reference come towards rest, the more the less they are open.

    Args:
        target: `(T, 68, 2)`, in the reference's pose.
        reference: `(68, 2)`, of the same unit.
    Returns:
        `(T, 68, 2)` float32; `target` itself where the reference shows no teeth, or does not smile.
    """
    own = float(inner_opening(reference))
    smile = ramp((own - _SMILE_FROM) / (_SMILE_TO - _SMILE_FROM))
    smile *= ramp((_raised(closed_mouth(reference)) - _RAISED_FROM) / (_RAISED_TO - _RAISED_FROM))
    if smile <= 0:
        return target
    shut = 1.0 - np.clip(inner_opening(target) / own, 0.0, 1.0)
    amount = np.asarray(_SHARE * smile * shut * mouth_width(reference), np.float32)
    return np.asarray(target + amount[:, None, None] * _ways(reference), np.float32)


def _raised(shut: NDArray[np.float32]) -> float:
    """How much higher than its lips a shut mouth's corners are, over its width."""
    corners, lips = shut[[60, 64], 1].mean(), shut[[61, 62, 63, 65, 66, 67], 1].mean()
    return float((lips - corners) / mouth_width(shut))


def _ways(reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """`_TO_REST` for all points, along the line between the mouth's corners `(68, 2)`."""
    ways = np.zeros((NUM_LANDMARKS, 2), np.float32)
    for point, (across, down) in _TO_REST.items():
        ways[point] = (across, down)
        mirrored = FLIP[point]
        if mirrored != point:
            ways[mirrored] = (-across, down)
    along = (reference[54] - reference[48]) / np.linalg.norm(reference[54] - reference[48])
    turn = np.array([along, (-along[1], along[0])], np.float32)
    return np.asarray(ways @ turn, np.float32)
