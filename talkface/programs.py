"""The processes of a service on one machine: their commands, their environments, and what is started before what."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from talkface.gpus import count_workers, gpu_of, visible_gpus
from talkface.private_redis import PrivateRedis
from talkface.supervisor import Program
from worker.contract.start import MISCONFIGURED

_OFF = ("false", "0", "no", "off", "f", "n")  # as pydantic reads it


def child_environment(data_dir: Path) -> dict[str, str]:
    """Variables of everything that `talkface up` starts."""
    code = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {
        # mediapipe's libraries tell every start of theirs, unless they are told otherwise.
        "GLOG_minloglevel": "2",
        **os.environ,
        "TALKFACE_DATA_DIR": str(data_dir),
        # The children run the very code that runs here, wherever it was started from.
        "PYTHONPATH": code if not inherited else code + os.pathsep + inherited,
        "PYTHONUNBUFFERED": "1",
    }


def programs(
    host: str, wanted_workers: int, listener: socket.socket, environment: Mapping[str, str]
) -> list[list[Program]]:
    """What runs beside Redis, in the stages in which it is started.

    Args:
        host: What the API listens on.
        wanted_workers: How many, or `AUTO`.
        listener: The API's socket.
        environment: Of all of them.
    """
    # -P keeps the current folder off sys.path: a folder "service" in it must not shadow ours.
    python = [sys.executable, "-P", "-m"]
    port = listener.getsockname()[1]
    descriptor = listener.fileno()
    api = Program(
        name="api",
        command=[*python, "talkface.api_process", str(descriptor)],
        environment={**environment, "TALKFACE_HOST": host, "TALKFACE_PORT": str(port)},
        pass_fds=[descriptor],
        failure_hint=lambda: "Its messages are above; `talkface doctor` says what is missing",
        hopeless_status=MISCONFIGURED,
    )
    threads, gpus = {}, visible_gpus(environment)
    num_workers = count_workers(wanted_workers, gpus)
    if num_workers > 1 and "OMP_NUM_THREADS" not in environment:
        # Workers that each take all cores wait for one another at every small operation.
        share = (os.cpu_count() or 1) // num_workers
        threads["OMP_NUM_THREADS"] = str(max(1, share))
    workers = [
        Program(
            name=f"worker {number}",
            command=[*python, "worker"],
            environment={**environment, **threads, **gpu_of(number, gpus)},
            grace_s=15.0,
            failure_hint=api.failure_hint,
            hopeless_status=MISCONFIGURED,
        )
        for number in range(1, num_workers + 1)
    ]
    needed = [
        Program(
            name="reconciler",
            command=[*python, "service.reconciler"],
            environment=environment,
            failure_hint=api.failure_hint,
            hopeless_status=MISCONFIGURED,
        ),
    ]
    if environment.get("TALKFACE_CONTENT_CREDENTIALS", "true").lower() not in _OFF:
        needed.append(
            Program(
                name="signer",
                command=[*python, "service.provenance"],
                environment=environment,
                # Workers that finish what they draw still need it.
                stop_order=1,
                failure_hint=api.failure_hint,
            )
        )
    helping = [
        Program(
            name="validator",
            command=[*python, "worker.validation"],
            environment=environment,
            failure_hint=api.failure_hint,
            hopeless_status=MISCONFIGURED,
        )
    ]
    # The test card draws whatever it is given; a picture without a face is no error there.
    if environment.get("TALKFACE_RENDERER") != "test-card":
        helping.append(
            Program(
                name="inspector",
                command=[*python, "worker.inspection"],
                # One picture at a time must not take the renderers' cores.
                environment={"OMP_NUM_THREADS": "1", **environment},
                failure_hint=api.failure_hint,
                hopeless_status=MISCONFIGURED,
            )
        )
    return [[api, *workers], needed, helping]


def redis_program(redis: PrivateRedis, environment: Mapping[str, str]) -> Program:
    """The private Redis, which is stopped last."""
    return Program(
        name="redis",
        command=redis.command,
        environment=environment,
        stop_order=1,
        grace_s=8.0,
        failure_hint=redis.last_log_lines,
    )
