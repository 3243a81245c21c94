"""Motion over time: a One-Euro filter, pauses in speech, and the mouth that they ask for."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.landmarks import CHIN_TIP, NUM_LANDMARKS
from model.face.thin_plate import smoothstep

_WINDOW_S: Final = 0.025
_HOP_S: Final = 0.010
_LEVELS_AT_ONCE: Final = 512
_BELOW_SPEECH_DB: Final = -32.0
"""Quieter than the loud stretches by this much is a pause."""
_SILENT_DBFS: Final = -62.0
"""Quieter than this is a pause in any recording."""
_ABOVE_NOISE_DB: Final = 4.0
_SHORTEST_PAUSE_S: Final = 0.20
"""A stop consonant is silent for up to 0.15 s with lips that need not touch: that is no pause."""
_SHORTEST_SPEECH_S: Final = 0.03
_HOLD_S: Final = 0.04
"""Speech counts as going on for so long beyond its sound, on both sides."""
RAMP_S: Final = 0.08
"""Time in which a mouth comes to rest, and starts again."""

_UPPER: Final = (49, 50, 51, 52, 53, 61, 62, 63)
_LOWER: Final = (59, 58, 57, 56, 55, 67, 66, 65)
_PAIR: Final = (0, 0, 1, 2, 2, 0, 1, 2)
"""Which of the three inner gaps moves each column of the two rows above."""
_UPPER_SHARE: Final = 0.35
"""Part of a gap that the upper lip closes; the lower lip closes the rest."""
_JAW_SHARE: Final = 0.5
"""Part of the lower lip's way that the chin follows."""


