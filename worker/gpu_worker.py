"""RQ's worker, cut down to what a warm single-process worker needs. No torch here."""

from __future__ import annotations

from types import FrameType
from typing import Any

from redis import Redis
from rq import SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer

from worker.contract.messages import QueueName
from worker.contract.queues import RENDER_QUEUE, AllowedJob, open_queue
from worker.progress import Stop


class GpuWorker(SimpleWorker):
    """Runs jobs in this very process, so that the model stays warm.

    Exactly one queue: RQ moves an id atomically to its intermediate list only then. No fixed name:
    two processes must never share one. No RQ maintenance and no commands over pub/sub: the ledger
    decides what is delivered again, and our own signals stop a worker.

    Args:
        redis: A client for RQ alone; RQ changes its time-outs.
        name: Unique name of this process.
        stop: Set when this process is asked to stop.
        queue: What it listens to.
    """

    max_connection_wait_time = 5.0
    log_job_description = False

    def __init__(
        self, redis: Redis, name: str, stop: Stop, queue: QueueName = RENDER_QUEUE
    ) -> None:
        super().__init__(
            [open_queue(redis, queue)],
            name=name,
            connection=redis,
            job_class=AllowedJob,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self._stop = stop

    @property
    def dequeue_timeout(self) -> int:
        """Seconds that one look into the queue lasts: how late an idle worker notices a signal."""
        return 1

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: RQ's clean-up takes long jobs for lost ones and enqueues them again."""
        return False

    def subscribe(self) -> None:
        """No commands over pub/sub."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any | None = None) -> None:
        """RQ calls this before each look into the queue, the only place where leaving is safe."""
        if self._stop.is_set() and pipeline is None:
            raise StopRequested
        super().heartbeat(timeout, pipeline)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Only note the wish: a running job sees it between two batches and is handed back."""
        self._stop.set()
