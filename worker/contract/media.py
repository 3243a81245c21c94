"""Which ended jobs still have media on the disk.

    media   zset   ids whose media lie on the disk, by time of acceptance

`accept` adds an id, whoever erases the media takes it out. What stands in `media` and no more in
`open` has ended, whatever release ended it. Jobs that another release accepted do not stand here;
the sweep finds them by their files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, cast

from redis import Redis

from worker.contract.ledger_scripts import MEDIA, OPEN

# KEYS media, open; ARGV id. A job that a rebuilt ledger has open again stays.
_FORGET: Final = """
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
"""


@dataclass(frozen=True)
class EndedMedia:
    """A job that is no longer open and has media."""

    job_id: str


class MediaIndex:
    """The ids in one Redis; every method may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._forget = redis.register_script(_FORGET)

    def ended(self, *, limit: int = 64) -> list[EndedMedia]:
        """Jobs that ended, or were deleted, with media left; the oldest first.

        One step inside Redis over the open jobs, about a millisecond for a thousand.
        """
        found = cast(list[bytes], self._redis.zdiff([MEDIA, OPEN]))
        return [EndedMedia(job_id.decode()) for job_id in found[:limit]]

    def forget(self, job_id: str) -> None:
        """The media of an ended job are gone, or are left to the sweep."""
        self._forget(keys=[MEDIA, OPEN], args=[job_id])

    def postpone(self, job_id: str) -> None:
        """Let the other jobs have their turn before this one."""
        self._redis.zadd(MEDIA, {job_id: time.time()}, xx=True)
