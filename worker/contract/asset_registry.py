"""The assets in one Redis: whose they are, when they are erased, and who has to work on them.

    asset:<id>                 string  the asset
    assets:<kind>:<principal>  zset    a caller's ids by time of acceptance
    asset-expire               zset    ids by the time they are erased
    asset-tasks:<desk>         zset    ids that wait for a desk, by the time they are due
    asset-bell:<desk>          list    wakes a desk; a lost one costs a second

    add ──▶ [decode ──▶] inspect ──▶ ready | failed

A task that somebody took is due again after a while; so nothing is lost with a killed process, and
who takes it for the fourth time finds that it fails. Nothing of this is a job: jobs copy (by hard
links) what they use, so an asset may go at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, cast

from redis import Redis, WatchError
from redis.client import Pipeline

from worker.contract.assets import Asset, AssetKind, AssetState, DeskName
from worker.contract.errors import ErrorCode
from worker.contract.idempotency import IdempotencyKey, IdempotencyKeys
from worker.contract.ledger_scripts import PREFIX, STORED, STORED_JOBS
from worker.contract.messages import JobFailure

TASK_LEASE_S: Final = 60.0
"""A task whose holder says nothing for so long is somebody else's."""
MAX_TRIES: Final = 3
_EXPIRE: Final = f"{PREFIX}asset-expire"
_BELLS_KEPT: Final = 16
COUNTED: Final = "asset-"
"""What an asset's id begins with where bytes are counted by id (`worker.contract.stored_bytes`)."""

# KEYS tasks; ARGV now, until when it is held.
_TAKE: Final = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if #due == 0 then return false end
redis.call('ZADD', KEYS[1], ARGV[2], due[1])
return due[1]
"""
# KEYS stored, stored-jobs; ARGV id with its prefix, caller, bytes.
_COUNT: Final = """
local known = redis.call('HGET', KEYS[2], ARGV[1])
local before, share = string.match(known or '', '^(%d+) (.*)$')
share = share or ARGV[2]
if tonumber(ARGV[3]) > 0 then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3] .. ' ' .. share)
else
  redis.call('HDEL', KEYS[2], ARGV[1])
end
local change = string.format('%.0f', tonumber(ARGV[3]) - tonumber(before or '0'))
if change ~= '0' and redis.call('HINCRBY', KEYS[1], share, change) <= 0 then
  redis.call('HDEL', KEYS[1], share)
