"""How well lips follow real ones, and whether they listen at all: figures on openings and landmarks.

An opening is the lip gap as a share of the mouth's width (`model.face.landmarks.mouth_opening`); nan
where no face was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.phones import CLOSURES, SILENCE_PHONE, UNKNOWN_PHONE, runs_of
from model.media.audio import MELS_PER_FRAME

Curve = NDArray[np.float32]

MAX_LAG: Final = 4
"""Frames."""
SHUT: Final = 0.04
"""Lips closer than this share of the mouth's width have met."""
STILL: Final = 0.02
"""A mouth rests whose opening changes less than this share of its width,"""
STILL_REACH: Final = 3
"""for so many frames before and after."""
_REACH: Final = 4  # of 10 ms around a segment
_AT_REST: Final = 1e-3
"""Openings that spread less than this are the detector's noise."""


def correlation(predicted: Sequence[Curve], real: Sequence[Curve], lag: int = 0) -> float:
    """Pearson's r of openings `(T,)` over all frames of all clips.

    The prediction is taken to be `lag` frames late; the frames that have no partner, or a nan in either
    curve, are left out.
    """
    early = [curve[max(0, lag) : len(curve) + min(0, lag)] for curve in predicted]
    there = [curve[max(0, -lag) : len(curve) - max(0, lag)] for curve in real]
    return float(np.corrcoef(*_known(early, there))[0, 1])


def best_lag(predicted: Sequence[Curve], real: Sequence[Curve]) -> tuple[int, float]:
    """Lag within `MAX_LAG` frames with the highest r (positive: the prediction is late), and that r."""
    scores = {lag: correlation(predicted, real, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)}
    lag = max(scores, key=lambda key: scores[key])
    return lag, scores[lag]


def articulation(predicted: Sequence[Curve], real: Sequence[Curve]) -> float:
    """Spread of the predicted opening over that of the real one; below 0.8 is mumbling."""
    return float(np.nanstd(np.concatenate(predicted)) / np.nanstd(np.concatenate(real)))


def motion_ratio(predicted: Sequence[Curve], real: Sequence[Curve]) -> float:
    """Spread of the predicted curve about each clip's mean over that of the real one."""
    said, there = (
        np.concatenate([curve - curve.mean() for curve in curves]) for curves in (predicted, real)
    )
    return float(said.std() / there.std())


def at_phones(
    curves: Sequence[Curve], phones: Sequence[NDArray[np.uint8]], group: Sequence[int]
) -> float:
    """How curves `(T,)` at 25 fps stand at some phones, against their mean over each clip's speech.

    Phones are `(4T,)` of 10 ms; a frame counts by the share of its 40 ms that the `group` fills.
    """
    away, weights = [], []
    for curve, labels in zip(curves, phones, strict=True):
        speech = _share(~np.isin(labels, (SILENCE_PHONE, UNKNOWN_PHONE)))
        if speech.any():
            away.append(curve - np.average(curve, weights=speech))
            weights.append(_share(np.isin(labels, group)))
    total = np.concatenate(weights)
    return float(np.average(np.concatenate(away), weights=total)) if total.any() else float("nan")


