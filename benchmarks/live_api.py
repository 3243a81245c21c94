"""A Redis with `appendfsync always` and the API, as processes of their own, for measurements."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.integration.conftest import RedisServer

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class LiveApi:
    """What a measurement needs.

    Args:
        url: Where the API listens.
        redis: Its Redis.
        process: The API's process.
        environment: Of it, for further processes of the same installation.
    """

    url: str
    redis: RedisServer
    process: psutil.Process
    environment: dict[str, str]


@contextmanager
def live_api(**settings: object) -> Iterator[LiveApi]:
    """Start Redis and the API on loopback; stop both and delete their data at the end.

    Args:
        settings: Of the service, by name.
    """
    with tempfile.TemporaryDirectory(prefix="tf-load-") as name:
        folder = Path(name)
        redis = RedisServer(folder)
        redis.start()
        variables = {
            "redis_url": redis.url,
            "data_dir": folder / "data",
            "log_level": "WARNING",
            **settings,
        }
        environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
        environment |= {f"TALKFACE_{key.upper()}": str(value) for key, value in variables.items()}
        # Bound here, so that the port is known, and who comes too early waits.
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            api = subprocess.Popen(
                [sys.executable, "-m", "talkface.api_process", str(listener.fileno())],
                env=environment,
                pass_fds=[listener.fileno()],
                cwd=ROOT,
            )
        try:
            yield LiveApi(url, redis, psutil.Process(api.pid), environment)
        finally:
            api.terminate()
            api.wait(timeout=30)
            redis.stop()
