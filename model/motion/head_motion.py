"""From a voice to what a photograph's head does: the flow's path and blinks, in the photograph's units.

waveform ─▶ rhythm ─▶ head_path ─▶ strength, from rest ─┐
               └────▶ blinks · glances, breath ─────────┴─▶ HeadMotion, a frame each
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from model.face.alignment import TEMPLATE
from model.face.head_motion import HeadMotion
from model.face.thin_plate import smoothstep
from model.motion.blinks import blink_times, lid_openings
from model.motion.channels import CHANNELS, RATE_HZ, Samples
from model.motion.head_path import head_path
from model.motion.life import breaths, glances
from model.motion.rhythm import sound_rhythm
from model.networks.head_flow import HeadFlow

INTER_OCULAR: Final = float(TEMPLATE[3, 0] - TEMPLATE[0, 0])
"""Between the outer corners of the eyes, crop units."""

_NATURAL: Final = 0.32
"""Share of its teachers' motions that a head in a picture makes."""
_USUAL_RMS: Final = 0.30
"""Of its teachers' shifts, inter-ocular distances."""
_EVENED: Final = 0.5
"""How much of the way to `_USUAL_RMS` a long motion is brought, as a power: no minute is the liveliest of a life."""
_LONG_S: Final = 20.0
"""A shorter motion may be what it is: nobody moves much in a second."""
_LISTENING: Final = 0.6
"""Of the motion that is left to one who never speaks."""
_FROM_REST_S: Final = 0.8
"""Within which a head leaves the photograph's pose, or comes back to it."""
_LIMITS: Final = {
    "x": 0.35,
    "y": 0.3,
    "growth": 0.10,
    "roll": 9.0,
    "yaw": 10.0,
    "pitch": 9.0,
    "brow": 0.07,
}
_BLINKS: Final = 0xB11C
_SMALL: Final = 0x57A11
"""Blinks have random numbers of their own, and glances and breath: a head of another strength blinks as it did."""


def voice_motion(
    flow: HeadFlow | None,
    waveform: NDArray[np.float32],
    num_frames: int,
    fps: float,
    *,
    strength: float,
    blink: bool,
    seed: int,
    loop: bool = False,
) -> HeadMotion:
    """What the head of a photograph that speaks does; at its first frame it is the photograph's.

    Args:
        flow: The network; only a still head needs none.
        waveform: `(N,)`, float32, 16 kHz mono; silence makes a head that listens.
        num_frames: T, frames of the video.
        fps: Frames per second.
        strength: 0 = the head is still, 1 = natural.
        blink: Whether the eyes blink.
        seed: The same one gives the same motion.
        loop: The last frame is the photograph's again, too.
    Returns:
        T frames.
    """
    rhythm = sound_rhythm(waveform)
    times = np.arange(num_frames) / fps
    path = np.zeros((num_frames, len(CHANNELS)))
    if flow is not None and strength > 0.0:
        path = _evened(head_path(flow, rhythm, seed))
        if not rhythm[:, 0].any():
            path *= _LISTENING
        path = _bounded(strength * _NATURAL * _frames(path, times))
        path *= _from_rest(times, loop=loop)[:, None]
    lids = np.ones(num_frames, np.float32)
    if blink:
        random = np.random.default_rng((seed, _BLINKS))
        lids = lid_openings(blink_times(rhythm, random), times, random)
    motion = _head_motion(path, lids)
    if strength == 0.0:
        return motion
    random = np.random.default_rng((seed, _SMALL))
    calm = _from_rest(times, loop=loop)
    glance, breath = (min(strength, 1.0) * calm * x(times, random) for x in (glances, breaths))
    return replace(motion, glance=glance.astype(np.float32), breath=breath.astype(np.float32))


def still_motion(num_frames: int) -> HeadMotion:
    """A head that does nothing for T frames."""
    return _head_motion(np.zeros((num_frames, len(CHANNELS))), np.ones(num_frames, np.float32))


def _head_motion(path: Samples, lids: NDArray[np.float32]) -> HeadMotion:
    columns = dict(zip(CHANNELS, path.T.astype(np.float32), strict=True))
    shift = INTER_OCULAR * np.stack([columns["x"], columns["y"]], axis=1)
    return HeadMotion(
        turn=np.radians(columns["roll"]),
        growth=columns["growth"],
        shift=shift.astype(np.float32),
        lids=np.repeat(lids[:, None], 2, axis=1),
        lift=np.repeat(np.float32(-INTER_OCULAR) * columns["brow"][:, None], 2, axis=1),
        angles=np.radians(np.stack([columns["yaw"], columns["pitch"]], axis=1)),
    )


def _frames(path: Samples, times: NDArray[np.float64]) -> Samples:
    """A path `(T, 7)` at 12.5 Hz, at other times, seconds."""
    own = (np.arange(len(path)) + 0.5) / RATE_HZ
    if len(path) < 4:
        return np.zeros((len(times), path.shape[1]))
    inside = np.clip(times, own[0], own[-1])
    return np.asarray(CubicSpline(own, path, axis=0)(inside), np.float64)


def _evened(path: Samples) -> Samples:
    """A path `(T, 7)` at 12.5 Hz, neither as calm nor as lively as chance would have it."""
    shift = path[:, :2] - path[:, :2].mean(axis=0)
    own = float(np.sqrt((shift**2).sum(axis=1).mean()))
    share = _EVENED * min(1.0, len(path) / RATE_HZ / _LONG_S)
    return np.asarray(path * (_USUAL_RMS / max(own, 1e-9)) ** share, np.float64)


def _bounded(path: Samples) -> Samples:
    """No head goes further than a picture can follow."""
    limits = np.array([_LIMITS[name] for name in CHANNELS])
    return np.asarray(limits * np.tanh(path / limits), np.float64)


def _from_rest(times: NDArray[np.float64], *, loop: bool) -> NDArray[np.float64]:
    """How much of the motion there is `(T,)`: none at the first frame, and none at a loop's last."""
    away = times / _FROM_REST_S
    if loop:
        away = np.minimum(away, (times[-1] - times) / _FROM_REST_S)
    return smoothstep(away)
