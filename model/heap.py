"""Memory that was freed goes back to the system.

glibc keeps it for the threads that freed it: what planning needed for a while would lie beside what
drawing needs, and a long video would need more than a short one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Give back what is free; some milliseconds. Does nothing where the C library has no such call."""
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    # man 3 malloc_trim
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
