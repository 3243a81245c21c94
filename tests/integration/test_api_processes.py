"""`python -m service`: its descriptors, several processes on one socket, and their end."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

from tests.integration.conftest import PATIENCE_S, RedisServer, eventually


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def is_healthy(url: str) -> bool:
    return httpx2.get(f"{url}/healthz", timeout=PATIENCE_S).status_code == 200


@contextmanager
def api_process(redis: RedisServer, data_dir: Path, log: Path, **settings: object) -> Iterator[Any]:
    """`python -m service` with its address."""
    variables = {"redis_url": redis.url, "data_dir": data_dir, "port": 0, **settings}
    environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
    environment |= {f"TALKFACE_{key.upper()}": str(value) for key, value in variables.items()}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env=environment,
            stderr=stream,
            # What a system allows that was not set up for a server, and less.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 300)),
        )
    try:
        eventually(lambda: "running on http://" in log.read_text(), "the API listens")
        port = log.read_text().partition("running on http://127.0.0.1:")[2].split()[0]
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_idle_sockets_do_not_use_up_the_descriptors(
    redis_server: RedisServer, data_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with api_process(redis_server, data_dir, log) as (process, url):
        assert '"descriptors": 300' in log.read_text()
        clients = [socket.create_connection(("127.0.0.1", port_of(url))) for _ in range(600)]
        try:
            for _ in range(10):
                assert is_healthy(url)
            assert psutil.Process(process.pid).num_fds() < 300
        finally:
            for client in clients:
                client.close()


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that serve; multiprocessing has a helper of its own."""
    found = []
    for child in psutil.Process(process.pid).children():
        # One that has just been killed has no command line any more.
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_two_processes_serve_one_socket_and_end_together(
    redis_server: RedisServer, data_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with api_process(redis_server, data_dir, log, processes=2) as (process, url):
        eventually(lambda: log.read_text().count('"service_started"') == 2, "both have started")
        first, second = children_of(process)
        assert is_healthy(url)

        # One alone serves too, and the other comes back.
        first.kill()
        first.wait(timeout=PATIENCE_S)
        assert is_healthy(url)
        eventually(
            lambda: (
                {second.pid} < {child.pid for child in children_of(process)}
                and log.read_text().count('"service_started"') == 3
            ),
            "the killed one is replaced",
        )
        children = children_of(process)
        assert len(children) == 2

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
        assert not any(child.is_running() for child in children)


def test_processes_do_not_outlive_their_parent(
    redis_server: RedisServer, data_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with api_process(redis_server, data_dir, log, processes=2) as (process, _):
        eventually(lambda: log.read_text().count('"service_started"') == 2, "both have started")
        children = children_of(process)
        process.kill()
        process.wait()
        eventually(lambda: not any(child.is_running() for child in children), "they end")
