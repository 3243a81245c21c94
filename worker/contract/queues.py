"""Redis connections and the RQ queues. RQ only delivers; `worker.contract.ledger` decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import BusyLoadingError, ConnectionError, ReadOnlyError, TimeoutError
from redis.retry import Retry
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from worker.contract import fair_queue
from worker.contract.messages import QueueName

RENDER_QUEUE: Final[QueueName] = "render"
INSPECT_QUEUE: Final[QueueName] = "inspect"
VALIDATE_QUEUE: Final[QueueName] = "validate"
JOB_FUNCTION: Final = "worker.jobs.render_talking_face"
INSPECT_FUNCTION: Final = "worker.inspection.inspect_portrait"
VALIDATE_FUNCTION: Final = "worker.validation.validate_uploads"
HELP_FUNCTION: Final = "worker.helping.help_with"
FUNCTIONS: Final[Mapping[QueueName, str]] = {
    VALIDATE_QUEUE: VALIDATE_FUNCTION,
    INSPECT_QUEUE: INSPECT_FUNCTION,
    RENDER_QUEUE: JOB_FUNCTION,
}
"""The queues in the order in which a job goes through them, and what is called for each."""

REDIS_AWAY: Final = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError)
"""What says that Redis cannot be used at all for now, as against one command that it refuses."""


class ForbiddenFunctionError(Exception):
    """A queue entry names a function that is not ours; someone wrote to Redis."""


class AllowedJob(Job):
    """An RQ job that can call nothing but our functions, whatever stands in Redis.

    The JSON serializer alone keeps pickles out but would still import and call any function that an
    entry names, as its callbacks would, and would post to any address that it names.
    """

    @property
    def func(self) -> object:
        """The function of this entry.

        Raises:
            ForbiddenFunctionError: It is not on the list.
        """
        if self.func_name not in (*FUNCTIONS.values(), HELP_FUNCTION) or self.instance:
            raise ForbiddenFunctionError(f"{self.func_name!r} is not a function of this queue")
        return super().func

    @property
    def success_callback(self) -> None:
        """Never anything."""

    @property
    def failure_callback(self) -> None:
        """Never anything."""

    @property
    def stopped_callback(self) -> None:
        """Never anything."""

    def send_webhooks(self, status: object, *, exc_string: str | None = None) -> None:
        """Nothing is sent."""


def connect(url: str, *, timeout_s: float = 5.0, name: str | None = None) -> Redis:
    """A client that fails fast; nothing is sent before the first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        timeout_s: Longest wait for a connection or an answer, in seconds.
        name: What Redis calls its connections, so that others see when they are gone.
    """
    return Redis.from_url(
        url,
        socket_connect_timeout=min(timeout_s, 2.0),
        socket_timeout=timeout_s,
        client_name=name,
        health_check_interval=15,
        # One more try covers a connection that a restart of Redis has cut while it was idle.
        retry=Retry(NoBackoff(), 1),
    )


def open_queue(redis: Redis, name: QueueName) -> Queue:
    """A queue that workers of one kind listen to."""
    return Queue(name, connection=redis, serializer=JSONSerializer, job_class=AllowedJob)


def open_queues(redis: Redis) -> dict[QueueName, Queue]:
    """All queues, by name."""
    return {name: open_queue(redis, name) for name in FUNCTIONS}


def queue_key(name: str) -> str:
    """Where RQ keeps the list of a queue."""
    return f"rq:queue:{name}"


def delivery_id(job_id: str, attempt: int, queue: str = RENDER_QUEUE) -> str:
    """Name of a delivery; an inspection and the render after it belong to one attempt."""
    return f"{job_id}_{attempt}" + ("" if queue == RENDER_QUEUE else f"_{queue}")


def deliver(
    queue: Queue,
    pipeline: Pipeline,
    job_id: str,
    attempt: int,
    *,
    at_front: bool = False,
    is_fair: bool = True,
) -> None:
    """Add one delivery of an attempt to a transaction that is open already.

    Args:
        queue: Where it waits.
        pipeline: The transaction; the job's hash is written in it, or was before.
        job_id: The job.
        attempt: Number of the attempt.
        at_front: Before all others.
        is_fair: At its fair place (`worker.contract.fair_queue`), not simply at the end.
    """
    queue.enqueue(
        FUNCTIONS[cast(QueueName, queue.name)],
        job_id,
        attempt,
        job_id=delivery_id(job_id, attempt, queue.name),
        # RQ's own limit of 180 s would kill any longer job.
        job_timeout=-1,
        result_ttl=0,
        failure_ttl=3600,
        at_front=at_front,
        pipeline=pipeline,
    )
    if is_fair and not at_front:
        delivery = delivery_id(job_id, attempt, queue.name)
        fair_queue.place(pipeline, queue.key, queue.name, job_id, delivery)


def call_helpers(queue: Queue, pipeline: Pipeline, job_id: str, attempt: int, count: int) -> None:
    """Add to an open transaction: deliveries that ask workers to help with a job that runs.

    None of them has to come: nothing is lost with them.
    """
    for number in range(count):
        queue.enqueue(
            HELP_FUNCTION,
            job_id,
            attempt,
            job_id=f"{delivery_id(job_id, attempt)}_help{number}",
            job_timeout=-1,
            result_ttl=0,
            failure_ttl=3600,
            at_front=True,
            pipeline=pipeline,
        )
