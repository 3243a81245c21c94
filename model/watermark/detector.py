"""Is a key's mark in a video, however it was scaled, cut or encoded again, and what does it say?

    frames ─▶ mean ─▶ band-pass, local normalisation ─▶ for each scale: folded on a tile ─▶ phases
    phases of the picture x phases of the key ─▶ correlation at every shift ─▶ grid found
    the other patterns' shifts against it ─▶ symbols ─▶ payload

Only phases are compared. The key's are independent and uniform, so for a wrong key the correlation of
any picture whatever is a sum of n independent cosines, and the chance that it exceeds z (in standard
deviations) is at most exp(-z²/2): Chernoff's bound, with E exp(t cos u) = I0(t) <= exp(t²/4).
`false_alarm` is that, times all that was tried: a proven bound, not a figure from a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.watermark.embedder import GRID_SHARE
from model.watermark.pattern import (
    CANVAS_PX,
    TILE_PX,
    Spectrum,
    band_bins,
    check_key,
    keyed_spectrum,
    surfaces,
)
from model.watermark.payload import NUM_SYMBOLS, PAYLOAD_BYTES, STEPS, decode_payload

Frame = NDArray[np.uint8]
Picture = NDArray[np.float32]

SEARCH_SIDE: Final = 96
"""Shifts tried along each side of the tile, 2.7 canvas pixels apart; the finer search tries all 256."""
MOST_FALSE_ALARM: Final = 1e-6

_SCALES: Final = np.exp(np.arange(math.log(0.8), math.log(1.255), 0.006))
_FINER: Final = np.exp(np.arange(-0.0045, 0.0046, 0.0015))
_CANDIDATES: Final = 3
_TRIED: Final = len(_SCALES) * SEARCH_SIDE**2 + _CANDIDATES * len(_FINER) * TILE_PX**2


@dataclass(frozen=True)
class Detection:
    """What the detector says of one video and one key.

    Attributes:
        found: Whether the key's mark is there: `false_alarm` is at most 1e-6.
        payload: Its 8 bytes, or None where they cannot be read for certain.
        score: Correlation with the key's grid in standard deviations; a wrong key has about 5.
        false_alarm: Bound on the chance that a wrong key scores as high on this video.
        scale: Of the marked picture against this one, both at the same area.
    """

    found: bool
    payload: bytes | None
    score: float
    false_alarm: float
    scale: float


@dataclass(frozen=True, eq=False)
class Trace:
    """What is left of a mark in a video, before any key is tried.

    Attributes:
        picture: Mean of all frames, band-passed and normalised `(H, W)`.
        phases: Of the folded picture at each scale `(S, n)`, magnitude 1.
    """

    picture: Picture
    phases: Spectrum

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> Self:
        """Of the frames `(H, W, 3)` uint8 RGB of a video, all of one size.

        Raises:
            InputError: There is no frame, or one has another size.
        """
        total: Picture | None = None
        count = 0
        for frame in frames:
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            if total is None:
                total = np.zeros(grey.shape, np.float32)
            if grey.shape != total.shape:
                raise InputError(
                    f"frame {count} has {grey.shape}, the ones before {total.shape}; expected one size"
                )
            cv2.accumulate(grey, total)
            count += 1
        if total is None:
            raise InputError("a video without frames has no watermark; expected at least one frame")
        return cls.of_mean(total / np.float32(count))

    @classmethod
    def of_mean(cls, mean: Picture) -> Self:
        """Of the mean brightness `(H, W)` of a video's frames."""
        picture = _normalised(mean)
        return cls(picture, np.stack([_folded_phases(picture, scale) for scale in _SCALES]))


def detect(trace: Trace, key: bytes) -> Detection:
    """Look for the mark of one key.

    Raises:
        ValueError: The key is too short.
    """
    check_key(key)
    patterns = np.stack([keyed_spectrum(key, label) for label in range(NUM_SYMBOLS + 1)])
    coarse = _correlate(trace.phases, patterns[0], SEARCH_SIDE).max(axis=(1, 2))
    best: tuple[float, float, Spectrum, int] | None = None
    for start in np.argsort(coarse)[-_CANDIDATES:]:
        for scale in _SCALES[start] * _FINER:
            phases = _folded_phases(trace.picture, float(scale))
            surface = _correlate(phases, patterns[0], TILE_PX)
            place = int(surface.argmax())
            score = float(surface.flat[place])
            if best is None or score > best[0]:
                best = score, float(scale), phases, place
    assert best is not None
    score, scale, phases, place = best
    score = max(score, float(coarse.max()))
    false_alarm = _bound(score, math.log(_TRIED))
    payload = _read_payload(phases, patterns, divmod(place, TILE_PX))
    return Detection(false_alarm <= MOST_FALSE_ALARM, payload, score, false_alarm, scale)


