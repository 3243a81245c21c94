"""The small ledger that knows the truth about every job.

    accept ──▶ queued ──claim──▶ running ──finish──▶ succeeded | failed
                  ▲                 │
                  └────hand back────┘

A job is one Redis hash; ids that are not terminal stand in `open`. An RQ entry is a disposable
delivery of one attempt. Whoever runs a job holds its token: `report`, `finish` and `hand_back` do
nothing without it (fencing), so a worker that was thought dead cannot overwrite its successor.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from pydantic import BaseModel
from redis import Redis, WatchError
from redis.client import Pipeline

from worker.contract.messages import (
    FrameCount,
    JobFailure,
    JobInput,
    JobRecord,
    JobResult,
    JobState,
    Stage,
)
from worker.contract.queues import deliver, render_queue

# One hash tag, so that all keys of the ledger live in one slot of a cluster.
_PREFIX: Final = "tf:{j}:"
_OPEN: Final = f"{_PREFIX}open"
_WORKERS: Final = f"{_PREFIX}workers"

# KEYS job, lease; ARGV token, attempt, lease in ms, time, worker. Refuses what is terminal, what
# another worker holds, and a delivery of an attempt that is over. Asking again is harmless.
_CLAIM: Final = """
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if not job[1] or job[1] == 'succeeded' or job[1] == 'failed' then return 0 end
if job[2] ~= ARGV[2] then return 0 end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
redis.call('HSET', KEYS[1], 'state', 'running', 'stage', 'validating', 'token', ARGV[1],
           'started_at', ARGV[4], 'worker', ARGV[5])
redis.call('HDEL', KEYS[1], 'frames_done', 'frames_total', 'timings_s')
return 1
"""

# KEYS job, lease; ARGV token, lease in ms.
_RENEW: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS job; ARGV token, then fields and values.
_REPORT: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
"""

