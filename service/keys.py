"""API keys: `tf_<env>_<id>_<secret>`, kept as digests in Redis and in files.

The id finds the record, the secret proves the holder. A secret has 256 random bits, so a plain
SHA-256 of the key keeps it: there is nothing to guess that a slow hash would protect.

Redis answers whether a key is valid; the files (`service.key_files`) bring the keys back when Redis'
data is lost (`service.key_recovery`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, cast

from pydantic import BaseModel, ConfigDict
from redis import Redis

from service.key_files import KeyFiles
from worker.contract.artifacts import ArtifactStore

KEYS_HASH: Final = "tf:{j}:keys"
ENVIRONMENT: Final = re.compile(r"[a-z0-9]{1,16}")
PRINCIPAL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_KEY: Final = re.compile(r"tf_[a-z0-9]{1,16}_([0-9a-f]{16})_[0-9a-f]{64}")
# What an unknown id is compared with, so that it takes as long as a known one.
_NO_DIGEST: Final = "0" * 64


class Scope(StrEnum):
    """What a key may do. `admin` may do everything, with the jobs of everyone."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class ApiKey(BaseModel):
    """What is kept of a key.

    `principal` owns the jobs: the key's own id, or that of the key which it replaces. What is None
    of quotas and retention is the deployment's. Fields that another release added are kept when a record is
    written again.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    env: str
    name: str
    principal: str
    scopes: frozenset[Scope]
    max_concurrent_jobs: int | None = None
    max_jobs_a_day: int | None = None
    max_stored_bytes: int | None = None
    max_media_s_a_day: float | None = None
    max_open_media_s: float | None = None
    retention_s: float | None = None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    sha256: str

    def is_valid(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def revoked(self, revoked_at: datetime) -> ApiKey:
        """The same key, ended at `revoked_at` unless it had ended before."""
        if self.revoked_at is not None:
            return self
        return self.model_copy(update={"revoked_at": revoked_at})


class KeyReader:
    """The keys in one Redis, to be looked at. Every method may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def all(self) -> list[ApiKey]:
        """All keys, also those that are revoked, oldest first."""
        stored = cast(list[bytes], self._redis.hvals(KEYS_HASH))
        keys = [ApiKey.model_validate_json(raw) for raw in stored]
        return sorted(keys, key=lambda key: key.created_at)

    def authenticate(self, text: str) -> ApiKey | None:
        """The record of a key that is valid now, else None."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        raw = cast(bytes | None, self._redis.hget(KEYS_HASH, match[1]))
        key = ApiKey.model_validate_json(raw) if raw is not None else None
        expected = key.sha256 if key is not None else _NO_DIGEST
        is_same = hmac.compare_digest(_digest(text), expected)
        return key if is_same and key is not None and key.is_valid(datetime.now(UTC)) else None


class KeyStore(KeyReader):
    """The keys in one Redis and their files. Every method may raise `redis.RedisError`.

    Args:
        redis: A client.
        store: Where the files are.
    """

    def __init__(self, redis: Redis, store: ArtifactStore) -> None:
        super().__init__(redis)
        self._files = KeyFiles(store)

    def create(
        self,
        name: str,
        *,
        env: str = "live",
        scopes: Iterable[Scope] = (Scope.READ, Scope.WRITE),
        principal: str | None = None,
        max_concurrent_jobs: int | None = None,
        max_jobs_a_day: int | None = None,
        max_stored_bytes: int | None = None,
        max_media_s_a_day: float | None = None,
        max_open_media_s: float | None = None,
        retention_s: float | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            name: For people; told in lists.
            env: A word inside the key, so that a test key is seen to be one.
            scopes: What it may do.
            principal: Whose jobs it shares; by default nobody's.
            max_concurrent_jobs: Jobs that may be open at the same time; None: the deployment's.
            max_jobs_a_day: Jobs accepted in one day, UTC; None: the deployment's.
            max_stored_bytes: Bytes of files on the disk; None: the deployment's.
            max_media_s_a_day: Seconds of sound accepted in one day, UTC; None: the deployment's.
            max_open_media_s: Seconds of sound of open jobs; None: the deployment's.
            retention_s: How long results are kept, in seconds; None: the deployment's.
            expires_at: When it ends by itself.

        Returns:
            The record and the key itself, which is told this once and kept nowhere.

        Raises:
            ValueError: `env` or `principal` has characters that it may not have.
            ArtifactError: The file cannot be written; there is no key.
            OSError: The same.
        """
        if not ENVIRONMENT.fullmatch(env):
            raise ValueError(f"env is {env!r}; expected 1 to 16 of a-z and 0-9")
        if principal is not None and not PRINCIPAL.fullmatch(principal):
            raise ValueError(f"principal is {principal!r}; expected 1 to 63 of a-z, 0-9 and -")
        key_id = secrets.token_hex(8)
        text = f"tf_{env}_{key_id}_{secrets.token_hex(32)}"
        record = ApiKey(
            id=key_id,
            env=env,
            name=name,
            principal=principal or key_id,
            scopes=frozenset(scopes),
            max_concurrent_jobs=max_concurrent_jobs,
            max_jobs_a_day=max_jobs_a_day,
            max_stored_bytes=max_stored_bytes,
            max_media_s_a_day=max_media_s_a_day,
            max_open_media_s=max_open_media_s,
            retention_s=retention_s,
            created_at=datetime.now(UTC),
            expires_at=expires_at,
            sha256=_digest(text),
        )
        # The file comes first, so that a key that was given out is always in both. If Redis then
        # refuses, the file stays: it belongs to a key that nobody has seen.
        self._files.write_record(key_id, record.model_dump_json())
        self._redis.hset(KEYS_HASH, key_id, record.model_dump_json())
        return record, text

    def revoke(self, key_id: str) -> bool:
        """End a key at once and for ever; False if there is none of this id.

        Raises:
            ArtifactError: The file cannot be written. Redis refuses the key all the same.
            OSError: The same.
        """
        stored = self._stored(key_id)
        if stored is None and not self._files.has_record(key_id):
            return False
        revoked_at = (stored.revoked_at if stored is not None else None) or datetime.now(UTC)
        try:
            # The file comes first. If this process dies now, the reconciler tells Redis. The other
            # way round, a Redis that is lost before the file is there would bring the key back.
            if stored is not None:
                # The key may be older than the files are.
                self._files.write_record(key_id, stored.model_dump_json())
            self._files.write_revocation(key_id, revoked_at)
        finally:
            # A full disk must not keep a key alive; the reconciler writes the file when it can.
            end_in_redis(self._redis, key_id, revoked_at)
        return True

    def _stored(self, key_id: str) -> ApiKey | None:
        raw = cast(bytes | None, self._redis.hget(KEYS_HASH, key_id))
        return ApiKey.model_validate_json(raw) if raw is not None else None


def end_in_redis(redis: Redis, key_id: str, revoked_at: datetime) -> bool:
    """Revoke a key in Redis alone; False, and nothing changes, if it is unknown or ended there.

    Raises:
        redis.RedisError: Redis cannot be reached.
        pydantic.ValidationError: Its record cannot be read.
    """
    raw = cast(bytes | None, redis.hget(KEYS_HASH, key_id))
    if raw is None:
        return False
    key = ApiKey.model_validate_json(raw)
    if key.revoked_at is not None:
        return False
    # Nothing else of a record ever changes, so no other change can be overwritten here.
    redis.hset(KEYS_HASH, key_id, key.revoked(revoked_at).model_dump_json())
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
