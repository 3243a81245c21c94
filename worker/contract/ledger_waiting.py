"""What happens to a job in the ledger while it waits: before a renderer takes it, and again after one.

    accept ──▶ validate ──▶ inspect ──▶ render        each only where it is needed and somebody does it

Whoever decodes its files or looks at its picture holds the job by a token, as a renderer does, but
the job stays queued.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import cast

from redis import Redis, WatchError
from redis.client import Pipeline

from worker.contract.answers import DeadlinePolicy
from worker.contract.events import write_state
from worker.contract.ledger_reader import LedgerReader
from worker.contract.ledger_records import decoded_fields, flat
from worker.contract.ledger_scripts import CLAIM_WAITING, STATISTICS, job_key, lease_key
from worker.contract.messages import BboxXyxy, JobInput, JobRecord, JobState, QueueName
from worker.contract.presence import ProcessKind
from worker.contract.queues import INSPECT_QUEUE, RENDER_QUEUE, VALIDATE_QUEUE, deliver


class WaitingLedger(LedgerReader):
    """The jobs in one Redis that wait for a renderer.

    Every method may raise `redis.RedisError` when Redis cannot be reached or refuses.
    """

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self._claim_waiting = redis.register_script(CLAIM_WAITING)

    def claim_waiting(
        self,
        job_id: str,
        attempt: int,
        token: str,
        *,
        lease_s: float,
        queue: QueueName = INSPECT_QUEUE,
        worker: str = "",
    ) -> JobRecord | None:
        """Hold a queued job to look at its files, or None if the delivery is stale.

        `worker` is the name of the caller's process; the other arguments are those of `claim`.

        Raises:
            UnreadableRecordError: It is held, and this release cannot read it.
        """
        lease_ms = int(lease_s * 1000)
        taken = self._claim_waiting(args=[job_id, token, attempt, lease_ms, queue, worker])
        return self.get(job_id) if taken else None

    def pass_validation(self, job_id: str, token: str, job_input: JobInput) -> bool:
        """Send a job on whose files are decoded; False if it is no longer ours."""
        queue = self.first_queue(job_input)
        return self._send_on(job_id, token, decoded_fields(job_input), queue)

    def pass_inspection(self, job_id: str, token: str, boxes: Sequence[BboxXyxy] | None) -> bool:
        """Send an inspected job on to the renderers; False if it is no longer ours.

        Args:
            job_id: The job.
            token: What the inspector claimed it with.
            boxes: The faces, largest first, or None if they could not be looked for.
        """
        fields: dict[str, str | int] = {}
        if boxes is not None:
            fields["face_boxes"] = json.dumps([list(box) for box in boxes])
        return self._send_on(job_id, token, fields, RENDER_QUEUE)

    def _send_on(
        self, job_id: str, token: str, fields: Mapping[str, str | int], queue: QueueName
    ) -> bool:
        """Put a job that is held into another queue, in the same attempt."""
        key = job_key(job_id)
        while True:
            with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.watch(key)  # type: ignore[no-untyped-call]
                stored = cast(list[bytes | None], pipeline.hmget(key, ["token", "attempt"]))
                if stored[0] != token.encode() or stored[1] is None:
                    return False
                attempt = int(stored[1])
                pipeline.multi()
                pipeline.hset(key, "queue", queue, items=flat(fields))
                pipeline.hdel(key, "token", "stage")
                pipeline.delete(lease_key(job_id))
                deliver(self._queues[queue], pipeline, job_id, attempt)
                try:
                    pipeline.execute()
                except WatchError:
                    continue
                return True

    def first_queue(self, job_input: JobInput) -> QueueName:
        """Where a job with this input waits first; nobody waits for processes that are not there."""
        if job_input.pending is not None and self.presence.count(ProcessKind.VALIDATOR) > 0:
            return VALIDATE_QUEUE
        # Files that are not decoded yet are left to the renderer, picture and all.
        has_picture = job_input.image is not None and job_input.pending is None
        if has_picture and self.presence.count(ProcessKind.INSPECTOR) > 0:
            return INSPECT_QUEUE
        return RENDER_QUEUE

    def pass_on(self, job_id: str, attempt: int, deadline: DeadlinePolicy | None = None) -> bool:
        """Put a delivery that this process does not understand to the end of its queue.

        A process of a newer release may understand it. As if it had been started, its deadline
        begins, so that it ends even where nobody ever does.

        Args:
            job_id: The job.
            attempt: The delivery's; the next one gets the next number.
            deadline: Sets the job's deadline if it has none yet.

        Returns:
            False, and nothing changed, if the delivery is stale.
        """
        key, lease = job_key(job_id), lease_key(job_id)
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.watch(key, lease)  # type: ignore[no-untyped-call]
            names = ["state", "attempt", "queue", "audio_s"]
            stored = cast(list[bytes | None], pipeline.hmget(key, names))
            is_waiting = stored[0] == JobState.QUEUED.value.encode()
            if not is_waiting or stored[1] != b"%d" % attempt or pipeline.exists(lease):
                return False
            pipeline.multi()
            if deadline is not None:
                limit_s = deadline.base_s + deadline.per_audio_s * float(stored[3] or b"0")
                pipeline.hsetnx(key, "deadline_at", f"{time.time() + limit_s:.3f}")
            queue_name = cast(QueueName, (stored[2] or b"render").decode())
            self.write_next_attempt(pipeline, job_id, attempt + 1, queue_name, at_front=False)
            try:
                pipeline.execute()
            except WatchError:
                # It was claimed, cancelled or delivered again at this moment, so it is not lost.
                return False
        return True

    def write_next_attempt(
        self,
        pipeline: Pipeline,
        job_id: str,
        attempt: int,
        queue_name: QueueName,
        *,
        at_front: bool = True,
        is_fair: bool = False,
    ) -> None:
        """Add to an open transaction: the job waits again as this attempt.

        Where it waits: at the front, else at its fair place, else at the end.
        """
        key = job_key(job_id)
        pipeline.hset(
            key,
            mapping={"state": JobState.QUEUED.value, "attempt": attempt, "queue": queue_name},
        )
        pipeline.hdel(key, "token", "stage", "started_at", "worker", "frames_done", "frames_total")
        pipeline.delete(lease_key(job_id))
        pipeline.hincrby(STATISTICS, "redeliveries", 1)
        write_state(pipeline, job_id, JobState.QUEUED, attempt)
        queue = self._queues[queue_name]
        deliver(queue, pipeline, job_id, attempt, at_front=at_front, is_fair=is_fair)
