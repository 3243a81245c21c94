"""What makes a still face say a recording: the completer by itself, or as the service uses it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.held_out_speech import Sound
from model.face.landmarks import POSE
from model.media.audio import MELS_PER_FRAME
from model.networks.landmark_completion import LandmarkCompleter

Points = NDArray[np.float32]

Speaker = Callable[[Sound, Points], Points]
"""Makes a still face `(68, 2)` say a recording: landmarks `(T, 68, 2)`."""


def network_alone(completer: LandmarkCompleter) -> Speaker:
    """The completer's own answer."""

    def speak(sound: Sound, reference: Points) -> Points:
        frames = len(sound.mel) // MELS_PER_FRAME
        face = torch.from_numpy(reference)[None, None].to(completer.device)
        pose = face[:, :, list(POSE)].expand(1, frames, -1, -1)
        mel = torch.from_numpy(sound.mel)[None].to(completer.device)
        target: Points = completer.complete(mel, pose, face)[0].cpu().numpy()
        return target

    return speak


def as_served(completer: LandmarkCompleter) -> Speaker:
    """What the pipeline makes of it: smoothing, and a shut mouth in pauses."""
    # Late: it needs OpenCV, which a machine that only trains on arrays has not.
    from model.pipelines.landmark_completion import complete_landmarks

    def speak(sound: Sound, reference: Points) -> Points:
        assert sound.waveform is not None
        target = complete_landmarks(completer, sound.waveform, reference)
        return target[: len(sound.mel) // MELS_PER_FRAME]

    return speak