def grid_scores(trace: Trace, keys: Sequence[bytes]) -> NDArray[np.float32]:
    """Highest correlation of each key's grid at the scales of the search `(K,)`, standard deviations.

    What `detect` begins with, without the finer search around it.
    """
    grids = np.stack([keyed_spectrum(key, 0) for key in keys])
    best = np.zeros(len(keys), np.float32)
    for phases in trace.phases:
        scores = _correlate(phases, grids, SEARCH_SIDE).max(axis=(1, 2))
        best = np.maximum(best, scores)
    return best


def _normalised(mean: Picture) -> Picture:
    """Content taken away as far as it can be: a high pass, then the same contrast everywhere."""
    px = math.sqrt(mean.shape[0] * mean.shape[1]) / CANVAS_PX
    detail = mean - cv2.GaussianBlur(mean, (0, 0), 2 * px)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 4 * px))
    # The mark is stronger where there is detail, the noise even more so; outliers say nothing.
    return np.asarray(np.clip(detail / (contrast + 0.4), -2.5, 2.5), np.float32)


def _folded_phases(picture: Picture, scale: float) -> Spectrum:
    """Phases `(n,)` of the picture at one scale, all its tiles added up."""
    px = CANVAS_PX / math.sqrt(picture.shape[0] * picture.shape[1]) * scale
    width, height = round(picture.shape[1] * px), round(picture.shape[0] * px)
    way = cv2.INTER_AREA if px < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(picture, (width, height), interpolation=way)
    whole = np.pad(canvas, ((0, -height % TILE_PX), (0, -width % TILE_PX)))
    down, right = whole.shape[0] // TILE_PX, whole.shape[1] // TILE_PX
    folded = whole.reshape(down, TILE_PX, right, TILE_PX).sum(axis=(0, 2))
    spectrum = np.fft.rfft2(folded)[band_bins()]
    return (spectrum / np.maximum(np.abs(spectrum), 1e-12)).astype(np.complex64)


def _correlate(phases: Spectrum, pattern: Spectrum, side: int) -> NDArray[np.float32]:
    """Correlation at all shifts `(..., side, side)`: mean 0 and variance 1 for a wrong key."""
    # A cosine of a uniform phase has the variance 1/2.
    return surfaces(phases * np.conj(pattern), side) * math.sqrt(2 / phases.shape[-1])


def _bound(score: float, log_tried: float) -> float:
    """Most chance that any of so many wrong hypotheses scores as high."""
    return math.exp(min(0.0, log_tried - max(score, 0.0) ** 2 / 2))


def _read_payload(phases: Spectrum, patterns: Spectrum, origin: tuple[int, int]) -> bytes | None:
    """The payload of a grid that begins at `origin` (row, column of the tile), if it is beyond doubt."""
    surfaces_ = _correlate(phases[None], patterns, TILE_PX)
    aligned = np.roll(surfaces_, (-origin[0], -origin[1]), axis=(1, 2))
    step = TILE_PX // STEPS
    scores = aligned[1:, ::step, ::step].reshape(NUM_SYMBOLS, STEPS * STEPS)
    decoded = decode_payload(scores)
    if decoded is None:
        return None
    payload, word = decoded
    # All patterns together, at the strengths that they were drawn with: again variance 1 for a wrong key.
    said = float(scores[np.arange(NUM_SYMBOLS), list(word)].sum())
    total = math.sqrt(GRID_SHARE) * float(aligned[0, 0, 0])
    total += math.sqrt((1 - GRID_SHARE) / NUM_SYMBOLS) * said
    log_tried = math.log(_TRIED) + 8 * PAYLOAD_BYTES * math.log(2)
    return payload if _bound(total, log_tried) <= MOST_FALSE_ALARM else None
