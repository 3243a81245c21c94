"""How well predicted lips follow real ones: figures on mouth openings and landmarks.

An opening is the lip gap as a share of the mouth's width (`model.face.landmarks.mouth_opening`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.media.audio import MELS_PER_FRAME
from model.training.phones import CLOSURES, runs_of

Curve = NDArray[np.float32]

MAX_LAG: Final = 4
"""Frames."""
SHUT: Final = 0.04
"""Lips closer than this share of the mouth's width have met."""
_REACH: Final = 4  # of 10 ms around a segment


def correlation(predicted: Sequence[Curve], real: Sequence[Curve], lag: int = 0) -> float:
    """Pearson's r over all frames of all clips.

    Args:
        predicted: Openings `(T,)` of each clip.
        real: The same clips' real openings.
        lag: Frames by which the prediction is taken to be late; the frames that have no partner,
            or a nan in either curve, are left out.
    """
    early = [curve[max(0, lag) : len(curve) + min(0, lag)] for curve in predicted]
    there = [curve[max(0, -lag) : len(curve) - max(0, lag)] for curve in real]
    first, second = np.concatenate(early), np.concatenate(there)
    seen = np.isfinite(first) & np.isfinite(second)
    return float(np.corrcoef(first[seen], second[seen])[0, 1])


def best_lag(predicted: Sequence[Curve], real: Sequence[Curve]) -> tuple[int, float]:
    """Lag within `MAX_LAG` frames with the highest r (positive: the prediction is late), and that r."""
    scores = {lag: correlation(predicted, real, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)}
    lag = max(scores, key=lambda key: scores[key])
    return lag, scores[lag]


def articulation(predicted: Sequence[Curve], real: Sequence[Curve]) -> float:
    """Spread of the predicted opening over that of the real one; below 0.8 is mumbling."""
    return float(np.nanstd(np.concatenate(predicted)) / np.nanstd(np.concatenate(real)))


def slope(predicted: Sequence[Curve], real: Sequence[Curve]) -> float:
    """Predicted over real opening, least squares; frames with a nan in either are left out."""
    first, second = np.concatenate(predicted), np.concatenate(real)
    seen = np.isfinite(first) & np.isfinite(second)
    return float(np.polyfit(second[seen], first[seen], 1)[0])


def closures(opening: Curve, phones: NDArray[np.uint8]) -> tuple[int, int]:
    """How many of the /b p m/ segments shut the lips.

    Args:
        opening: `(T,)` at 25 fps.
        phones: `(4T,)`, 10 ms.
    Returns:
        Segments whose smallest opening within the segment ± 40 ms is below `SHUT`, and all segments.
    """
    segments = runs_of(np.isin(phones, CLOSURES))
    shut = 0
    for start, end in segments:
        first = -(-(start - _REACH) // MELS_PER_FRAME)
        last = (end - 1 + _REACH) // MELS_PER_FRAME
        window = opening[max(0, first) : last + 1]
        shut += bool(len(window)) and bool(window.min() < SHUT)
    return shut, len(segments)


def closure_rate(openings: Sequence[Curve], phones: Sequence[NDArray[np.uint8]]) -> float:
    """Share of all /b p m/ segments that shut the lips; nan when there is none."""
    counts = np.array([closures(o, p) for o, p in zip(openings, phones, strict=True)])
    shut, total = counts.sum(axis=0)
    return float(shut / total) if total else float("nan")


def same_mouth(
    first: Sequence[NDArray[np.float32]],
    second: Sequence[NDArray[np.float32]],
    widths: Sequence[float],
) -> tuple[float, float]:
    """Whether two references gave the same mouth.

    Args:
        first: Lips and jaw `(T, 31, 2)` of each recording with one reference.
        second: The same with another reference of the same face.
        widths: Mouth widths, same unit.
    Returns:
        Correlation of the motion (each point's displacement from its own mean place), and the mean
        distance of the points, which also sees a constant shift, as a share of the mouth's width.
    """
    left, right, distance = [], [], []
    for one, other, width in zip(first, second, widths, strict=True):
        left.append((one - one.mean(axis=0)).ravel() / width)
        right.append((other - other.mean(axis=0)).ravel() / width)
        distance.append(np.linalg.norm(one - other, axis=-1).mean() / width)
    r = float(np.corrcoef(np.concatenate(left), np.concatenate(right))[0, 1])
    return r, float(np.mean(distance))
