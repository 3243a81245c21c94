"""How many bytes of each caller lie on the disk: one total a caller, exact over all processes.

    stored       hash   bytes by caller (`share` of the job, else its principal)
    stored-jobs  hash   `<bytes> <caller>` by job, without those that have none

Both change in one step inside Redis. A release that knows nothing of them may delete a job or erase
its files; the reconciler's sweep finds what they left here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from redis import Redis
from redis.client import Pipeline

from worker.contract.ledger_scripts import STORE_BYTES_FUNCTION, STORED, STORED_JOBS

# ARGV id, bytes.
_STORE: Final = STORE_BYTES_FUNCTION + "store_bytes(ARGV[1], tonumber(ARGV[2]))\nreturn 1\n"


def store_bytes(redis: Redis | Pipeline, job_id: str, num_bytes: int) -> None:
    """Say how large a job's files are now; also as a part of a transaction.

    A job that is not in the ledger has no bytes, whatever is said.
    """
    # The text, not its digest: nothing in a transaction may fail because Redis forgot a script.
    redis.eval(_STORE, 0, job_id, num_bytes)


def bytes_of(redis: Redis, share: str) -> int:
    """What lies on the disk of one caller, in bytes."""
    return int(cast(bytes | None, redis.hget(STORED, share)) or 0)


def counted_jobs(redis: Redis) -> Iterator[str]:
    """Ids of all jobs that have bytes; one may come twice."""
    for job_id, _ in redis.hscan_iter(STORED_JOBS):
        yield cast(bytes, job_id).decode()
