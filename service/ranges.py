"""The `Range` header, RFC 9110 section 14."""

from __future__ import annotations

import re

from service.problems import ProblemError
from worker.contract.errors import ErrorCode

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The part of a file that is asked for.

    Args:
        header: Value of `Range`, empty if there is none.
        size: Bytes of the whole file.

    Returns:
        First byte and the byte after the last, or None for the whole file: several ranges, other
        units and broken headers may be ignored, and no player needs more.

    Raises:
        ProblemError: range_not_satisfiable, it lies behind the end.
    """
    match = _ONE_RANGE.fullmatch(header)
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first == "":
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= stop:
        raise ProblemError(
            ErrorCode.RANGE_NOT_SATISFIABLE,
            f"The video has {size} bytes; the range {header.strip()[:100]} lies outside.",
            params={"bytes": size},
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop
