"""What of speech moves a head: whether somebody speaks, and where the stress lies.

    sound ─▶ level ──┐
                     ├─▶ loudness 0 to 1 ─▶ rhythm (T, 2): speaking, stress
    mouth ─▶ gap ────┘

Films without sound tell the same by the mouth, so a network can learn from them, too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.face.smoothing import level_db, speech_gate
from model.media.audio import SAMPLE_RATE
from model.motion.channels import RATE_HZ

Rhythm = NDArray[np.float64]

_SPEAKING_S: Final = 0.12
"""Standard deviation over which speaking begins and ends."""
_STRESS_S: Final = 0.10
_SLOW_S: Final = 0.8
"""Stress is loudness against the neighbourhood of so many seconds."""
_LEVEL_RANGE_DB: Final = 30.0
_LEVEL_WINDOW_S: Final = 0.04
_ACTIVITY_S: Final = 0.16
_SILENT_SHARE: Final = (0.4, 0.8)
"""A mouth that moves by less than the first share of its usual speed is silent, from the second on it speaks."""
_FADED_DB: Final = -62.0


def sound_rhythm(waveform: NDArray[np.float32]) -> Rhythm:
    """Of a recording `(N,)`, float32, 16 kHz mono: `(ceil(12.5 * seconds), 2)`, from 0 to 1 and about 0."""
    count = max(1, int(np.ceil(len(waveform) / SAMPLE_RATE * RATE_HZ)))
    times = (np.arange(count, dtype=np.float64) + 0.5) / np.float64(RATE_HZ)
    speaking = speech_gate(waveform, SAMPLE_RATE, times).astype(np.float64)
    return _rhythm(_loudness(waveform, times), speaking)


def mouth_rhythm(gap: NDArray[np.float64]) -> Rhythm:
    """Of a speaking mouth's gap `(T,)` at 12.5 Hz, any unit: `(T, 2)`."""
    speed = np.abs(np.gradient(gap)) * RATE_HZ
    activity = gaussian_filter1d(speed, _ACTIVITY_S * RATE_HZ)
    low, high = np.array(_SILENT_SHARE) * np.median(activity)
    speaking = np.clip((activity - low) / max(high - low, 1e-9), 0.0, 1.0)
    return _rhythm(np.clip(gap / max(np.percentile(gap, 95), 1e-9), 0.0, 1.0), speaking)


def level_rhythm(level_db: NDArray[np.float64]) -> Rhythm:
    """Of a sound whose level `(T,)` at 12.5 Hz is all that is known: `(T, 2)`."""
    loudness = _share_of_loudest(level_db)
    speaking = gaussian_filter1d((loudness > 0.35).astype(np.float64), 1.0)
    return _rhythm(loudness, speaking)


def _rhythm(loudness: NDArray[np.float64], speaking: NDArray[np.float64]) -> Rhythm:
    fast = gaussian_filter1d(loudness, _STRESS_S * RATE_HZ)
    stress = speaking * (fast - gaussian_filter1d(loudness, _SLOW_S * RATE_HZ))
    stress = stress / max(float(np.sqrt(np.mean(stress**2))), 0.02)
    calm = gaussian_filter1d(speaking, _SPEAKING_S * RATE_HZ)
    return np.stack([calm, np.clip(stress, -3.0, 3.0)], axis=1)


def _loudness(waveform: NDArray[np.float32], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loudness 0 to 1 at `times`, seconds."""
    low = np.clip(((times - _LEVEL_WINDOW_S) * SAMPLE_RATE).astype(int), 0, len(waveform))
    high = np.clip(((times + _LEVEL_WINDOW_S) * SAMPLE_RATE).astype(int), 0, len(waveform))
    return _share_of_loudest(level_db(waveform, low, high))


def _share_of_loudest(level_db: NDArray[np.float64]) -> NDArray[np.float64]:
    loudest = max(float(np.percentile(level_db, 95)), _FADED_DB + _LEVEL_RANGE_DB)
    return np.clip(1.0 + (level_db - loudest) / _LEVEL_RANGE_DB, 0.0, 1.0)