def _share(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Part of each frame `(T,)` whose 10 ms `(4T,)` are chosen."""
    return chosen.reshape(-1, MELS_PER_FRAME).mean(axis=1)


def still_passages(opening: Curve) -> NDArray[np.bool_]:
    """Frames `(T,)` around which an opening stays within `STILL` for `STILL_REACH` frames."""
    padded = np.pad(opening, STILL_REACH, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * STILL_REACH + 1)
    return np.asarray(np.ptp(around, axis=1) < STILL)


def jitter(
    lips: Sequence[NDArray[np.float32]], still: Sequence[NDArray[np.bool_]], widths: Sequence[float]
) -> float:
    """How lips tremble where they should rest: mean second difference over time / mouth width.

    Args:
        lips: `(T, 20, 2)` of each clip.
        still: `(T,)`, where the real mouth rests.
        widths: Mouth widths, same unit.
    """
    shaken = [
        np.linalg.norm(np.diff(points, n=2, axis=0), axis=-1).mean(axis=1)[rests[1:-1]] / width
        for points, rests, width in zip(lips, still, widths, strict=True)
    ]
    return float(np.concatenate(shaken).mean())


def slope(predicted: Sequence[Curve], real: Sequence[Curve]) -> float:
    """Predicted over real opening, least squares; frames with a nan in either are left out."""
    drawn, wanted = _known(predicted, real)
    return float(np.polyfit(wanted, drawn, 1)[0])


def _known(predicted: Sequence[Curve], real: Sequence[Curve]) -> tuple[Curve, Curve]:
    """All frames `(N,)` of all clips without a nan in either."""
    first, second = np.concatenate(predicted), np.concatenate(real)
    seen = np.isfinite(first) & np.isfinite(second)
    return first[seen], second[seen]


def closures(opening: Curve, phones: NDArray[np.uint8]) -> tuple[int, int]:
    """How many of the /b p m/ segments of `phones` `(4T,)` shut the lips of `opening` `(T,)`.

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
    """Whether two references gave the same lips and jaw `(T, 31, 2)` of each recording.

    Returns:
        Correlation of the motion (each point's displacement from its own mean place), and the mean
        distance of the points, which also sees a constant shift, as a share of the mouths' widths.
    """
    left, right, distance = [], [], []
    for one, other, width in zip(first, second, widths, strict=True):
        left.append((one - one.mean(axis=0)).ravel() / width)
        right.append((other - other.mean(axis=0)).ravel() / width)
        distance.append(np.linalg.norm(one - other, axis=-1).mean() / width)
    r = float(np.corrcoef(np.concatenate(left), np.concatenate(right))[0, 1])
    return r, float(np.mean(distance))


def mouth_figures(
    drawn: Sequence[NDArray[np.float32]], wanted: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """Openings `(T,)` of each clip, nan where there was no face, against those that are wanted."""
    movement, needed = _movement(drawn), _movement(wanted)
    if min(movement, needed) < _AT_REST:  # a mouth that never moves has no r
        return {"articulation": movement / needed} if needed else {}
    figures = {
        "opening_r": correlation(drawn, wanted),
        "slope": slope(drawn, wanted),
        "articulation": articulation(drawn, wanted),
    }
    if max(int(np.isfinite(o).sum()) for o in drawn) > 2 * MAX_LAG:  # fewer cannot be shifted
        lag, highest = best_lag(drawn, wanted)
        figures |= {"best_lag": float(lag), "r_best_lag": highest}
    return figures


def swap_figures(own: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, float]:
    """What another voice does to a mouth: openings `(T,)` and `(T',)`, nan where there was no face.

    Returns:
        `swap_difference`, their mean distance over the frames that both have, and `swap_share`, the
        same over the mean distance of the first from its own mean: 0 of a mouth that does not listen,
        1 or more of two curves that have nothing to do with each other. Nothing where no frame can be
        compared.
    """
    count = min(len(own), len(other))
    gaps = np.abs(own[:count] - other[:count])
    if not np.isfinite(gaps).any():
        return {}
    difference = float(np.nanmean(gaps))
    usual = float(np.nanmean(np.abs(own - np.nanmean(own))))
    if usual < _AT_REST:  # a mouth that never moves
        return {"swap_difference": difference}
    return {"swap_difference": difference, "swap_share": difference / usual}


def _movement(openings: Sequence[NDArray[np.float32]]) -> float:
    """Mean over clips of the opening's standard deviation; 0 where no clip shows a face."""
    spreads = [float(np.nanstd(o)) for o in openings if np.isfinite(o).sum() > 1]
    return float(np.mean(spreads)) if spreads else 0.0
