"""Whether a Redis keeps what it was told, whatever happens to it.

A job is accepted when Redis has it on its disk; a Redis that writes now and then, or drops keys when
its memory is full, would make that a lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

REQUIRED: Final[Mapping[str, str]] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
}


def unsafe_settings(redis: Redis) -> list[str] | None:
    """What is set otherwise, as `name is value, not value`; None where Redis does not tell.

    Raises:
        redis.RedisError: Redis cannot be reached.
    """
    try:
        found: dict[str, str] = {}
        for name in REQUIRED:
            # One at a time: Redis 6.2 takes no more.
            found |= cast(dict[str, str], redis.config_get(name))
    except (NoPermissionError, ResponseError):
        # Managed services forbid CONFIG; their page of settings has the answer.
        return None
    return [
        f"{name} is {found.get(name, 'unknown')}, not {wanted}"
        for name, wanted in REQUIRED.items()
        if found.get(name) != wanted
    ]
