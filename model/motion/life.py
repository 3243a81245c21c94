"""Glances and breath: what a face does that neither speaks nor moves."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_STAYS_S: Final = (0.5, 3.5)
"""How long the gaze rests somewhere, at least and at most."""
_AWAY: Final = 0.4
"""Share of the places that are not the camera."""
_SACCADE_S: Final = 0.05
_BREATH_S: Final = (3.2, 4.6)
"""Length of a breath; another person, another breath."""
_IN: Final = 0.42
"""Share of a breath that is breathed in."""


def glances(times: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Where the eyes look at `times` `(T,)`, seconds: -1 to 1, mostly 0; they jump, and rest."""
    moments, places = [0.0], [0.0]
    while moments[-1] < times[-1]:
        moments.append(moments[-1] + random.uniform(*_STAYS_S))
        away = random.random() < _AWAY
        places.append(float(random.uniform(0.4, 1.0) * random.choice((-1, 1))) if away else 0.0)
    edges = np.repeat(moments[1:], 2) + np.tile((-_SACCADE_S / 2, _SACCADE_S / 2), len(moments) - 1)
    held = np.concatenate([np.repeat(places, 2)[1:-1]])
    return np.asarray(np.interp(times, edges, held), np.float64)


def breaths(times: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """How far the shoulders are up at `times` `(T,)`, seconds: 0 to 1, in more quickly than out."""
    phase = times / random.uniform(*_BREATH_S) + random.random()
    part = phase - np.floor(phase)
    risen = np.where(part < _IN, part / _IN, (1 - part) / (1 - _IN))
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * risen), np.float64)
