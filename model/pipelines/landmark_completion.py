"""Speech + one face -> the face of every video frame.

    waveform ─▶ log-mel ─▶ LandmarkCompleter (25 fps) ─▶ One-Euro ─▶ lip_strength ─▶ pauses ─▶ fps

In pauses the mouth is the reference's own, shut, whatever the network says.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from model.face.landmarks import POSE
from model.face.retargeting import uncross_lips
from model.face.smoothing import closed_mouth, rest_lips, smooth, speech_gate
from model.media.audio import FPS, SAMPLE_RATE, log_mel
from model.networks.landmark_completion import LandmarkCompleter

_MIN_CUTOFF_HZ: Final = 8.0
"""Lips repeat a movement up to about 6 times a second; what is faster and small is jitter."""
_BETA: Final = 300.0
"""At the speed of a closing lip, 0.1 crop units a second and more, nothing is held back."""


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
) -> NDArray[np.float32]:
    """Landmarks of every frame of the video.

    Args:
        completer: On the CPU, fp32.
        waveform: `(N,)`, float32, 16 kHz.
        reference: The picture's face `(68, 2)`, crop units.
        fps: Frame rate of the result.
        lip_strength: Scale of the motion about the shut mouth; 0 keeps it shut.
    Returns:
        `(T, 68, 2)` float32, crop units, `T = ceil(fps * seconds)`. Pose points are the reference's,
        lips do not cross, and in pauses the mouth is shut.
    Raises:
        ShapeError: `waveform` or `reference` has another shape.
    """
    rest = closed_mouth(reference)
    completed = _complete(completer, waveform, reference)
    if len(completed) > 1:
        completed = smooth(completed, FPS, min_cutoff_hz=_MIN_CUTOFF_HZ, beta=_BETA)
    times_s = np.arange(num_output_frames(len(waveform), fps)) / fps
    resampled = _resample(completed, times_s)
    # The gate is evaluated at the output's own times: resampling would open a shut mouth again.
    gate = np.float32(lip_strength) * speech_gate(waveform, SAMPLE_RATE, times_s)
    target = rest_lips(resampled, rest, gate)
    uncross_lips(target)
    target[:, list(POSE)] = reference[list(POSE)]
    return target


def _complete(
    completer: LandmarkCompleter, waveform: NDArray[np.float32], reference: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The network over the whole recording, `(T, 68, 2)` at 25 fps."""
    mel = torch.from_numpy(log_mel(waveform))[None]
    face = torch.from_numpy(np.asarray(reference, np.float32))
    frames = mel.shape[1] * FPS // 100
    pose = face[list(POSE)].expand(1, frames, -1, -1)
    completed = completer.complete(mel, pose, face[None, None])
    return np.asarray(completed[0].float().numpy(), np.float32)


def _resample(landmarks: NDArray[np.float32], times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """Landmarks `(T, 68, 2)` at 25 fps, read at other times; never beyond neighbouring values."""
    own_s = np.arange(len(landmarks)) / FPS
    if len(own_s) == len(times_s) and np.allclose(own_s, times_s):
        return landmarks
    if len(own_s) == 1:
        return np.repeat(landmarks, len(times_s), axis=0)
    curve = PchipInterpolator(own_s, landmarks, axis=0)
    return np.asarray(curve(np.minimum(times_s, own_s[-1])), np.float32)
