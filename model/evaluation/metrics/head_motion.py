"""How a head moves: how far, how fast, how much in each octave, and how much more in speech than in pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from model.motion.channels import CHANNELS

OCTAVES_HZ: Final = (0.2, 0.4, 0.8, 1.6, 3.2, 4.0)
"""Edges of the bands; the last one is what is left of an octave."""
_WINDOW: Final = 256  # frames of a spectrum
_SPEAKS: Final = 0.7
_PAUSES: Final = 0.3
_ROLL: Final = CHANNELS.index("roll")


@dataclass(frozen=True)
class MeasuredHead:
    """A head that was measured for a while, T frames.

    Attributes:
        path: `(T, 7)`, see `model.motion.channels`.
        speaking: `(T,)`, 0 in pauses to 1 in speech.
        openings: Of the lids `(T,)`, 1 = as at rest; or None.
    """

    path: NDArray[np.float64]
    speaking: NDArray[np.float64]
    openings: NDArray[np.float64] | None = None


def path_figures(
    tracks: Sequence[MeasuredHead], fps: float, rms: float | None = None
) -> dict[str, float]:
    """Figures of all tracks together.

    Args:
        tracks: Each about its own mean.
        fps: Their frames per second.
        rms: What the tracks are scaled to before speed and power are read; None = they stay.
    Returns:
        `rms` of the shift and its least and greatest of a track (inter-ocular distances), `roll_sd`
        (degrees), `speed_p95` (inter-ocular distances a second), `power_<from>` of each band
        (squared distances), `speech_over_pauses` (of the mean squared speed; where there are both).
    """
    centred = [track.path - track.path.mean(axis=0) for track in tracks]
    each = [float(np.sqrt((path[:, :2] ** 2).sum(axis=1).mean())) for path in centred]
    pooled = np.concatenate(centred)
    own = float(np.sqrt((pooled[:, :2] ** 2).sum(axis=1).mean()))
    share = 1.0 if rms is None else rms / own
    figures = {
        "rms": own * share,
        "rms_least": min(each) * share,
        "rms_most": max(each) * share,
        "roll_sd": float(pooled[:, _ROLL].std()) * share,
    }
    speeds = [np.linalg.norm(np.gradient(path[:, :2], axis=0), axis=1) * fps for path in centred]
    speed, speaking = np.concatenate(speeds), np.concatenate([track.speaking for track in tracks])
    figures["speed_p95"] = float(np.percentile(speed, 95)) * share
    figures |= {name: power * share**2 for name, power in _band_power(centred, fps).items()}
    in_speech, in_pauses = speed[speaking > _SPEAKS], speed[speaking < _PAUSES]
    if len(in_speech) and len(in_pauses):
        energies = float((in_speech**2).mean()), float((in_pauses**2).mean())
        figures["speech_over_pauses"] = energies[0] / max(energies[1], 1e-12)
    return figures


def blink_figures(tracks: Sequence[MeasuredHead], fps: float) -> dict[str, float]:
    """`blinks_per_minute` and `blink_s`, the median time that lids are less than half open."""
    lengths: list[int] = []
    frames = 0
    for track in tracks:
        if track.openings is None:
            continue
        frames += len(track.openings)
        edges = np.diff(np.concatenate([[0], (track.openings < 0.5).astype(np.int8), [0]]))
        lengths += (np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)).tolist()
    if not frames:
        return {}
    median = float(np.median(lengths)) / fps if lengths else 0.0
    return {"blinks_per_minute": len(lengths) / frames * fps * 60.0, "blink_s": median}


def _band_power(paths: Sequence[NDArray[np.float64]], fps: float) -> dict[str, float]:
    """Mean power of the shift in each of `OCTAVES_HZ`, over tracks that are long enough."""
    total, weight = np.zeros(len(OCTAVES_HZ) - 1), 0
    for path in paths:
        if len(path) < _WINDOW:
            continue
        frequencies, density = welch(path[:, :2], fps, nperseg=_WINDOW, axis=0)
        for number, (low, high) in enumerate(pairwise(OCTAVES_HZ)):
            band = (frequencies >= low) & (frequencies < high)
            total[number] += density[band].sum() * frequencies[1] * len(path)
        weight += len(path)
    return {
        f"power_{low:g}": float(power) / max(weight, 1)
        for low, power in zip(OCTAVES_HZ, total, strict=False)
    }
