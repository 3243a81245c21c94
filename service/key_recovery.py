"""Keys between Redis and their files: each gets what only the other one has.

    keep      Redis ──▶ files    keys and revocations that have no file yet (the reconciler)
              files ──▶ Redis    revocations only
    restore   files ──▶ Redis    keys that Redis has lost, and revocations (`talkface rebuild`)

A revocation goes both ways because it is for ever: whoever knows of it is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pydantic import ValidationError
from redis import Redis

from service.key_files import KeyFiles
from service.keys import KEYS_HASH, ApiKey, end_in_redis
from worker.contract.artifacts import ArtifactError, ArtifactStore
from worker.contract.logs import get_logger

_log = get_logger("keys")


@dataclass
class RestoredKeys:
    """What became of the keys that have files.

    Args:
        known: How many Redis had.
        restored: How many came back.
        revoked: How many of both are revoked.
        unreadable: How many have no `key.json` that can be read.
    """

    known: int = 0
    restored: int = 0
    revoked: int = 0
    unreadable: int = 0


class KeyRecovery:
    """The keys in one Redis and one artifact store.

    Every method may raise `redis.RedisError`, and OSError when the volume cannot be used. All of it
    is safe to repeat, and to run while keys are made and revoked.
    """

    def __init__(self, redis: Redis, store: ArtifactStore) -> None:
        self._redis = redis
        self._files = KeyFiles(store)

    def keep(self) -> int:
        """Write the files that keys in Redis lack, and tell Redis what was revoked.

        Only for a Redis that these files belong to: what another one knows would come back as ours.

        Returns:
            How many keys had to be written anywhere. A full volume is logged and tried again at
            the next call.
        """
        stored = cast(dict[bytes, bytes], self._redis.hgetall(KEYS_HASH))
        changed = 0
        for raw_id, raw in stored.items():
            try:
                changed += self._keep(raw_id.decode(), raw)
            except ArtifactError as error:  # no room, for the others neither
                _log.error("keys_not_kept", reason=str(error))
                return changed
            except ValueError:  # pydantic's ValidationError, or an id that is none
                _log.error("key_unreadable", key=repr(raw_id))
        return changed

    def restore(self) -> RestoredKeys:
        """Bring back every key that Redis does not have.

        A key that Redis has stays as it is there, except that a revocation in the files wins.
        """
        told = RestoredKeys()
        for key_id in self._files.ids():
            record = self._record(key_id)
            if record is None:
                told.unreadable += 1
                continue
            # Nothing changes if it is there: what stands in Redis is as new as the file or newer.
            is_new = self._redis.hsetnx(KEYS_HASH, key_id, record.model_dump_json())
            told.restored += bool(is_new)
            told.known += not is_new
            try:
                # Read once more: somebody may have revoked the key after its files were read.
                self._tell_redis(key_id)
                told.revoked += self._is_revoked(key_id)
            except ValidationError:
                _log.error("key_unreadable", key=key_id)
        return told

    def _keep(self, key_id: str, raw: bytes) -> bool:
        key = ApiKey.model_validate_json(raw)
        is_changed = False
        if not self._files.has_record(key_id):
            # As it stands in Redis, with fields that this version does not know.
            is_changed = self._files.write_record(key_id, raw.decode())
        if self._files.is_revoked(key_id):
            return self._tell_redis(key_id) or is_changed
        if key.revoked_at is not None:
            return self._files.write_revocation(key_id, key.revoked_at) or is_changed
        return is_changed

    def _tell_redis(self, key_id: str) -> bool:
        revoked_at = self._files.revoked_at(key_id)
        return revoked_at is not None and end_in_redis(self._redis, key_id, revoked_at)

    def _is_revoked(self, key_id: str) -> bool:
        raw = cast(bytes | None, self._redis.hget(KEYS_HASH, key_id))
        return raw is not None and ApiKey.model_validate_json(raw).revoked_at is not None

    def _record(self, key_id: str) -> ApiKey | None:
        """What the files say of a key, with its revocation; None if they cannot be read."""
        try:
            key = ApiKey.model_validate_json(self._files.record(key_id) or "")
        except ValidationError:
            return None
        if key.id != key_id:
            return None
        revoked_at = self._files.revoked_at(key_id)
        return key if revoked_at is None else key.revoked(revoked_at)
