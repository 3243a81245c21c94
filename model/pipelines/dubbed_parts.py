"""Parts of a film that are dubbed: the rest is its own frames, and at the borders the mouth does not jump.

second   ... 2.0 ............................. 4.0 ...
share    0   0 ╱ 1   1   1   1   1   1   1   1 ╲ 0   0      of the drawn mouth's shape, inside the range
cover    0   0│1 1   1   1   1   1   1   1   1 1│0   0      of the drawn pixels: sooner, as shapes still agree

Outside the parts frames are the film's own, bit for bit; borders lie inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.thin_plate import smoothstep

_BORDER_S: Final = 0.16
"""In which a mouth comes from the film's own shape to the wanted one: as quick as speech."""
_COVER: Final = 2.5
"""The drawn pixels are there after this part of a border: two shapes that differ would be seen through one another."""


def drawn_share(
    num_frames: int, fps: float, dubbed: Sequence[tuple[float, float]]
) -> NDArray[np.float32]:
    """How far each frame's mouth is the wanted one `(T,)`: 0 outside the parts, 1 inside, between at their borders.

    Args:
        num_frames: T.
        fps: Frames per second.
        dubbed: Start and end in seconds. Where one begins as another ends, or where the film begins or ends, is no
            border.
    """
    times_s = (np.arange(num_frames) + 0.5) / fps
    film_s = num_frames / fps
    share = np.zeros(num_frames, np.float32)
    for start, end in _joined(dubbed, 1 / fps):
        into_s = np.full(num_frames, np.inf) if start <= 0.5 / fps else times_s - start
        left_s = np.full(num_frames, np.inf) if end >= film_s - 1 / fps else end - times_s
        inside = (times_s > start) & (times_s < end)
        nearest_s = np.minimum(into_s, left_s)
        rise = smoothstep((nearest_s / _BORDER_S).clip(0.0, 1.0).astype(np.float32))
        share = np.where(inside, rise, share)
    return share.astype(np.float32)


def fade_in(own: NDArray[np.uint8], drawn: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """A frame whose mouth is `share` of its way: the film's own `(H, W, 3)`, and the drawn one over it."""
    cover = min(1.0, _COVER * share)
    if cover == 1.0:
        return drawn
    mixed = own + np.float32(cover) * (drawn.astype(np.float32) - own)
    return np.asarray(np.clip(mixed + 0.5, 0, 255), np.uint8)


def _joined(dubbed: Sequence[tuple[float, float]], gap_s: float) -> list[tuple[float, float]]:
    """Parts in their order; those that touch are one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(dubbed):
        if joined and start <= joined[-1][1] + gap_s:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
