"""Speech + one face -> the face of every video frame.

    waveform ─▶ log-mel ─▶ 3 x LandmarkCompleter (25 fps) ─▶ One-Euro ─▶ lip_strength ─▶ pauses ─▶ fps

In pauses the mouth is the reference's own, shut, whatever the network says. All this happens in the
reference's own frame; `follow_face` then carries lips and jaw to each frame of a moving head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from model.face.alignment import fit_similarity, invert_affine, warp_points
from model.face.landmarks import CONTENT, POSE, mouth_opening
from model.face.retargeting import uncross_lips
from model.face.smiles import relax_smile
from model.face.smoothing import closed_mouth, rest_lips, smooth, speech_gate
from model.face.tracking import turn_offsets
from model.heap import give_back
from model.media.audio import FPS, MELS_PER_FRAME, SAMPLE_RATE, log_mel
from model.networks.landmark_completion import LandmarkCompleter
from model.pipelines.parallel import map_ahead

_MIN_CUTOFF_HZ: Final = 8.0
"""Lips repeat a movement up to about 6 times a second; what is faster and small is jitter."""
_BETA: Final = 1000.0
"""At the speed of a closing lip, 0.1 crop units a second and more, nothing is held back: a lip that
touches the other for one frame must touch it."""
_READINGS: Final = (-1, 0, 1)
"""The sound is heard so many 10 ms late: what only one hearing says is chance."""
_AT_ONCE: Final = 620
"""Frames that are completed together; with their neighbours, one piece of the network's."""
_AT_ONCE_LONG: Final = 310
_LONG: Final = 120 * FPS
"""Recordings of so many frames and more have shorter pieces: less memory, and a fifth more time."""
_TOUCH: Final = 0.04
"""Opening below which lips begin to count as touching; at half of it they do."""


def num_output_frames(num_samples: int, fps: float) -> int:
    """Frames that cover a recording of `num_samples` at 16 kHz."""
    return max(1, math.ceil(fps * num_samples / SAMPLE_RATE - 1e-6))


def complete_landmarks(
    completer: LandmarkCompleter,
    waveform: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    fps: float = FPS,
    lip_strength: float = 1.0,
    more_references: Sequence[NDArray[np.float32]] = (),
    pose: NDArray[np.float32] | None = None,
    workers: int = 1,
) -> NDArray[np.float32]:
    """Landmarks of every frame of the video, in the reference's own pose.

    Args:
        completer: On the CPU, fp32.
        waveform: `(N,)`, float32, 16 kHz.
        reference: The picture's face `(68, 2)`, crop units.
        fps: Frame rate of the result.
        lip_strength: Scale of the motion about the shut mouth; 0 keeps it shut.
        more_references: Further pictures of the same face `(68, 2)`, crop units each.
        pose: Pose points at 25 fps `(ceil(25 * seconds), 37, 2)`, crop units; None = the
            reference's all the time. What the network sees of a moving head.
        workers: Threads; they change no result.
    Returns:
        `(T, 68, 2)` float32, crop units, `T = ceil(fps * seconds)`. Pose points are the reference's,
        lips do not cross, and in pauses the mouth is shut.
    Raises:
        ShapeError: `waveform`, `reference` or `pose` has another shape.
    """
    rest = closed_mouth(reference)
    if pose is None:  # a film's own frames say how its lips rest
        rest = relax_smile(rest[None], reference)[0]
    completed = _complete(completer, waveform, [reference, *more_references], pose, workers)
    if len(completed) > 1:
        completed = smooth(completed, FPS, min_cutoff_hz=_MIN_CUTOFF_HZ, beta=_BETA)
    times_s = np.arange(num_output_frames(len(waveform), fps)) / fps
    resampled = _resample(completed, times_s)
    if pose is None:
        resampled = relax_smile(resampled, reference)
    # The gate is evaluated at the output's own times: resampling would open a shut mouth again.
    gate = np.float32(lip_strength) * speech_gate(waveform, SAMPLE_RATE, times_s)
    target = rest_lips(resampled, rest, gate)
    uncross_lips(target)
    target[:, list(POSE)] = reference[list(POSE)]
    return target


