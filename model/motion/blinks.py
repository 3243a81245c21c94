"""When somebody blinks: now and then, more often where a phrase ends, sometimes twice."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.thin_plate import smoothstep
from model.motion.channels import RATE_HZ
from model.motion.rhythm import Rhythm

_RATE_HZ: Final = (0.38, 0.70)
"""Blinks a second of one who blinks seldom and of one who blinks often, before `_REST_S` takes some."""
_AT_PHRASE_END: Final = 4.0
"""So many times likelier in the moment after a phrase."""
_PHRASE_END_S: Final = 0.5
_REST_S: Final = 0.9
"""Between two blinks."""
_FIRST_S: Final = 0.6
"""Eyes that have just been seen open stay so, at both ends of a video."""
_FIRST_BY_S: Final = 3.0
"""Whoever has not blinked by then does: a clip of a few seconds without a blink looks like a photograph."""
_TWICE: Final = 0.12
_TWICE_AFTER_S: Final = (0.30, 0.42)

_CLOSING_S: Final = 0.07
_OPENING_S: Final = 0.11
_SHUT_S: Final = (0.04, 0.08)
"""How long the eyes stay shut, at least and at most."""


def blink_times(rhythm: Rhythm, random: np.random.Generator) -> NDArray[np.float64]:
    """Middles of the blinks `(K,)`, seconds.

    Args:
        rhythm: `(T, 2)` at 12.5 Hz, see `model.motion.rhythm`.
        random: Decides.
    """
    usual = random.uniform(*_RATE_HZ)
    falling = np.maximum(-np.diff(rhythm[:, 0], append=rhythm[-1, 0]), 0.0)
    kernel = np.ones(round(_PHRASE_END_S * RATE_HZ))
    after = np.minimum(np.convolve(falling, kernel)[: len(falling)], 1.0)
    chance = usual * (1.0 + (_AT_PHRASE_END - 1.0) * after)
    # likelier here is less likely elsewhere
    chance *= usual / max(float(chance.mean()), 1e-9) / RATE_HZ

    times: list[float] = []
    first_by = random.uniform(2 * _FIRST_S, _FIRST_BY_S)
    open_since, end = _FIRST_S - _REST_S, len(rhythm) / RATE_HZ - _FIRST_S
    for number, (is_now, where) in enumerate(
        zip(random.random(len(rhythm)) < chance, random.random((len(rhythm), 3)), strict=True)
    ):
        moment = (number + where[0]) / RATE_HZ
        overdue = not times and moment >= first_by
        if not (is_now or overdue) or moment < open_since + _REST_S or moment > end:
            continue
        times.append(moment)
        open_since = moment
        again = moment + _TWICE_AFTER_S[0] + where[2] * float(np.diff(_TWICE_AFTER_S)[0])
        if where[1] < _TWICE and again < end:
            times.append(again)
            open_since = again
    return np.array(times)


def lid_openings(
    times: NDArray[np.float64], frame_times: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float32]:
    """How far the lids are open, 1 = as at rest, 0 = shut: `(T,)` at `frame_times` `(T,)`, seconds."""
    open_ = np.ones(len(frame_times))
    for middle in times:
        shut = random.uniform(*_SHUT_S)
        since = frame_times - (middle - shut / 2)
        closing = 1.0 + since / _CLOSING_S  # 0 at the beginning, 1 when shut
        opening = 1.0 - (since - shut) / _OPENING_S
        open_ = np.minimum(open_, 1.0 - smoothstep(np.minimum(closing, opening)))
    return open_.astype(np.float32)
