"""How many jobs a caller may have: open at the same time, and accepted in a day.

A place is taken before an upload is decoded and is free again when the job's id leaves the ledger's
`open`. Nobody has to give it back, so nothing is lost with a killed process.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from redis import Redis, RedisError

from service.problems import ProblemError
from service.security import Principal
from worker.contract.errors import ErrorCode

_PREFIX: Final = "tf:{j}:"
_OPEN: Final = f"{_PREFIX}open"
_DAY_S: Final = 86_400
# A place whose job never came is free again after so long; no upload is decoded for longer.
_GRACE_S: Final = 1800

# KEYS open, places, day; ARGV job, time, time before which a place without an open job is free,
# most places (0 = any), most a day (0 = any), seconds to keep.
# Answers 0 = taken, 1 = too many open, 2 = too many today.
_TAKE: Final = """
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3])) do
  if not redis.call('ZSCORE', KEYS[1], id) then redis.call('ZREM', KEYS[2], id) end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '+inf', '+inf')) do
  if not redis.call('ZSCORE', KEYS[1], id) then redis.call('ZREM', KEYS[2], id) end
end
if tonumber(ARGV[4]) > 0 and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 1 end
if tonumber(ARGV[5]) > 0 and tonumber(redis.call('GET', KEYS[3]) or 0) >= tonumber(ARGV[5]) then
  return 2
end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[6])
redis.call('INCR', KEYS[3])
redis.call('EXPIRE', KEYS[3], ARGV[6])
return 0
"""

# KEYS places; ARGV job. Its place is free as soon as it leaves `open`.
_CONFIRM: Final = "return redis.call('ZADD', KEYS[1], 'XX', '+inf', ARGV[1])"

# KEYS open, places, day; ARGV job. A job that was accepted after all keeps its place.
_RELEASE: Final = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('ZADD', KEYS[2], 'XX', '+inf', ARGV[1])
  return 0
end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then redis.call('DECR', KEYS[3]) end
return 1
"""


class Quotas:
    """The places of all callers in one Redis.

    Args:
        redis: The ledger's Redis.
        clock: Unix time in seconds.
    """

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._take = redis.register_script(_TAKE)
        self._confirm = redis.register_script(_CONFIRM)
        self._release = redis.register_script(_RELEASE)

    @contextmanager
    def place(self, principal: Principal, job_id: str) -> Iterator[None]:
        """Hold a place while a job is accepted; leave with an exception, and it is given back.

        Blocks on Redis: use it in a thread.

        Raises:
            ProblemError: concurrency_limited; rate_limited, when the day's jobs are used up.
            RedisError: Redis cannot be reached.
        """
        if principal.max_concurrent_jobs is None and principal.max_jobs_a_day is None:
            yield
            return
        now = self._clock()
        places = f"{_PREFIX}places:{principal.quota_id}"
        day = f"{_PREFIX}day:{principal.quota_id}:{int(now // _DAY_S)}"
        answer = self._take(
            keys=[_OPEN, places, day],
            args=[
                job_id,
                now,
                now - _GRACE_S,
                principal.max_concurrent_jobs or 0,
                principal.max_jobs_a_day or 0,
                2 * _DAY_S,
            ],
        )
        if answer:
            raise _refusal(int(answer), principal, now)
        try:
            yield
        except BaseException:
            # If Redis is away now, the place becomes free by its age.
            with contextlib.suppress(RedisError):
                self._release(keys=[_OPEN, places, day], args=[job_id])
            raise
        with contextlib.suppress(RedisError):
            self._confirm(keys=[places], args=[job_id])


def _refusal(answer: int, principal: Principal, now: float) -> ProblemError:
    if answer == 1:
        return ProblemError(
            ErrorCode.CONCURRENCY_LIMITED,
            f"You have {principal.max_concurrent_jobs} open jobs, as many as you may. "
            "Wait until one of them ends.",
            params={"max_concurrent_jobs": principal.max_concurrent_jobs},
            headers={"Retry-After": "5"},
        )
    return ProblemError(
        ErrorCode.RATE_LIMITED,
        f"Today's {principal.max_jobs_a_day} jobs are used up. The next day begins at 0:00 UTC.",
        params={"max_jobs_a_day": principal.max_jobs_a_day},
        headers={"Retry-After": str(int(_DAY_S - now % _DAY_S) + 1)},
    )
