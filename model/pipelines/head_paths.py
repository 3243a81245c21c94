"""How the head of a photograph moves once its mouth is drawn: by its own voice, or as a driver does."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.checkpoints import HEAD_FLOW
from model.face.detection import FaceDetector
from model.face.head_motion import HeadMotion
from model.face.thin_plate import smoothstep
from model.media.frames import FrameSource
from model.motion.head_motion import voice_motion
from model.networks.head_flow import HeadFlow
from model.pipelines.dubbing import follow_driver
from model.pipelines.landmark_completion import num_output_frames
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import HeadPath
from model.pipelines.parallel import one_thread

_CLOSING_S: Final = 0.24
"""Within which the mouth of a loop comes back to its first shape."""
_log = logging.getLogger(__name__)


def voice_path(
    flow: HeadFlow | None, waveform: NDArray[np.float32], fps: float, options: RenderOptions
) -> HeadPath | None:
    """The photograph's own motion; None where it neither moves nor blinks.

    Args:
        flow: The network; without it only the eyes move, and the log says so.
        waveform: `(N,)`, float32, 16 kHz mono.
        fps: Frames per second of the video.
        options: The caller's choices.
    """
    strength = options.motion_strength
    if strength > 0.0 and flow is None:
        _log.warning(
            "The checkpoint has no %s/, so the head is still. Pack one with "
            "`python -m model.training.builders.export`.",
            HEAD_FLOW,
        )
        strength = 0.0
    if strength == 0.0 and not options.blink:
        return None
    count = num_output_frames(len(waveform), fps)
    with one_thread():
        motion = voice_motion(
            flow,
            waveform,
            count,
            fps,
            strength=strength,
            blink=bool(options.blink),
            seed=options.seed,
            loop=options.loop,
        )
    return HeadPath(motion=motion, source_index=np.arange(count, dtype=np.int64))


def driver_path(
    driving: FrameSource,
    detector: FaceDetector,
    waveform: NDArray[np.float32],
    fps: float,
    options: RenderOptions,
) -> HeadPath:
    """The motion of the head in a driving video, with its blinks unless the options say otherwise.

    Args:
        driving: The video.
        detector: Finds its face.
        waveform: `(N,)`, float32, 16 kHz mono.
        fps: Frames per second of the result.
        options: The caller's choices.
    Raises:
        InputError: The video shows no face.
    """
    head = follow_driver(driving, detector, num_samples=len(waveform), fps=fps)
    return head if options.blink is not False else replace(head, motion=without_blinks(head.motion))


def without_blinks(motion: HeadMotion) -> HeadMotion:
    """The same motion with open eyes."""
    return replace(motion, lids=np.ones_like(motion.lids))


def close_loop(targets: NDArray[np.float32], fps: float) -> NDArray[np.float32]:
    """Landmarks `(T, 68, 2)` whose last face is the first one."""
    before_end = (len(targets) - 1 - np.arange(len(targets))) / fps
    share = smoothstep((1.0 - before_end / _CLOSING_S).astype(np.float32))[:, None, None]
    closed = targets + share * (targets[0] - targets)
    closed[-1] = targets[0]
    return closed.astype(np.float32)
