"""Whether a mouth moves as it should, and whether it listens at all: figures on openings.

An opening is the lip gap as a share of the mouth's width; nan where no face was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.evaluation.metrics.landmarks import MAX_LAG, articulation, best_lag, correlation, slope

_STILL: Final = 1e-3
"""Openings that spread less than this are the detector's noise."""


def mouth_figures(
    drawn: Sequence[NDArray[np.float32]], wanted: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """Openings `(T,)` of each clip, nan where there was no face, against those that are wanted."""
    movement, needed = _movement(drawn), _movement(wanted)
    if min(movement, needed) < _STILL:  # a mouth that never moves has no r
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
    """What another voice does to a mouth.

    Args:
        own: Openings with the first voice `(T,)`, nan where there was no face.
        other: With another voice `(T',)`.
    Returns:
        `swap_difference`, their mean distance over the frames that both have, and `swap_share`, the
        same over the mean distance of the first from its own mean: 0 of a mouth that does not
        listen, 1 or more of two curves that have nothing to do with each other. Nothing where no
        frame can be compared.
    """
    count = min(len(own), len(other))
    gaps = np.abs(own[:count] - other[:count])
    if not np.isfinite(gaps).any():
        return {}
    difference = float(np.nanmean(gaps))
    usual = float(np.nanmean(np.abs(own - np.nanmean(own))))
    if usual < _STILL:  # a mouth that never moves
        return {"swap_difference": difference}
    return {"swap_difference": difference, "swap_share": difference / usual}


def _movement(openings: Sequence[NDArray[np.float32]]) -> float:
    """Mean over clips of the opening's standard deviation; 0 where no clip shows a face."""
    spreads = [float(np.nanstd(o)) for o in openings if np.isfinite(o).sum() > 1]
    return float(np.mean(spreads)) if spreads else 0.0
