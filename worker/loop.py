"""What the two kinds of worker process share: a name, signals, and listening to one queue."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from types import FrameType

from redis import RedisError
from rq.utils import import_attribute

from worker.contract.environment import unknown_variables
from worker.contract.logs import configure_logging, get_logger
from worker.contract.messages import QueueName
from worker.contract.queues import connect
from worker.gpu_worker import GpuWorker
from worker.progress import Stop

_log = get_logger("worker")


def begin(process: str, log_level: str, function: str, expected: object) -> None:
    """Set up logs and signals for the time of loading, and check that RQ will find our function.

    Raises:
        RuntimeError: `function` does not lead to `expected`; RQ would hide the reason.
    """
    configure_logging(process, log_level)
    # A crash in native code tells its stacks, too.
    faulthandler.enable()
    for name in unknown_variables(os.environ):
        _log.warning("unknown_variable", name=name)
    if import_attribute(function) is not expected:
        raise RuntimeError(f"{function} does not resolve to the function of this process")
    signal.signal(signal.SIGTERM, _exit_at_once)
    signal.signal(signal.SIGINT, _exit_at_once)


def listen(redis_url: str, name: str, stop: Stop, queue: QueueName) -> None:
    """Work until `stop`, and begin anew whenever Redis goes away and comes back."""

    def note(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    pause_s, round_number = 0.5, 0
    while not stop.is_set():
        try:
            # RQ refuses a name that it remembers as alive, so each round has its own.
            worker = GpuWorker(
                connect(redis_url, timeout_s=15.0), f"{name}-{round_number}", stop, queue
            )
            _log.info("worker_listening", queue=queue)
            pause_s = 0.5
            worker.work(logging_level="WARNING")
        except RedisError as error:
            # Not the message of the error: it may repeat the URL with its password.
            _log.warning("redis_unavailable", kind=type(error).__name__, retry_s=pause_s)
        round_number += 1
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def _exit_at_once(_signum: int, _frame: FrameType | None) -> None:
    # While the process loads there is no job to hand back.
    sys.exit(0)
