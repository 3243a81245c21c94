"""Which Redis a command talks to, on a machine with `talkface up` and inside the images alike."""

from __future__ import annotations

import os
from pathlib import Path


def running_redis_url(data_dir: Path) -> str | None:
    """That of TALKFACE_REDIS_URL, else the private Redis of a running `talkface up`, else None."""
    if url := os.environ.get("TALKFACE_REDIS_URL"):
        return url
    # Late: the images have no private Redis and not this module either.
    try:
        from talkface.private_redis import private_redis_url
    except ModuleNotFoundError:
        return None
    return private_redis_url(data_dir.resolve())