end
return 1
"""


class AssetRegistry:
    """Every method may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._idempotency = IdempotencyKeys(redis)
        self._take = redis.register_script(_TAKE)

    def add(self, asset: Asset, *, idempotency: IdempotencyKey | None = None) -> None:
        """Write a new asset, and put it before the desk that has to work on it.

        Raises:
            IdempotencyTakenError: The key leads elsewhere; nothing was written.
        """
        if idempotency is not None:
            asset = asset.model_copy(update={"idempotency": idempotency.redis_key})
        while True:
            with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.watch(_key(asset.id))  # type: ignore[no-untyped-call]
                if pipeline.exists(_key(asset.id)):
                    return
                if idempotency is not None:
                    self._idempotency.watch(pipeline, idempotency)
                pipeline.multi()
                self._write(pipeline, asset)
                created_at = asset.created_at.timestamp()
                pipeline.zadd(_list_key(asset.kind, asset.principal), {asset.id: created_at})
                if asset.expires_at is not None:
                    pipeline.zadd(_EXPIRE, {asset.id: asset.expires_at.timestamp()})
                if idempotency is not None:
                    self._idempotency.write(pipeline, idempotency, asset.id)
                try:
                    pipeline.execute()
                except WatchError:
                    continue
                return

    def get(self, asset_id: str) -> Asset | None:
        """The asset, or None if there is none of this id."""
        stored = cast(bytes | None, self._redis.get(_key(asset_id)))
        return None if stored is None else Asset.model_validate_json(stored)

    def update(self, asset_id: str, change: Callable[[Asset], Asset]) -> Asset | None:
        """Write an asset anew, and give it to the next desk; None if it is gone.

        Args:
            asset_id: Which one.
            change: From what it is to what it shall be; may be called again.
        """
        while True:
            with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.watch(_key(asset_id))  # type: ignore[no-untyped-call]
                stored = cast(bytes | None, pipeline.get(_key(asset_id)))
                if stored is None:
                    return None
                before = Asset.model_validate_json(stored)
                after = change(before)
                pipeline.multi()
                self._write(pipeline, after, before.desk)
                try:
                    pipeline.execute()
                except WatchError:
                    continue
                return after

    def delete(self, asset: Asset) -> None:
        """Forget an asset; its files are the caller's business."""
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(_key(asset.id))
            pipeline.zrem(_list_key(asset.kind, asset.principal), asset.id)
            pipeline.zrem(_EXPIRE, asset.id)
            pipeline.zrem(_tasks_key("decode"), asset.id)
            pipeline.zrem(_tasks_key("inspect"), asset.id)
            if asset.idempotency is not None:
                pipeline.delete(asset.idempotency)
            self._count(pipeline, asset.id, asset.share, 0)
            pipeline.execute()

    def list(
        self, kind: AssetKind, principal: str | None, *, before: float | None, limit: int
    ) -> list[Asset]:
        """A caller's assets, newest first.

        Args:
            kind: Of them.
            principal: The caller.
            before: Only those accepted before this time (Unix, seconds); None = all.
            limit: Most of them.
        """
        newest = "+inf" if before is None else f"({before!r}"
        key = _list_key(kind, principal)
        found = cast(
            list[bytes], self._redis.zrevrangebyscore(key, newest, "-inf", start=0, num=limit)
        )
        if not found:
            return []
        stored = cast(list[bytes | None], self._redis.mget([_key(raw.decode()) for raw in found]))
        return [Asset.model_validate_json(text) for text in stored if text is not None]

    def expired(self, *, limit: int = 64) -> Iterator[Asset]:
        """Assets whose time is over."""
        due = self._redis.zrangebyscore(_EXPIRE, "-inf", time.time(), start=0, num=limit)
        for raw in cast(list[bytes], due):
            asset = self.get(raw.decode())
            if asset is None:
                self._redis.zrem(_EXPIRE, raw)
            else:
                yield asset

    def num_waiting(self) -> int:
        """Tasks of all desks."""
        return sum(int(self._redis.zcard(_tasks_key(desk))) for desk in ("decode", "inspect"))

    # --- a desk's side ------------------------------------------------------------------------------------------------

    def wait_for_task(self, desk: DeskName, timeout_s: float = 1.0) -> None:
        """Sleep until a task comes, or for a while."""
        self._redis.blpop([_bell_key(desk)], timeout=timeout_s)

    def take(self, desk: DeskName) -> Asset | None:
        """The next task, held for `TASK_LEASE_S`; None if there is none.

        One that was taken too often fails here.
        """
        now = time.time()
        while True:
            taken = cast(
                bytes | None, self._take(keys=[_tasks_key(desk)], args=[now, now + TASK_LEASE_S])
            )
            if taken is None:
                return None
            asset = self.update(taken.decode(), _one_more_try)
            if asset is not None and asset.desk == desk:
                return asset
            # Deleted, failed, or already done by whoever was thought dead.
            self._redis.zrem(_tasks_key(desk), taken)

    def hold(self, desk: DeskName, asset_id: str) -> None:
        """The task is still worked on."""
        until = time.time() + TASK_LEASE_S
        self._redis.zadd(_tasks_key(desk), {asset_id: until}, xx=True)

    def let_go(self, desk: DeskName, asset_id: str) -> None:
        """The task is somebody else's from now on."""
        self._redis.zadd(_tasks_key(desk), {asset_id: 0.0}, xx=True)

    # ------------------------------------------------------------------------------------------------------------------

    def _write(self, pipeline: Pipeline, asset: Asset, desk_before: DeskName | None = None) -> None:
        pipeline.set(_key(asset.id), asset.model_dump_json(exclude_defaults=True))
        self._count(pipeline, asset.id, asset.share, asset.stored_bytes)
        if asset.desk == desk_before:
            return
        if desk_before is not None:
            pipeline.zrem(_tasks_key(desk_before), asset.id)
        if asset.desk is not None:
            pipeline.zadd(_tasks_key(asset.desk), {asset.id: time.time()})
            pipeline.rpush(_bell_key(asset.desk), "")
            # Where nobody listens they must not pile up.
            pipeline.ltrim(_bell_key(asset.desk), -_BELLS_KEPT, -1)

    @staticmethod
    def _count(pipeline: Pipeline, asset_id: str, share: str | None, num_bytes: int) -> None:
        # The text, not its digest: nothing in a transaction may fail because Redis forgot a script.
        args = (f"{COUNTED}{asset_id}", share or "", num_bytes)
        pipeline.eval(_COUNT, 2, STORED, STORED_JOBS, *args)


def _one_more_try(asset: Asset) -> Asset:
    if asset.tries >= MAX_TRIES and asset.state is AssetState.PREPARING:
        failure = JobFailure(
            code=ErrorCode.INTERNAL_ERROR,
            detail="It could not be prepared: whoever tried died. Send it again, or send another one.",
        )
        return asset.model_copy(update={"state": AssetState.FAILED, "failure": failure})
    return asset.model_copy(update={"tries": asset.tries + 1})


def _key(asset_id: str) -> str:
    return f"{PREFIX}asset:{asset_id}"


def _list_key(kind: AssetKind, principal: str | None) -> str:
    return f"{PREFIX}assets:{kind.value}:{principal or ''}"


def _tasks_key(desk: DeskName) -> str:
    return f"{PREFIX}asset-tasks:{desk}"


def _bell_key(desk: DeskName) -> str:
    return f"{PREFIX}asset-bell:{desk}"
