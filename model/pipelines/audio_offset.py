"""By how much a film's own words are early or late against its lips.

    film ──▶ lips and jaw as the camera saw them, 25 a second ──┐
                                                                ├─ correlation at every shift ──▶ offset
    sound ─▶ lips and jaw as the completer hears them, 100 a second ─┘

This needs words that the face in the film says: a clean recording of the same sentence, or the film's own sound.
For other words no shift is right, and the correlation says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.face.detection import FaceDetector
from model.face.landmarks import CHIN_TIP, lip_gap, mouth_width
from model.face.tracking import choose_reference, crop_landmarks, smooth_crops, track_face
from model.media.audio import FPS, SAMPLE_RATE
from model.media.frames import FrameSource
from model.networks.landmark_completion import LandmarkCompleter
from model.pipelines.landmark_completion import complete_landmarks
from model.pipelines.parallel import one_thread

LONGEST_MS: Final = 600
"""Greatest offset that is looked for, either way."""
WATCHED_S: Final = 30.0
"""So much of a film is watched: an offset is the same all through it."""

_HEARD_FPS: Final = 100
_SLOW_S: Final = 0.5
"""Slower movements than this (a smile, a nod's remainder) are no words."""
_WEIGHTS: Final = (0.625, 0.1875, 0.1875)
"""Of the gap between the lips, their width and the chin."""
_SURE: Final = 0.6
_SURE_AT_S: Final = 3.0
_LEAST_SURE: Final = 0.35
"""Correlation that other people's words do not reach: 97 % of them stay below 0.6 in 3 s, and what chance
reaches falls with the root of the length."""
_MARGIN: Final = 0.15
_APART_MS: Final = 100
"""By so much it is better than at any other peak."""


@dataclass(frozen=True)
class AudioOffset:
    """What was found.

    Attributes:
        milliseconds: By which the sound has to be moved: above 0 it is heard later; 0 where nothing is sure.
        correlation: Of what was seen and heard, at the best shift, -1 to 1.
        is_sure: Whether chance can be ruled out.
    """

    milliseconds: int
    correlation: float
    is_sure: bool

    @property
    def note(self) -> str:
        """A sentence for the person who sent the sound."""
        if not self.is_sure:
            return (
                f"The lips of the video do not tell where the sound belongs (correlation "
                f"{self.correlation:.2f}): it was not moved. Send its offset as `audio_offset_ms`."
            )
        return (
            f"The sound was moved by {self.milliseconds} ms, as the lips of the video ask for "
            f"(correlation {self.correlation:.2f})."
        )


def find_audio_offset(
    completer: LandmarkCompleter,
    detector: FaceDetector,
    film: FrameSource,
    waveform: NDArray[np.float32],
    face_index: int = 0,
) -> AudioOffset:
    """Watch a film and listen to its words.

    Args:
        completer: On the CPU, fp32.
        detector: Finds faces.
        film: Whose face says what is heard.
        waveform: `(N,)`, float32, 16 kHz.
        face_index: See `track_face`.
    Raises:
        InputError: As `track_face` says.
    """
    # 1. lips and jaw as they were seen, 25 a second
    seconds = min(WATCHED_S, film.num_frames / film.fps)
    shown = np.arange(int(seconds * FPS)) * (film.fps / FPS)
    index = np.minimum(np.floor(shown + 1e-3).astype(np.int64), film.num_frames - 1)
    track = track_face(film.read(0, int(index[-1]) + 1), detector, face_index)
    affines = smooth_crops(track.landmarks, film.fps, track.scene)
    seen = crop_landmarks(track.landmarks, affines, film.fps, track.scene)
    reference = seen[choose_reference(seen, track.found, track.sharpness)]
    # 2. as they are heard
    heard_s = WATCHED_S + LONGEST_MS / 1000
    with one_thread():
        heard = complete_landmarks(
            completer, waveform[: int(heard_s * SAMPLE_RATE)], reference, fps=_HEARD_FPS
        )
    return match_lips(seen[index], heard, track.found[index])


def match_lips(
    seen: NDArray[np.float32], heard: NDArray[np.float32], found: NDArray[np.bool_]
) -> AudioOffset:
    """The shift at which seen and heard lips agree best.

    Args:
        seen: Faces of the film `(T, 68, 2)`, crop units, 25 a second.
        heard: Faces of the sound `(U, 68, 2)`, crop units, 100 a second; both begin at 0 s.
        found: `(T,)`, where the face was seen.
    """
    step_ms = 1000 // _HEARD_FPS
    lags = np.arange(-LONGEST_MS // step_ms, LONGEST_MS // step_ms + 1)
    own, own_heard = _movement(seen, FPS), _movement(heard, _HEARD_FPS)
    at = np.arange(len(own)) * (_HEARD_FPS // FPS)
    agreement = np.full(len(lags), -1.0)
    for number, lag in enumerate(lags):
        # A sound that is late by `lag` says at t + lag what the lips said at t.
        both = found & (at + lag >= 0) & (at + lag < len(own_heard))
        if both.sum() >= FPS:
            pairs = zip(own[both].T, own_heard[at[both] + lag].T, _WEIGHTS, strict=True)
            agreement[number] = sum(weight * _correlation(x, y) for x, y, weight in pairs)
    best = int(agreement.argmax())
    peaks = np.flatnonzero(
        (agreement[1:-1] >= agreement[:-2]) & (agreement[1:-1] >= agreement[2:])
    ) + 1  # fmt: skip
    others = peaks[np.abs(lags[peaks] - lags[best]) * step_ms > _APART_MS]
    second = float(agreement[others].max()) if len(others) else -1.0
    compared_s = min(len(own) / FPS, len(own_heard) / _HEARD_FPS)
    sure = max(_LEAST_SURE, _SURE * min(1.0, (_SURE_AT_S / max(compared_s, 1e-3)) ** 0.5))
    highest = float(agreement[best])
    is_sure = highest >= sure and highest - second >= _MARGIN and 0 < best < len(lags) - 1
    late_ms = int(lags[best]) * step_ms
    return AudioOffset(-late_ms if is_sure else 0, round(highest, 3), is_sure)


def _movement(faces: NDArray[np.float32], fps: int) -> NDArray[np.float64]:
    """Gap, width and chin of faces `(T, 68, 2)` without what moves slowly: `(T, 3)`."""
    chin = faces[:, CHIN_TIP, 1] - faces[:, 27, 1]
    shape = np.stack([lip_gap(faces), mouth_width(faces), chin], axis=1).astype(np.float64)
    slow = gaussian_filter1d(shape, _SLOW_S * fps, axis=0, mode="nearest")
    return np.asarray(shape - slow, np.float64)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's; 0 where nothing moves."""
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm > 1e-9 else 0.0
