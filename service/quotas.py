"""How much a caller may have: open jobs, jobs a day, bytes on the disk, seconds of sound.

A place is taken before an upload is read and is free again when the job's id leaves the ledger's
`open`. Nobody has to give it back, so nothing is lost with a killed process.

    with quotas.place(principal, job_id, upload_bytes) as place:    open jobs, jobs a day, bytes
        ...
        place.charge(seconds_of_sound)                              sound of the day, of open jobs
        ...
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from redis import Redis, RedisError

from service.problems import ProblemError
from service.quota_scripts import CHARGE, CONFIRM, DAY_S, RELEASE, TAKE
from service.security import Principal
from worker.contract.errors import ErrorCode
from worker.contract.ledger_scripts import OPEN, PREFIX, STORED

# A place whose job never came is free again after so long: longer than any upload takes to be read,
# which the deployment says, and then to be decoded and stored.
_DECODING_S: Final = 1800.0
_KEPT_S: Final = 2 * DAY_S


class Place:
    """One caller's place for one job; made by `Quotas.place`."""

    def __init__(self, quotas: Quotas, principal: Principal, job_id: str, now: float) -> None:
        caller, day = principal.quota_id, int(now // DAY_S)
        self._quotas = quotas
        self._principal = principal
        self._job_id = job_id
        self.keys: Final = [
            OPEN,
            f"{PREFIX}places:{caller}",
            f"{PREFIX}uploads:{caller}",
            f"{PREFIX}media-open:{caller}",
            f"{PREFIX}day:{caller}:{day}",
            f"{PREFIX}media-day:{caller}:{day}",
        ]

    def charge(self, media_s: float) -> None:
        """Count the job's seconds of sound; given back where the place is.

        Blocks on Redis: use it in a thread.

        Raises:
            ProblemError: quota_exceeded.
            RedisError: Redis cannot be reached.
        """
        self._quotas._charge(self, self._principal, self._job_id, media_s)


class _NoPlace(Place):
    """Of a caller without quotas."""

    def charge(self, media_s: float) -> None:
        """Nothing is counted."""


class Quotas:
    """The places of all callers in one Redis.

    Args:
        redis: The ledger's Redis.
        clock: Unix time in seconds.
        longest_upload_s: How long a request's body may take, in seconds.
    """

    def __init__(
        self,
        redis: Redis,
        clock: Callable[[], float] = time.time,
        *,
        longest_upload_s: float = 3600.0,
    ) -> None:
        self._clock = clock
        self._grace_s = longest_upload_s + _DECODING_S
        self._take_script = redis.register_script(TAKE)
        self._charge_script = redis.register_script(CHARGE)
        self._confirm_script = redis.register_script(CONFIRM)
        self._release_script = redis.register_script(RELEASE)

    @contextmanager
    def place(self, principal: Principal, job_id: str, upload_bytes: int = 0) -> Iterator[Place]:
        """Hold a place while a job is accepted; leave with an exception, and all is given back.

        Blocks on Redis: use it in a thread.

        Args:
            principal: Who asks.
            job_id: The job that is to be accepted.
            upload_bytes: Size of the request's body; 0 where it is not known.

        Raises:
            ProblemError: concurrency_limited; rate_limited, when the day's jobs are used up;
                quota_exceeded, when the upload does not fit.
            RedisError: Redis cannot be reached.
        """
        now = self._clock()
        if not principal.has_quotas:
            yield _NoPlace(self, principal, job_id, now)
            return
        place = Place(self, principal, job_id, now)
        self._take(place, principal, job_id, upload_bytes, now)
        try:
            yield place
        except BaseException:
            # If Redis is away now, the place becomes free by its age.
            with contextlib.suppress(RedisError):
                self._release_script(keys=place.keys, args=[job_id])
            raise
        with contextlib.suppress(RedisError):
            self._confirm_script(keys=place.keys, args=[job_id])

    def _take(
        self, place: Place, principal: Principal, job_id: str, upload_bytes: int, now: float
    ) -> None:
        limit, used = self._take_script(
            keys=[*place.keys, STORED],
            args=[
                *(job_id, now, now - self._grace_s, _KEPT_S, principal.quota_id, upload_bytes),
                _limit(principal.max_concurrent_jobs),
                _limit(principal.max_jobs_a_day),
                _limit(principal.max_stored_bytes),
            ],
        )
        if limit == 1:
            raise _too_many_open(principal)
        if limit == 2:
            raise _too_many_today(principal, now)
        if limit == 3:
            raise _too_many_bytes(principal, int(used), upload_bytes)

    def _charge(self, place: Place, principal: Principal, job_id: str, media_s: float) -> None:
        now = self._clock()
        limit, used = self._charge_script(
            keys=place.keys,
            args=[
                *(job_id, now - self._grace_s, _KEPT_S, media_s, now),
                _limit(principal.max_media_s_a_day),
                _limit(principal.max_open_media_s),
            ],
        )
        if limit == 1:
            raise _too_long_today(principal, float(used), media_s, now)
        if limit == 2:
            raise _too_long_open(principal, float(used), media_s)


def _limit(most: float | None) -> float | str:
    return "" if most is None else most


def _until_tomorrow(now: float) -> dict[str, str]:
    return {"Retry-After": str(int(DAY_S - now % DAY_S) + 1)}


def _too_many_open(principal: Principal) -> ProblemError:
    return ProblemError(
        ErrorCode.CONCURRENCY_LIMITED,
        f"You have {principal.max_concurrent_jobs} open jobs, as many as you may. "
        "Wait until one of them ends.",
        params={"max_concurrent_jobs": principal.max_concurrent_jobs},
        headers={"Retry-After": "5"},
    )


def _too_many_today(principal: Principal, now: float) -> ProblemError:
    return ProblemError(
        ErrorCode.RATE_LIMITED,
        f"Today's {principal.max_jobs_a_day} jobs are used up. The next day begins at 0:00 UTC.",
        params={"max_jobs_a_day": principal.max_jobs_a_day},
        headers=_until_tomorrow(now),
    )


def _too_many_bytes(principal: Principal, used: int, upload_bytes: int) -> ProblemError:
    most = principal.max_stored_bytes
    return ProblemError(
        ErrorCode.QUOTA_EXCEEDED,
        f"Your files take {used} of {most} bytes, and this upload has {upload_bytes}. Delete jobs, "
        "or wait until open ones end and results expire.",
        params={"stored_bytes": used, "upload_bytes": upload_bytes, "max_stored_bytes": most},
        # When is not known: it depends on what the caller deletes.
        headers={"Retry-After": "60"},
    )


def _too_long_today(
    principal: Principal, used_s: float, media_s: float, now: float
) -> ProblemError:
    most = principal.max_media_s_a_day
    return ProblemError(
        ErrorCode.QUOTA_EXCEEDED,
        f"Today's jobs have {used_s:.1f} of {most:g} seconds of sound, and this one has "
        f"{media_s:.1f}. The next day begins at 0:00 UTC.",
        params={
            "media_s_today": round(used_s, 3),
            "media_s": round(media_s, 3),
            "max_media_s_a_day": most,
        },
        headers=_until_tomorrow(now),
    )


def _too_long_open(principal: Principal, used_s: float, media_s: float) -> ProblemError:
    most = principal.max_open_media_s
    return ProblemError(
        ErrorCode.QUOTA_EXCEEDED,
        f"Your open jobs have {used_s:.1f} of {most:g} seconds of sound, and this one has "
        f"{media_s:.1f}. Wait until one of them ends.",
        params={
            "open_media_s": round(used_s, 3),
            "media_s": round(media_s, 3),
            "max_open_media_s": most,
        },
        headers={"Retry-After": "5"},
    )