# KEYS job, lease, open; ARGV token, id, then fields and values.
_FINISH: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('HDEL', KEYS[1], 'token', 'stage')
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
return 1
"""


class Ledger:
    """The jobs in one Redis.

    Every method may raise `redis.RedisError` when Redis cannot be reached or refuses.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue = render_queue(redis)
        self._claim = redis.register_script(_CLAIM)
        self._renew = redis.register_script(_RENEW)
        self._report = redis.register_script(_REPORT)
        self._finish = redis.register_script(_FINISH)

    def ping(self) -> None:
        """Return if Redis answers."""
        self._redis.ping()

    def accept(self, record: JobRecord) -> None:
        """Write a new job and its first delivery in one transaction.

        When this returns the job is accepted; when it raises it may or may not be.
        """
        with self._pipeline() as pipeline:
            pipeline.multi()
            pipeline.hset(_job_key(record.id), mapping=_to_hash(record))
            pipeline.zadd(_OPEN, {record.id: record.created_at.timestamp()})
            deliver(self._queue, pipeline, record.id, record.attempt)
            pipeline.execute()

    def get(self, job_id: str) -> JobRecord | None:
        """The job, or None if there is none of this id."""
        raw = cast(dict[bytes, bytes], self._redis.hgetall(_job_key(job_id)))
        return _from_hash(raw) if raw else None

    def claim(
        self, job_id: str, attempt: int, token: str, *, worker: str, lease_s: float
    ) -> JobRecord | None:
        """Take a delivered job, or None if the delivery is stale: terminal, held or superseded."""
        now = datetime.now(UTC).isoformat()
        taken = self._claim(
            keys=[_job_key(job_id), _lease_key(job_id)],
            args=[token, attempt, int(lease_s * 1000), now, worker],
        )
        return self.get(job_id) if taken else None

    def renew(self, job_id: str, token: str, *, lease_s: float) -> bool:
        """Hold the job for longer; False if it is no longer ours."""
        keys = [_job_key(job_id), _lease_key(job_id)]
        return bool(self._renew(keys=keys, args=[token, int(lease_s * 1000)]))

    def report(
        self,
        job_id: str,
        token: str,
        *,
        stage: Stage,
        frames: FrameCount | None,
    ) -> bool:
        """Tell how far a running job is; False if it is no longer ours."""
        fields: dict[str, str | int] = {"stage": stage.value}
        if frames is not None:
            fields |= {"frames_done": frames.done, "frames_total": frames.total}
        return bool(self._report(keys=[_job_key(job_id)], args=[token, *_flat(fields)]))

    def succeed(
        self, job_id: str, token: str, result: JobResult, timings_s: Mapping[str, float]
    ) -> bool:
        """End a job with its video; False and no change if it is no longer ours."""
        fields: dict[str, str | int] = {
            "state": JobState.SUCCEEDED.value,
            "frames_done": result.num_frames,
            "frames_total": result.num_frames,
            "result": result.model_dump_json(),
            "timings_s": json.dumps(dict(timings_s)),
        }
        return self._end(job_id, token, fields)

    def fail(self, job_id: str, token: str, failure: JobFailure) -> bool:
        """End a job with a reason; False and no change if it is no longer ours."""
        fields = {"state": JobState.FAILED.value, "failure": failure.model_dump_json()}
        return self._end(job_id, token, fields)

    def hand_back(self, job_id: str, token: str, *, is_retry: bool = False) -> bool:
        """Put a running job back to the front of the queue as its next attempt.

        Args:
            job_id: The job.
            token: What the caller claimed it with.
            is_retry: Count it as a retry after a failure, not as an interrupted attempt.

        Returns:
            False, and nothing changed, if the job is no longer ours.
        """
        key = _job_key(job_id)
        while True:
            with self._pipeline() as pipeline:
                pipeline.watch(key)  # type: ignore[no-untyped-call]
                stored = cast(list[bytes | None], pipeline.hmget(key, ["token", "attempt"]))
                if stored[0] != token.encode() or stored[1] is None:
                    return False
                attempt = int(stored[1]) + 1
                pipeline.multi()
                pipeline.hset(key, mapping={"state": JobState.QUEUED.value, "attempt": attempt})
                pipeline.hdel(
                    key, "token", "stage", "started_at", "worker", "frames_done", "frames_total"
                )
                if is_retry:
                    pipeline.hincrby(key, "retries", 1)
                pipeline.delete(_lease_key(job_id))
                deliver(self._queue, pipeline, job_id, attempt, at_front=True)
                try:
                    pipeline.execute()
                except WatchError:
                    continue
                return True

    def beat(self, worker: str) -> None:
        """Say that a worker process is alive."""
        self._redis.zadd(_WORKERS, {worker: time.time()})

    def sign_off(self, worker: str) -> None:
        """Say that a worker process ends."""
        self._redis.zrem(_WORKERS, worker)

    def count_live_workers(self, *, within_s: float) -> int:
        """Worker processes that were heard of in the last `within_s` seconds."""
        now = time.time()
        # Who was silent for ten times as long never comes back under that name.
        self._redis.zremrangebyscore(_WORKERS, "-inf", now - 10 * within_s)
        return int(self._redis.zcount(_WORKERS, now - within_s, "+inf"))

    def _end(self, job_id: str, token: str, fields: Mapping[str, str | int]) -> bool:
        return bool(
            self._finish(
                keys=[_job_key(job_id), _lease_key(job_id), _OPEN],
                args=[
                    token,
                    job_id,
                    *_flat({**fields, "finished_at": datetime.now(UTC).isoformat()}),
                ],
            )
        )

    def _pipeline(self) -> Pipeline:
        return self._redis.pipeline(transaction=True)


def _job_key(job_id: str) -> str:
    return f"{_PREFIX}job:{job_id}"


def _lease_key(job_id: str) -> str:
    return f"{_PREFIX}lease:{job_id}"


def _flat(fields: Mapping[str, str | int]) -> list[str | int]:
    return [word for pair in fields.items() for word in pair]


def _to_hash(record: JobRecord) -> dict[Any, Any]:
    """The fields of a new job; what is None has no field."""
    return {
        "id": record.id,
        "state": record.state.value,
        "attempt": str(record.attempt),
        "retries": str(record.retries),
        "created_at": record.created_at.isoformat(),
        "request_id": record.request_id,
        "input": record.input.model_dump_json(),
    }


def _from_hash(raw: Mapping[bytes, bytes]) -> JobRecord:
    fields = {name.decode(): value.decode() for name, value in raw.items()}

    def parsed(model: type[BaseModel], name: str) -> BaseModel | None:
        return model.model_validate_json(fields[name]) if name in fields else None

    frames: FrameCount | None = None
    if "frames_total" in fields:
        frames = FrameCount(done=int(fields["frames_done"]), total=int(fields["frames_total"]))
    values: dict[str, Any] = {
        "id": fields["id"],
        "state": fields["state"],
        "stage": fields.get("stage"),
        "attempt": int(fields["attempt"]),
        "retries": int(fields["retries"]),
        "frames": frames,
        "created_at": fields["created_at"],
        "started_at": fields.get("started_at"),
        "finished_at": fields.get("finished_at"),
        "request_id": fields["request_id"],
        "input": parsed(JobInput, "input"),
        "timings_s": json.loads(fields.get("timings_s", "{}")),
        "result": parsed(JobResult, "result"),
        "failure": parsed(JobFailure, "failure"),
    }
    return JobRecord.model_validate(values)