class OneEuroFilter:
    """A low-pass whose cutoff rises with speed: calm when still, prompt when moving.

    cutoff = min_cutoff + beta * |speed| (Casiez, Roussel, Vogel: 1€ Filter, CHI 2012).

    Args:
        rate_hz: Samples per second.
        min_cutoff_hz: Cutoff of what stands still.
        beta: Hz of cutoff per unit of speed; units are those of the samples per second.
        speed_cutoff_hz: Cutoff of the speed's own low-pass.
    """

    def __init__(
        self,
        rate_hz: float,
        min_cutoff_hz: float = 1.0,
        beta: float = 0.0,
        speed_cutoff_hz: float = 1.0,
    ) -> None:
        self._rate = rate_hz
        self._min_cutoff = min_cutoff_hz
        self._beta = beta
        self._speed_alpha = self._alpha(np.array(speed_cutoff_hz))
        self._value: NDArray[np.float64] | None = None
        self._speed: NDArray[np.float64] | None = None

    def _alpha(self, cutoff_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        step = 2.0 * np.pi * cutoff_hz / self._rate
        alpha: NDArray[np.float64] = step / (step + 1.0)
        return alpha

    def __call__(self, sample: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next filtered sample, of any shape; the first one passes unchanged."""
        value = np.asarray(sample, np.float64)
        if self._value is None or self._speed is None:
            self._value, self._speed = value, np.zeros_like(value)
            return value.astype(np.float32)
        speed = (value - self._value) * self._rate
        self._speed = self._speed + self._speed_alpha * (speed - self._speed)
        alpha = self._alpha(self._min_cutoff + self._beta * np.abs(self._speed))
        self._value = self._value + alpha * (value - self._value)
        return self._value.astype(np.float32)


def smooth(
    samples: NDArray[np.float32], rate_hz: float, *, min_cutoff_hz: float, beta: float
) -> NDArray[np.float32]:
    """Filter a recording `(T, ...)` forwards and backwards and take the mean: no lag remains."""
    directions = []
    for order in (slice(None), slice(None, None, -1)):
        one_euro = OneEuroFilter(rate_hz, min_cutoff_hz, beta)
        # Not a list of arrays: thousands of small ones leave holes behind.
        filtered = np.empty(samples.shape, np.float32)
        for index, sample in enumerate(samples[order]):
            filtered[index] = one_euro(sample)
        directions.append(filtered[order])
    mean: NDArray[np.float32] = ((directions[0] + directions[1]) / 2).astype(np.float32)
    return mean


def speech_gate(
    waveform: NDArray[np.float32], sample_rate: int, times_s: NDArray[np.float64]
) -> NDArray[np.float32]:
    """How much the mouth may move: 1 in speech, 0 in pauses, ramps of 80 ms outside the speech.

    A pause is quiet against the recording's own loud stretches, its noise, or absolutely, and lasts
    at least 0.2 s: less is a stop consonant. A mouth opens before it sounds, so the ramps lie in the
    pause.

    Args:
        waveform: `(N,)`, float32, full scale 1.
        sample_rate: Hz.
        times_s: `(T,)`, where the gate is wanted.
    Returns:
        `(T,)`, float32, 0 to 1.
    """
    speaking = _speaking(waveform, sample_rate)
    if not speaking.any():
        return np.zeros(len(times_s), np.float32)
    edges = np.diff(np.concatenate([[0], speaking.astype(np.int8), [0]]))
    starts = np.flatnonzero(edges == 1) * _HOP_S - _HOLD_S
    stops = np.flatnonzero(edges == -1) * _HOP_S + _HOLD_S
    # the next stretch of speech, or the one that has begun: memory must not grow with times x stretches
    begun = np.searchsorted(starts, times_s, side="right")
    before = times_s - np.concatenate([[-np.inf], stops])[begun]
    after = np.concatenate([starts, [np.inf]])[begun] - times_s
    distance = np.maximum(np.minimum(before, after), 0.0)
    gate: NDArray[np.float32] = smoothstep(1.0 - distance / RAMP_S).astype(np.float32)
    return gate


def _speaking(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.bool_]:
    """Whether there is speech in each 10 ms, pauses and blips that are too short left out."""
    level = _level_dbfs(waveform, sample_rate)
    loud, noise = np.percentile(level, 95), np.percentile(level, 5)
    threshold = loud + _BELOW_SPEECH_DB
    if noise < loud - 20.0:  # a steady noise between the words is a pause as well
        threshold = max(threshold, noise + _ABOVE_NOISE_DB)
    speaking = level > max(threshold, _SILENT_DBFS)
    speaking = _drop_short(speaking, _SHORTEST_SPEECH_S, value=True)
    return _drop_short(speaking, _SHORTEST_PAUSE_S, value=False)


def _level_dbfs(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Level of 25 ms around the middle of every 10 ms, dB of full scale."""
    hop, window = round(_HOP_S * sample_rate), round(_WINDOW_S * sample_rate)
    count = max(1, -(-len(waveform) // hop))
    middles = np.arange(count) * hop + hop // 2
    low = np.clip(middles - window // 2, 0, len(waveform))
    high = np.clip(middles + window // 2, 0, len(waveform))
    return level_db(waveform, low, high)


def level_db(
    waveform: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Level of samples `low` to `high` `(K,)` each, both rising, of `waveform` `(N,)`: `(K,)`, dB of full scale."""
    mean = np.empty(len(low))
    for first in range(
        0, len(low), _LEVELS_AT_ONCE
    ):  # sums of a whole recording are four times its size
        some = slice(first, first + _LEVELS_AT_ONCE)
        begin, end = int(low[some][0]), int(high[some][-1])
        power = np.concatenate([[0.0], np.cumsum(waveform[begin:end].astype(np.float64) ** 2)])
        total = power[high[some] - begin] - power[low[some] - begin]
        mean[some] = total / np.maximum(high[some] - low[some], 1)
    return np.asarray(10.0 * np.log10(np.maximum(mean, 1e-12)), np.float64)


def _drop_short(runs: NDArray[np.bool_], shortest_s: float, *, value: bool) -> NDArray[np.bool_]:
    """Flip runs of `value` shorter than `shortest_s`; for pauses, only those between speech."""
    kept = runs.copy()
    edges = np.flatnonzero(np.diff(runs.astype(np.int8))) + 1
    bounds = [0, *edges.tolist(), len(runs)]
    for start, stop in pairwise(bounds):
        at_end = start == 0 or stop == len(runs)
        if runs[start] == value and (stop - start) * _HOP_S < shortest_s and (value or not at_end):
            kept[start:stop] = not value
    return kept


def closed_mouth(reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """The reference's own mouth, shut.

    The lips meet where their gap is; corners, lip thickness and width stay, the chin rises with the
    lower lip.

    Args:
        reference: `(68, 2)`, any upright frame with y downwards.
    Returns:
        `(68, 2)` float32; all points but lips and jaw are the reference's.
    Raises:
        ShapeError: `reference` has another shape.
    """
    if reference.shape != (NUM_LANDMARKS, 2):
        raise ShapeError(f"reference has shape {reference.shape}; expected (68, 2)")
    closed = np.array(reference, np.float32)
    gaps = np.maximum(reference[[67, 66, 65], 1] - reference[[61, 62, 63], 1], 0.0)
    for upper, lower, pair in zip(_UPPER, _LOWER, _PAIR, strict=True):
        closed[upper, 1] += _UPPER_SHARE * gaps[pair]
        closed[lower, 1] -= (1.0 - _UPPER_SHARE) * gaps[pair]
    for point in range(3, 14):
        share = 1.0 - abs(point - CHIN_TIP) / 6.0
        closed[point, 1] -= share * _JAW_SHARE * (1.0 - _UPPER_SHARE) * gaps[1]
    return closed


def rest_lips(
    target: NDArray[np.float32], rest: NDArray[np.float32], gate: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Bring a moving face to rest where the gate falls.

    Args:
        target: `(T, 68, 2)`.
        rest: The face at rest `(68, 2)`.
        gate: `(T,)`, 1 = `target`, 0 = `rest`.
    Returns:
        `(T, 68, 2)` float32.
    """
    moved: NDArray[np.float32] = rest + gate[:, None, None] * (target - rest)
    return moved.astype(np.float32)
