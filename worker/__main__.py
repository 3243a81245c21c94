"""`python -m worker`: settings, logs, warm up, listen, until a signal."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
from types import FrameType

from redis import RedisError
from rq.utils import import_attribute

from model.errors import ModelError
from worker.contract.artifacts import ArtifactStore
from worker.contract.environment import unknown_variables
from worker.contract.ledger import Ledger
from worker.contract.logs import configure_logging, get_logger
from worker.contract.queues import JOB_FUNCTION, connect
from worker.gpu_worker import GpuWorker
from worker.jobs import WorkerContext, install, render_talking_face
from worker.progress import Heartbeat
from worker.runtime import load_renderer
from worker.settings import WorkerSettings

_log = get_logger("worker")


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    settings = WorkerSettings()
    configure_logging("worker", settings.log_level)
    for name in unknown_variables(os.environ):
        _log.warning("unknown_variable", name=name)
    # RQ hides an ImportError in a job module behind "Invalid attribute name": find it now.
    if import_attribute(JOB_FUNCTION) is not render_talking_face:
        raise RuntimeError(f"{JOB_FUNCTION} does not resolve to the function of this process")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, _exit_at_once)
    signal.signal(signal.SIGINT, _exit_at_once)
    try:
        renderer = load_renderer(settings)
        renderer.warm_up()
    except ModelError as error:
        _log.error("cannot_load_renderer", reason=str(error))
        return 1
    _log.info("renderer_warm", **renderer.info.model_dump())

    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    with Heartbeat(Ledger(connect(settings.redis_url)), name, settings.lease_s) as heartbeat:
        install(
            WorkerContext(
                worker=name,
                ledger=Ledger(connect(settings.redis_url)),
                store=ArtifactStore(settings.data_dir),
                renderer=renderer,
                heartbeat=heartbeat,
                stop=stop,
                lease_s=settings.lease_s,
            )
        )
        _listen(settings.redis_url, name, stop)
    _log.info("worker_stopped")
    return 0


def _listen(redis_url: str, name: str, stop: threading.Event) -> None:
    """Work, and begin anew whenever Redis goes away and comes back."""

    def note(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    pause_s, round_number = 0.5, 0
    while not stop.is_set():
        try:
            # RQ refuses a name that it remembers as alive, so each round has its own.
            worker = GpuWorker(connect(redis_url, timeout_s=15.0), f"{name}-{round_number}", stop)
            _log.info("worker_listening")
            pause_s = 0.5
            worker.work(logging_level="WARNING")
        except RedisError as error:
            # Not the message of the error: it may repeat the URL with its password.
            _log.warning("redis_unavailable", kind=type(error).__name__, retry_s=pause_s)
        round_number += 1
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def _exit_at_once(_signum: int, _frame: FrameType | None) -> None:
    # While the renderer loads there is no job to hand back.
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
