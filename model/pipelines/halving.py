"""A batch that does not fit into the device's memory is drawn in halves.

How large a batch may be depends on the card, and on what else it holds at the moment; neither is known before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

FloatPicture = NDArray[np.float32]
_log = logging.getLogger(__name__)


class Halving:
    """Draws batches in parts that fit; what did not fit once is not tried again."""

    def __init__(self) -> None:
        self._most: int | None = None

    def draw(self, draw_part: Callable[[slice], FloatPicture], num_frames: int) -> FloatPicture:
        """Draw a batch.

        Args:
            draw_part: Draws some frames of the batch `(n, H, W, 3)`.
            num_frames: Of the batch.
        Returns:
            All of them `(num_frames, H, W, 3)`.
        Raises:
            torch.OutOfMemoryError: One frame alone does not fit.
        """
        while True:
            most = num_frames if self._most is None else min(self._most, num_frames)
            starts = range(0, num_frames, most)
            try:
                parts = [draw_part(slice(at, min(at + most, num_frames))) for at in starts]
            except torch.OutOfMemoryError:
                if most == 1:
                    raise
                self._most = (most + 1) // 2
            else:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)
            # Outside of the handler, whose exception holds the tensors that were too many.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _log.warning("out of memory: %d frames at once instead of %d", self._most, most)
