"""A batch that the device has no memory for is drawn in halves, and looks the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.pipelines.halving import Halving


class SmallDevice:
    """Has memory for so many frames at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[int] = []

    def draw(self, part: slice) -> np.ndarray:
        self.asked.append(part.stop - part.start)
        if self.asked[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        numbers = np.arange(part.start, part.stop, dtype=np.float32)
        return np.broadcast_to(numbers[:, None, None, None], (len(numbers), 2, 2, 3))


@pytest.mark.parametrize(("num_frames", "most"), [(8, 8), (8, 4), (8, 3), (7, 2), (5, 1)])
def test_all_frames_come_in_their_order(num_frames: int, most: int) -> None:
    frames = Halving().draw(SmallDevice(most).draw, num_frames)

    assert frames[:, 0, 0, 0].tolist() == list(range(num_frames))


def test_what_did_not_fit_is_not_tried_again() -> None:
    device, halving = SmallDevice(3), Halving()
    halving.draw(device.draw, 8)
    assert device.asked == [8, 4, 2, 2, 2, 2]
    device.asked.clear()

    halving.draw(device.draw, 8)

    assert device.asked == [2, 2, 2, 2]


def test_a_frame_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Halving().draw(SmallDevice(0).draw, 4)


def test_other_errors_pass() -> None:
    def fail(_part: slice) -> np.ndarray:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        Halving().draw(fail, 4)
