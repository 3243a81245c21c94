"""Idempotency keys: the same request, sent again, finds the job that it made the first time.

    lookup ──none──▶ reserve ──▶ accept (with the job, in its transaction)
                        └── the request is refused: release

The scope of a key is its caller. A key is reserved before the body of its request is read, when the
fingerprint is not known yet. The reservation keeps a twin that comes meanwhile from doing the same
work; it ends by itself where its process died.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, cast

from pydantic import Field
from redis import Redis
from redis.client import Pipeline

from worker.contract.ledger_scripts import PREFIX
from worker.contract.message import Message

KEPT_S: Final = 86_400
"""How long a key leads to its job, in seconds."""
RESERVED_S: Final = 30
"""How long a reservation holds without an outcome or a renewal, in seconds.

Whoever asks again because the server died waits so long. It may run out under a request that is still
decoded: a twin then does the same work, and `watch` lets one of them become the job.
"""


class IdempotencyKey(Message):
    """What a request is known by.

    Args:
        principal: The caller; None where nobody has a key.
        key: The header's value, 1 to 255 characters.
        fingerprint: Options and sha256 of the files, so that another request is told apart; empty
            until the files have arrived.
        holder: A word of its own for the request that reserves it.
    """

    principal: str | None
    key: str = Field(min_length=1, max_length=255)
    fingerprint: str = ""
    holder: str = Field(default_factory=lambda: secrets.token_hex(8))

    @property
    def redis_key(self) -> str:
        """Where it is stored; a caller's own words are hashed, never part of a name."""
        return _redis_key(self.principal, self.key)


class IdempotencyRecord(Message):
    """What is known of a key; `job_id` is None while the first request is in flight.

    `holder` is that request's word for itself; requests of 0.2.1 have none.
    """

    fingerprint: str
    job_id: str | None = None
    holder: str | None = None

    def is_reservation_of(self, key: IdempotencyKey) -> bool:
        """Whether this is the reservation that a request made itself."""
        return self.job_id is None and self.holder == key.holder


class IdempotencyTakenError(Exception):
    """The key leads to another job, or to another request in flight.

    Args:
        record: What it leads to.
    """

    def __init__(self, record: IdempotencyRecord) -> None:
        super().__init__("the idempotency key is taken")
        self.record = record


class IdempotencyKeys:
    """The keys in one Redis; every method may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def lookup(self, principal: str | None, key: str) -> IdempotencyRecord | None:
        """What a key leads to, or None."""
        stored = cast(bytes | None, self._redis.get(_redis_key(principal, key)))
        return None if stored is None else IdempotencyRecord.model_validate_json(stored)

    def reserve(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """Hold a key for the request at hand; None = held, else what stands there already."""
        reservation = IdempotencyRecord(
            fingerprint=key.fingerprint, holder=key.holder
        ).model_dump_json()
        while True:
            if self._redis.set(key.redis_key, reservation, nx=True, ex=RESERVED_S):
                return None
            if (found := self.lookup(key.principal, key.key)) is not None:
                return found

    def renew(self, key: IdempotencyKey) -> None:
        """Hold a reservation for longer; one that has run out stays so."""
        found = self.lookup(key.principal, key.key)
        if found is not None and found.is_reservation_of(key):
            self._redis.expire(key.redis_key, RESERVED_S)

    def release(self, key: IdempotencyKey) -> None:
        """Let a key go whose request was refused; a job that it leads to stays."""
        found = self.lookup(key.principal, key.key)
        if found is not None and found.is_reservation_of(key):
            self._redis.delete(key.redis_key)

    def watch(self, pipeline: Pipeline, key: IdempotencyKey) -> None:
        """Make a transaction depend on the key as it is now.

        Raises:
            IdempotencyTakenError: It leads elsewhere.
        """
        pipeline.watch(key.redis_key)  # type: ignore[no-untyped-call]
        stored = cast(bytes | None, pipeline.get(key.redis_key))
        if stored is None:
            return
        found = IdempotencyRecord.model_validate_json(stored)
        if not found.is_reservation_of(key):
            raise IdempotencyTakenError(found)

    def write(self, pipeline: Pipeline, key: IdempotencyKey, job_id: str) -> None:
        """Add to a transaction that the key leads to a job from now on."""
        record = IdempotencyRecord(fingerprint=key.fingerprint, job_id=job_id)
        pipeline.set(key.redis_key, record.model_dump_json(), ex=KEPT_S)


def _redis_key(principal: str | None, key: str) -> str:
    return f"{PREFIX}idem:{principal or ''}:{hashlib.sha256(key.encode()).hexdigest()}"
