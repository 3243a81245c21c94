"""How many files and sockets a process may hold open."""

from __future__ import annotations

import resource
from typing import Final

# Where the system sets no limit, this many are far more than the service can use.
_MOST: Final = 2**20
# Kept free for uploads, downloads, decoders, Redis and the log.
_RESERVE: Final = 256


def raise_descriptor_limit() -> int:
    """Raise the soft limit of this process and its children to the hard limit.

    Returns:
        The soft limit that holds now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return descriptor_limit()


def descriptor_limit() -> int:
    """The soft limit of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def connections_within(descriptors: int) -> int:
    """How many connections a process may hold open that has a limit of `descriptors`."""
    return max(1, descriptors - min(_RESERVE, descriptors // 4))