def follow_face(
    landmarks: NDArray[np.float32],
    reference: NDArray[np.float32],
    shown: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Carry lips and jaw to the pose of each frame.

    Args:
        landmarks: From `complete_landmarks` `(T, 68, 2)`, in the reference's pose.
        reference: `(68, 2)`, crop units.
        shown: The face that each frame shows `(T, 68, 2)`, crop units.
    Returns:
        `(T, 68, 2)` float32; pose points are those shown.
    """
    pose = list(POSE)
    turned = landmarks.copy()
    turned[:, list(CONTENT)] += turn_offsets(shown, reference)
    carried = np.stack(
        [
            warp_points(fit_similarity(reference[pose], face[pose]), points)
            for points, face in zip(turned, shown, strict=True)
        ]
    )
    carried[:, pose] = shown[:, pose]
    return carried


def _complete(
    completer: LandmarkCompleter,
    waveform: NDArray[np.float32],
    references: Sequence[NDArray[np.float32]],
    pose: NDArray[np.float32] | None,
    workers: int,
) -> NDArray[np.float32]:
    """The network over the whole recording, `(T, 68, 2)` at 25 fps, in the first reference's pose."""
    mel = log_mel(waveform)
    faces = torch.from_numpy(np.stack(references).astype(np.float32))
    frames = len(mel) // MELS_PER_FRAME
    own = faces[0, list(POSE)]
    shown = own.expand(1, frames, -1, -1) if pose is None else torch.from_numpy(pose)[None]
    reach = completer.receptive_field
    at_once = _AT_ONCE if frames < _LONG else _AT_ONCE_LONG

    def piece(start: int) -> NDArray[np.float32]:
        stop = min(frames, start + at_once)
        low, high = max(0, start - 1), min(frames, stop + 1)  # a closing mouth has neighbours
        first, last = max(0, low - reach), min(frames, high + reach)
        hops = np.arange(MELS_PER_FRAME * first, MELS_PER_FRAME * last)
        readings = []
        for late in _READINGS:
            heard = torch.from_numpy(mel[np.clip(hops - late, 0, len(mel) - 1)])[None]
            completed = completer.complete(heard, shown[:, first:last], faces[None])
            readings.append(completed[0, low - first : high - first].float().numpy())
        return _agree(np.stack(readings))[start - low : stop - low]

    # Piece by piece: of ten minutes the readings are 25 MB, and copies as large.
    points = np.concatenate(list(map_ahead(piece, range(0, frames, at_once), workers)))
    give_back()
    if pose is None:
        return points
    # The network carries its offsets to each frame's pose; the mouth is judged at rest.
    return np.stack(
        [
            warp_points(invert_affine(fit_similarity(own.numpy(), there)), face)
            for there, face in zip(pose, points, strict=True)
        ]
    )


def _agree(readings: NDArray[np.float32]) -> NDArray[np.float32]:
    """One face of several readings of a moment `(K, T, 68, 2)` -> `(T, 68, 2)`: their mean.

    Where the mean opening is smallest for the moment and the lips touch in one of the readings,
    that one counts alone: the mean of mouths that shut a moment sooner or later is never shut.
    """
    mean = readings.mean(axis=0)
    opening = mouth_opening(readings)  # (K, T)
    narrowest = opening.argmin(axis=0)
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(mouth_opening(mean), 1, mode="edge"), 3
    )
    closing = around[:, 1] <= around.min(axis=1)
    alone = closing * np.clip(2.0 - opening.min(axis=0) / (_TOUCH / 2), 0.0, 1.0)
    shut = readings[narrowest, np.arange(len(mean))]
    agreed: NDArray[np.float32] = (mean + alone[:, None, None] * (shut - mean)).astype(np.float32)
    return agreed


def _resample(landmarks: NDArray[np.float32], times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """Landmarks `(T, 68, 2)` at 25 fps, read at other times; never beyond neighbouring values."""
    own_s = np.arange(len(landmarks)) / FPS
    if len(own_s) == len(times_s) and np.allclose(own_s, times_s):
        return landmarks
    if len(own_s) == 1:
        return np.repeat(landmarks, len(times_s), axis=0)
    curve = PchipInterpolator(own_s, landmarks, axis=0)
    return np.asarray(curve(np.minimum(times_s, own_s[-1])), np.float32)
