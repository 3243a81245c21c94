"""Measured heads that speak, as paths and rhythms: what the flow learns from and is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from model.media.audio import FPS, LOG_MEL_STD
from model.motion.channels import RATE_HZ
from model.motion.rhythm import Rhythm, level_rhythm, mouth_rhythm

ADDRESSES: Final = tuple(f"v{number:02d}" for number in range(1, 13))
"""Names in the table of tracks."""
_SHORTEST: Final = 2.5  # seconds
_NOISE_S: Final = 0.05
"""Standard deviation of the filter that takes a tracker's noise away."""
_NOSE_DEPTH: Final = 0.62
"""Of the nose tip before the eyes, inter-ocular distances."""
_MELS_A_FRAME: Final = 4


@dataclass(frozen=True)
class HeadTrack:
    """One stretch of a head that speaks, T samples at 12.5 Hz.

    Attributes:
        speaker: Whose head it is.
        path: `(T, 7)`, see `model.motion.channels`, relative to the stretch's median.
        rhythm: `(T, 2)`, see `model.motion.rhythm`.
    """

    speaker: str
    path: NDArray[np.float64]
    rhythm: Rhythm

    def scaled(self, gain: NDArray[np.float64]) -> HeadTrack:
        """The same with each channel multiplied by `gain` `(7,)`."""
        return replace(self, path=self.path * gain)


def read_addresses(file: Path, names: Sequence[str]) -> list[HeadTrack]:
    """The addresses `names` of a table of tracks without sound."""
    tracks = []
    with np.load(file) as table:
        for name in names:
            segments = table[f"{name}_seg"]
            columns = [table[f"{name}_{kind}"].astype(np.float64) for kind in ("motion", "mouth")]
            brow = table[f"{name}_brow"].astype(np.float64)
            for number in np.unique(segments[segments >= 0]):
                here = segments == number
                if here.sum() < _SHORTEST * FPS:
                    continue
                # the brows' tracker is the noisy one
                path = np.concatenate([columns[0][here], _calm(brow[here, None])], axis=1)
                tracks.append(
                    HeadTrack(name, _at_rest(path), mouth_rhythm(_slow(columns[1][here, 0])))
                )
    return tracks


def read_films(*files: Path) -> list[HeadTrack]:
    """Prepared GRID clips: landmarks in pixels and log-mel; held-out speakers are left out."""
    tracks = []
    for file in files:
        with np.load(file) as table:
            names, mels = table["names"], table["log_mel"]
            faces = table["landmarks"].astype(np.float64)
            left_out = (
                table["held_out"] if "held_out" in table.files else np.zeros(len(names), bool)
            )
        for name, face, mel, skipped in zip(names, faces, mels, left_out, strict=True):
            if skipped:
                continue
            level = mel.astype(np.float64).mean(axis=1).reshape(-1, _MELS_A_FRAME).mean(axis=1)
            level = 10.0 * LOG_MEL_STD * level  # decibels
            tracks.append(
                HeadTrack(str(name), _at_rest(_calm(face_path(face))), level_rhythm(_slow(level)))
            )
    return tracks


def face_path(faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Path `(T, 7)` at the faces' own rate of landmarks `(T, 68, 2)`, pixels, y downwards."""
    left, right = faces[:, 36], faces[:, 45]
    across = right - left
    distance = np.linalg.norm(across, axis=1)
    unit = np.median(distance)
    middle = (left + right) / 2
    roll = np.arctan2(across[:, 1], across[:, 0])
    cosine, sine = np.cos(roll), np.sin(roll)

    def upright(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = ((points - middle) / distance[:, None]).T
        return np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=1)

    nose = upright(faces[:, 30]) / _NOSE_DEPTH
    brow = -np.mean([upright(faces[:, p])[:, 1] for p in (18, 19, 20, 23, 24, 25)], axis=0)
    turns = np.degrees(np.arcsin(np.clip(nose - np.median(nose, axis=0), -0.9, 0.9)))
    shift = middle / unit
    return np.column_stack([shift, np.log(distance), np.degrees(roll), turns, brow])


def _at_rest(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """At 12.5 Hz, relative to the median."""
    return _slow(path - np.median(path, axis=0))


def _calm(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without a tracker's noise."""
    return np.asarray(gaussian_filter1d(path, _NOISE_S * FPS, axis=0), np.float64)


def _slow(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 25 to 12.5 samples a second, along the first axis."""
    rest = values.mean(axis=0)
    slow: NDArray[np.float64] = resample_poly(values - rest, 1, round(FPS / RATE_HZ), axis=0) + rest
    return slow
