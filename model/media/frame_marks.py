"""What is put on finished frames, by the writer and last of all.

    render ──frames, nobody else's pixels changed──▶ VideoWriter ──its own copy, marked──▶ encoder

What a pipeline yields stays as it is: outside the region that moves its frames equal the picture bit
by bit, and a caller who wants them so takes them from there.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class FrameMark(Protocol):
    """Changes frames on their way into the encoder."""

    def apply(self, frame: NDArray[np.uint8], number: int) -> None:
        """Change a frame in place.

        Args:
            frame: `(H, W, 3)`, uint8 RGB, the writer's own copy.
            number: Its place in the video, from 0.
        """
