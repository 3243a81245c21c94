"""A path of a head, of any length, from the rhythm of speech: the flow, window by window.

    noise + rhythm ─▶ window of 7.7 s ─▶ its last 1.9 s are known to the next one ─▶ ... ─▶ pushes
    pushes, calmer in pauses ─▶ leaky integrator ─▶ equaliser ─▶ path

Every window has fresh noise, so nothing repeats; what is known of the window before makes the seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.motion.channels import MIRRORED, RATE_HZ, Samples, from_pushes
from model.motion.rhythm import Rhythm
from model.networks.head_flow import NUM_CHANNELS, HeadFlow

WINDOW: Final = 96
"""Samples that are made at once."""
KNOWN: Final = 24
"""Samples of the window before that the next one goes on from."""
_STEPS: Final = 8
_PAUSE_SHARE: Final = 0.8
"""Of the pushes that is left where nobody speaks."""

BANDS_HZ: Final = (0.15, 0.22, 0.34, 0.50, 0.75, 1.1, 1.6, 2.4, 3.0, 3.4)
"""Middles of the equaliser's bands."""


@dataclass(frozen=True)
class Manner:
    """How one person moves; another seed is another person.

    Attributes:
        gain: `(7,)`, of each channel; negative where the person is the mirror image.
        reading: From 0 for one who addresses many to 1 for one who reads aloud.
    """

    gain: NDArray[np.float64]
    reading: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> Manner:
        """A manner by chance: lively or calm, one who sways, who nods or who tilts the head."""
        sway, nod, tilt, near, brow = np.exp(random.normal(0.0, 0.12, 5))
        gain = np.array([sway, nod, near, tilt, sway, nod, brow])
        sides = MIRRORED if random.random() < 0.5 else np.ones(NUM_CHANNELS)
        return cls(gain * sides, float(random.uniform(0.0, 0.3)))


def head_path(flow: HeadFlow, rhythm: Rhythm, seed: int) -> Samples:
    """How the head of somebody who speaks so moves.

    Args:
        flow: The network.
        rhythm: `(T, 2)` at 12.5 Hz, see `model.motion.rhythm`.
        seed: Of noise and manner; 0 to 2**32 - 1.
    Returns:
        `(T, 7)`, see `model.motion.channels`, as large as its teachers' motions.
    """
    manner = Manner.draw(np.random.default_rng(seed))
    path = equalise(
        unequalised_path(flow, rhythm, seed, manner.reading), flow.band_gain.double().numpy()
    )
    return path * manner.gain


def unequalised_path(flow: HeadFlow, rhythm: Rhythm, seed: int, reading: float = 0.0) -> Samples:
    """The path as the flow makes it `(T, 7)`, of no manner but `reading`."""
    calm = _PAUSE_SHARE + (1.0 - _PAUSE_SHARE) * rhythm[:, :1]
    return from_pushes(calm * _pushes(flow, rhythm, seed, reading))


def equalise(path: Samples, band_gain: NDArray[np.float64]) -> Samples:
    """Multiply what a path `(T, 7)` does at `BANDS_HZ` by `band_gain` `(7, 10)`, without delay."""
    count = len(path)
    mirrored = np.concatenate([path[::-1], path, path[::-1]])
    frequencies = np.fft.rfftfreq(len(mirrored), 1.0 / RATE_HZ)
    at = np.log2(np.maximum(frequencies, BANDS_HZ[0] / 4))
    octaves = np.log2(BANDS_HZ)
    gain = np.stack([np.interp(at, octaves, channel) for channel in band_gain], axis=1)
    equalised = np.fft.irfft(np.fft.rfft(mirrored, axis=0) * gain, len(mirrored), axis=0)
    return np.asarray(equalised[count : 2 * count], np.float64)


@torch.no_grad()
def _pushes(flow: HeadFlow, rhythm: Rhythm, seed: int, reading: float) -> Samples:
    """Pushes `(T, 7)`, window by window."""
    generator = torch.Generator().manual_seed(seed)
    told = torch.from_numpy(np.pad(rhythm, ((0, WINDOW), (0, 0)), mode="edge")).float()
    pushes = torch.zeros(len(told), NUM_CHANNELS)
    manner = torch.full((1,), reading)
    start, settled = 0, 0
    while settled < len(rhythm):
        # 1. what is known of the window before
        here = slice(start, start + WINDOW)
        is_known = (torch.arange(start, start + WINDOW) < settled).float()[None]
        # 2. from noise to pushes, by the midpoint rule
        state = torch.randn(1, WINDOW, NUM_CHANNELS, generator=generator)
        known, inputs = pushes[here][None].clone(), (is_known, told[here][None], manner)
        for step in range(_STEPS):
            now, half = step / _STEPS, 0.5 / _STEPS
            velocity = flow(state, torch.full((1,), now), known, *inputs)
            velocity = flow(state + half * velocity, torch.full((1,), now + half), known, *inputs)
            state = state + velocity / _STEPS
        # 3. the next one goes on from its end
        pushes[settled : start + WINDOW] = state[0, settled - start :]
        settled = start + WINDOW
        start = settled - KNOWN
    return (pushes * flow.push_scale)[: len(rhythm)].double().numpy()
