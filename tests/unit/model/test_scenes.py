"""Which frames are drawn together."""

from __future__ import annotations

import pytest

from model.pipelines.scenes import batch_spans


@pytest.mark.parametrize(
    ("num_frames", "most", "sizes"),
    [
        (30, 8, [2, 2, 4, 8, 8, 8]),
        (3, 8, [2, 2]),
        (3, 1, [1, 1, 1]),
        (40, 32, [2, 2, 4, 8, 16, 32]),
    ],
)
def test_batches_begin_small_and_follow_each_other(
    num_frames: int, most: int, sizes: list[int]
) -> None:
    spans = list(batch_spans(num_frames, most))

    assert [len(span) for span in spans] == sizes
    assert [span.start for span in spans] == [sum(sizes[:n]) for n in range(len(sizes))]
