"""Films of heads that move, made of photographs: a portrait that speaks, moved as a tracked head was.

    portrait ─▶ speaks with one voice ─▶ moved by a segment of `head_motion/` ─▶ film

Another voice is then dubbed over it. What the film's own mouth does is known, and so is where its ears are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from model.errors import InputError
from model.face.head_motion import HeadMotion

_EYES: Final = 0.27
"""Distance between the eyes, crop units: a track's unit of length."""


def tracked_motion(
    path: Path, number: int, num_frames: int, strength: float = 1.0, mirrored: bool = False
) -> HeadMotion:
    """A segment of a track as the motion of a photograph's head; nothing of it blinks or frowns.

    Args:
        path: `head_motion/weekly_addresses.npz`.
        number: Of the segment, counted over all tracks; every number is a segment.
        num_frames: Frames at 25 fps.
        strength: Factor on all motion.
        mirrored: Left and right exchanged.
    Raises:
        InputError: No segment is long enough.
    """
    tracks = np.load(path)
    pieces = []
    for name in sorted(key[:3] for key in tracks.files if key.endswith("_seg")):
        segment, motion = tracks[f"{name}_seg"], tracks[f"{name}_motion"].astype(np.float32)
        for value in np.unique(segment[segment >= 0]):
            rows = motion[segment == value]
            if len(rows) >= num_frames:
                pieces.append(rows[:num_frames])
    if not pieces:
        raise InputError(f"{path.name} has no segment of {num_frames} frames; ask for fewer")
    rows = strength * (pieces[number % len(pieces)] - pieces[number % len(pieces)][0])
    x, y, growth, roll = rows[:, :4].T
    if mirrored:
        x, roll = -x, -roll
    still = np.zeros((num_frames, 2), np.float32)
    return HeadMotion(
        np.radians(roll).astype(np.float32),
        growth,
        np.stack([x, y], axis=1) * np.float32(_EYES),
        1.0 + still,
        still,
    )
