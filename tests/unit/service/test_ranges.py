"""The Range header."""

from __future__ import annotations

import pytest

from service.problems import ProblemError
from service.ranges import parse_range


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=990-5000", (990, 1000)),
        ("bytes=-10", (990, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes = 1 - 2", (1, 3)),
        # May be ignored, and then the whole file is the answer.
        ("", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
        ("bytes=a-b", None),
    ],
)
def test_a_range_is_read(header: str, span: tuple[int, int] | None) -> None:
    assert parse_range(header, 1000) == span


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0"])
def test_a_range_behind_the_end_is_a_problem(header: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_range(header, 1000)

    assert caught.value.headers == {"Content-Range": "bytes */1000"}
