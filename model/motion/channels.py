"""What a moving head is made of, and the form in which a network learns it.

    path (T, 7) at 12.5 Hz ─▶ pushes: what a leaky integrator must be told to follow the path ─▶ network

A head's path has most of its power below 0.2 Hz and all of its life above; pushes are nearly white, so
a network that errs a little errs as little at 2 Hz as at 0.2. And since the integrator leaks, a head
whose pushes end comes back to rest by itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

RATE_HZ: Final = 12.5
"""Samples of a path per second; heads do next to nothing above 4 Hz."""
CHANNELS: Final = ("x", "y", "growth", "roll", "yaw", "pitch", "brow")
"""Shift of the face (inter-ocular distances, right and down positive), logarithm of its scale, three
angles (degrees: clockwise, to the right and down positive, as seen), lift of the brows (inter-ocular
distances, up positive)."""
MIRRORED: Final = np.array([-1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0])
"""Sign of each channel in a mirror."""
LEAK: Final = 0.9
"""What is left of a head's way a sample later when nothing pushes."""


def to_pushes(path: Samples) -> Samples:
    """Pushes `(..., T, 7)` that make `path` `(..., T, 7)`, from rest."""
    before = np.concatenate([np.zeros_like(path[..., :1, :]), path[..., :-1, :]], axis=-2)
    return np.asarray(path - LEAK * before, np.float64)


def from_pushes(pushes: Samples) -> Samples:
    """The path `(..., T, 7)` that `pushes` `(..., T, 7)` make, from rest."""
    path = np.array(pushes, np.float64)
    # Not scipy.signal's filter, whose import takes half a second: these are 12.5 steps a second.
    for step in range(1, path.shape[-2]):
        path[..., step, :] += LEAK * path[..., step - 1, :]
    return path
