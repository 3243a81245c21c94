"""The small ledger that knows the truth about every job.

    accept ──▶ queued ──claim──▶ running ──finish──▶ succeeded | failed | cancelled
                  ▲                 │
                  └────hand back────┘

A job is one Redis hash; ids that are not terminal stand in `open`. An RQ entry is a disposable
delivery of one attempt. Whoever runs a job holds its token: `report`, `finish` and `hand_back` do
nothing without it (fencing), so a worker that was thought dead cannot overwrite its successor.

What happens before a renderer takes a job is `ledger_waiting`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import cast

from redis import Redis, WatchError
from redis.client import Pipeline

from worker.contract import ledger_ends
from worker.contract.answers import CancelOutcome, DeadlinePolicy, ReportAnswer
from worker.contract.ending import EndedJob
from worker.contract.events import write_state
from worker.contract.fair_queue import withdraw
from worker.contract.idempotency import IdempotencyKey, IdempotencyRecord
from worker.contract.ledger_records import UnreadableRecordError, decoded_fields, flat, to_hash
from worker.contract.ledger_scripts import (
    CANCEL,
    CLAIM,
    DELETE,
    END,
    FINISH,
    MEDIA,
    OPEN,
    RENEW,
    REPORT,
    job_key,
    jobs_key,
    lease_key,
    open_key,
)
from worker.contract.ledger_waiting import WaitingLedger
from worker.contract.messages import FrameCount, JobFailure, JobInput, JobRecord, QueueName, Stage
from worker.contract.queues import deliver, delivery_id
from worker.contract.results import FinishedRender, JobResult
from worker.contract.stored_bytes import counted_jobs, store_bytes


class Ledger(WaitingLedger):
    """The jobs in one Redis.

    Every method may raise `redis.RedisError` when Redis cannot be reached or refuses.
    """

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self._claim = redis.register_script(CLAIM)
        self._renew = redis.register_script(RENEW)
        self._report = redis.register_script(REPORT)
        self._finish = redis.register_script(FINISH)
        self._end_open = redis.register_script(END)
        self._cancel = redis.register_script(CANCEL)
        self._delete = redis.register_script(DELETE)

    # --- the caller's side --------------------------------------------------------------------------------------------

    def accept(
        self,
        record: JobRecord,
        *,
        idempotency: IdempotencyKey | None = None,
        share: str | None = None,
        stored_bytes: int = 0,
    ) -> JobRecord:
        """Write a new job and its first delivery in one transaction.

        When this returns the job is accepted; when it raises `RedisError` it may or may not be.

        Args:
            record: The job.
            idempotency: The key that leads to it from now on.
            share: Under what name its caller is counted; None = its principal.
            stored_bytes: Size of its files on the disk.

        Returns:
            The record with the queue that was chosen: `validate` if it has files to decode and
            somebody does that, `inspect` if it has a picture and somebody inspects, else `render`.

        Raises:
            IdempotencyTakenError: The key leads to another job or request; nothing was written.
        """
        record = record.model_copy(update={"queue": self.first_queue(record.input)})
        while True:
            with self._pipeline() as pipeline:
                # A transaction that watches is never sent twice: where the answer to EXEC was lost
                # the client raises WatchError, and the second look finds the job.
                pipeline.watch(job_key(record.id))  # type: ignore[no-untyped-call]
                if pipeline.exists(job_key(record.id)):
                    return record
                if idempotency is not None:
                    self._idempotency.watch(pipeline, idempotency)
                pipeline.multi()
                self.write_new(
                    pipeline, record, idempotency, share=share, stored_bytes=stored_bytes
                )
                try:
                    pipeline.execute()
                except WatchError:
                    continue
                return record

    def idempotency_reserve(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """See `IdempotencyKeys.reserve`."""
        return self._idempotency.reserve(key)

    def idempotency_renew(self, key: IdempotencyKey) -> None:
        """See `IdempotencyKeys.renew`."""
        self._idempotency.renew(key)

    def idempotency_release(self, key: IdempotencyKey) -> None:
        """See `IdempotencyKeys.release`."""
        self._idempotency.release(key)

    def request_cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a job that waits, or ask a running one to stop."""
        is_held = bool(self._redis.exists(lease_key(job_id)))
        answer = int(self._cancel(args=[job_id, _now()]))
        # A delivery that somebody works on is RQ's to clear away when that ends.
        if answer == 1 and not is_held:
            self.drop_deliveries(job_id)
        return {
            -1: CancelOutcome.UNKNOWN,
            0: CancelOutcome.TERMINAL,
            1: CancelOutcome.CANCELLED,
            2: CancelOutcome.REQUESTED,
        }[answer]

    def delete(self, job_id: str) -> bool:
        """Erase all that the ledger knows of a job; a worker that runs it stops and writes nothing.

        Its files are the caller's business, and a render that is about to publish may leave one
        that the reconciler's sweep then finds.

        Returns:
            Whether there was such a job.
        """
        self.drop_deliveries(job_id)
        return bool(self._delete(args=[job_id]))

    def set_stored_bytes(self, job_id: str, num_bytes: int) -> None:
        """Say how large a job's files on the disk are now."""
        store_bytes(self._redis, job_id, num_bytes)

    def counted_jobs(self) -> Iterator[str]:
        """Ids of all jobs that are said to have files; one may come twice."""
        return counted_jobs(self._redis)

    def restore(
        self, record: JobRecord, end: FinishedRender | EndedJob, *, stored_bytes: int = 0
    ) -> bool:
        """Write a job that has ended already, in one transaction, without a delivery.

        Args:
            record: The job as it was accepted.
            end: Its video, or how it ended without one.
            stored_bytes: Size of its files on the disk.

        Returns:
            False, and nothing changed, if the ledger has the job.
        """
        ended_at, measured = _now(), ledger_ends.NOT_MEASURED
        if isinstance(end, FinishedRender):
            fields = ledger_ends.succeeded(end.result, end.timings_s)
            measured = ledger_ends.measured(record, end.result, end.timings_s)
        else:
            fields = (
                ledger_ends.cancelled() if end.failure is None else ledger_ends.failed(end.failure)
            )
            ended_at = ended_at if end.finished_at is None else end.finished_at.isoformat()
        key, token = job_key(record.id), "restored"
        with self._pipeline() as pipeline:
            pipeline.watch(key)  # type: ignore[no-untyped-call]
            if pipeline.exists(key):
                return False
            pipeline.multi()
            self.write_new(pipeline, record, stored_bytes=stored_bytes, is_delivered=False)
            pipeline.hset(key, "token", token)
            pipeline.eval(FINISH, 0, record.id, token, ended_at, *measured, *flat(fields))
            try:
                pipeline.execute()
            except WatchError:
                return False
        return True

    # --- the worker's side --------------------------------------------------------------------------------------------

    def claim(
        self,
        job_id: str,
        attempt: int,
        token: str,
        *,
        worker: str,
        lease_s: float,
        deadline: DeadlinePolicy | None = None,
    ) -> JobRecord | None:
        """Take a delivered job, or None if the delivery is stale: terminal, held or superseded.

        Args:
            job_id: The job.
            attempt: The delivery's.
            token: What the caller will hold it by.
            worker: Name of the caller's process.
            lease_s: How long the job is ours without a `renew`, in seconds.
            deadline: Sets the job's deadline if it has none yet.
        """
        limits = ("", "") if deadline is None else deadline
        taken = self._claim(
            args=[job_id, token, attempt, int(lease_s * 1000), _now(), worker, *limits]
        )
        return self.get(job_id) if taken else None

    def renew(self, job_id: str, token: str, *, lease_s: float) -> bool:
        """Hold the job for longer; False if it is no longer ours."""
        return bool(self._renew(args=[job_id, token, int(lease_s * 1000)]))

    def report(
        self, job_id: str, token: str, *, stage: Stage, frames: FrameCount | None
    ) -> ReportAnswer:
        """Tell how far a running job is; falsy if it is no longer ours."""
        fields: dict[str, str | int] = {"stage": stage.value}
        if frames is not None:
            fields |= {"frames_done": frames.done, "frames_total": frames.total}
        return ReportAnswer(int(self._report(args=[job_id, token, *flat(fields)])))

    def report_input(self, job_id: str, token: str, job_input: JobInput) -> ReportAnswer:
        """Write down what a running job's files are, now that they are decoded."""
        fields = decoded_fields(job_input)
        return ReportAnswer(int(self._report(args=[job_id, token, *flat(fields)])))

    def succeed(
        self, job_id: str, token: str, result: JobResult, timings_s: Mapping[str, float]
    ) -> bool:
        """End a job with its video; False and no change if it is no longer ours."""
        try:
            record = self.get(job_id)
        except UnreadableRecordError:
            record = None
        measured = ledger_ends.measured(record, result, timings_s)
        return self._end(job_id, token, ledger_ends.succeeded(result, timings_s), measured)

    def fail(self, job_id: str, token: str, failure: JobFailure) -> bool:
        """End a job with a reason; False and no change if it is no longer ours."""
        return self._end(job_id, token, ledger_ends.failed(failure))

    def finish_cancelled(self, job_id: str, token: str) -> bool:
        """End a job that was asked to stop; False and no change if it is no longer ours."""
        return self._end(job_id, token, ledger_ends.cancelled())

    def hand_back(self, job_id: str, token: str, *, is_retry: bool = False) -> bool:
        """Put a running job back to the front of the queue as its next attempt.

        A job that was asked to stop meanwhile is cancelled instead.

        Args:
            job_id: The job.
            token: What the caller claimed it with.
            is_retry: Count it as a retry after a failure, not as an interrupted attempt.

        Returns:
            False, and nothing changed, if the job is no longer ours.
        """
        key = job_key(job_id)
        while True:
            with self._pipeline() as pipeline:
                pipeline.watch(key)  # type: ignore[no-untyped-call]
                names = ["token", "attempt", "queue", "cancel_requested_at"]
                stored = cast(list[bytes | None], pipeline.hmget(key, names))
                if stored[0] != token.encode() or stored[1] is None:
                    return False
                if stored[3] is not None:
                    return self.finish_cancelled(job_id, token)
                pipeline.multi()
                if is_retry:
                    pipeline.hincrby(key, "retries", 1)
                queue_name = cast(QueueName, (stored[2] or b"render").decode())
                self.write_next_attempt(pipeline, job_id, int(stored[1]) + 1, queue_name)
                try:
                    pipeline.execute()
                except WatchError:
                    continue
                return True

    # --- the reconciler's side ----------------------------------------------------------------------------------------

    def end_open(
        self, job_id: str, failure: JobFailure | None, *, attempt: int | None = None
    ) -> bool:
        """End an open job without its token; a worker that runs it stops at its next report.

        Args:
            job_id: The job.
            failure: Why it failed; None = it is cancelled.
            attempt: Only if this is still its attempt; None = whatever it is.

        Returns:
            False, and nothing changed, if it had ended, or is at another attempt.
        """
        fields = ledger_ends.cancelled() if failure is None else ledger_ends.failed(failure)
        which = "" if attempt is None else attempt
        return bool(self._end_open(args=[job_id, which, _now(), *flat(fields)]))

    def write_new(
        self,
        pipeline: Pipeline,
        record: JobRecord,
        idempotency: IdempotencyKey | None = None,
        *,
        share: str | None = None,
        stored_bytes: int = 0,
        is_delivered: bool = True,
    ) -> None:
        """Add to an open transaction: a new job, and its first delivery unless it will not wait.

        The other arguments are those of `accept`.
        """
        accepted = {record.id: record.created_at.timestamp()}
        fields = to_hash(record)
        if idempotency is not None:
            self._idempotency.write(pipeline, idempotency, record.id)
            # So that deleting the job deletes the key.
            fields["idempotency"] = idempotency.redis_key
        if share is not None:
            fields["share"] = share
        pipeline.hset(job_key(record.id), mapping=fields)
        pipeline.zadd(OPEN, accepted)
        pipeline.zadd(open_key(record.principal), accepted)
        pipeline.zadd(jobs_key(record.principal), accepted)
        pipeline.zadd(MEDIA, accepted)
        store_bytes(pipeline, record.id, stored_bytes)
        write_state(pipeline, record.id, record.state, record.attempt)
        if is_delivered:
            queue = self._queues[cast(QueueName, record.queue)]
            deliver(queue, pipeline, record.id, record.attempt)

    # ------------------------------------------------------------------------------------------------------------------

    def _end(
        self,
        job_id: str,
        token: str,
        fields: Mapping[str, str | int],
        measured: ledger_ends.Measured = ledger_ends.NOT_MEASURED,
    ) -> bool:
        return bool(self._finish(args=[job_id, token, _now(), *measured, *flat(fields)]))

    def drop_deliveries(self, job_id: str) -> None:
        """Take a job out of the queues, so that nobody counts it; a stale delivery does no harm."""
        attempt = cast(bytes | None, self._redis.hget(job_key(job_id), "attempt"))
        if attempt is None:
            return
        with self._pipeline() as pipeline:
            for queue_name, queue in self._queues.items():
                name = delivery_id(job_id, int(attempt), queue_name)
                withdraw(pipeline, queue.key, queue_name, name)
                pipeline.delete(f"rq:job:{name}")
            pipeline.execute()

    def _pipeline(self) -> Pipeline:
        return self._redis.pipeline(transaction=True)


def _now() -> str:
    return datetime.now(UTC).isoformat()
