"""A real Redis, a real worker process and the real application for each test that asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from redis import Redis, RedisError
from starlette.testclient import TestClient

from service.keys import KeyStore
from service.main import create_app
from service.settings import ServiceSettings
from talkface.private_redis import find_redis_binary
from talkface.redis_users import OPERATOR, password_path, write_users
from tests.films import film
from tests.signer import shared_signer
from tests.uploads import picture, tone
from worker.contract.artifact_folder import FolderStore
from worker.contract.ledger import Ledger
from worker.contract.messages import (
    AudioInput,
    ImageInput,
    JobInput,
    JobRecord,
    JobState,
    SamplingOptions,
)
from worker.contract.queues import connect

PATIENCE_S = 60.0
ID = "0123456789abcdef0123456789abcdef"


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` is true; the bound is for a machine that hangs, not a speed test."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.05)


def redis_server_path() -> str:
    """The server that `talkface up` would start."""
    found = find_redis_binary()
    assert found is not None
    return str(found)


class RedisServer:
    """A Redis on a unix socket that keeps its data over a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                redis_server_path(),
                *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
                # The users of a private Redis: what the tests do, our processes may do there.
                *("--aclfile", str(write_users(self._folder))),
            ],
            stdout=subprocess.DEVNULL,
        )
        eventually(self._answers, "redis-server answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Redis:
        return connect(self.url)

    def operator(self) -> Redis:
        """A client that may do everything."""
        password = password_path(self._folder).read_text()
        return connect(f"unix://{OPERATOR}:{password}@{self.socket}")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False


class WorkerProcess:
    """`python -m worker`, or another module, with its log in a file."""

    def __init__(
        self,
        redis_url: str,
        data_dir: Path,
        log: Path,
        module: str = "worker",
        **settings: object,
    ) -> None:
        variables = {
            "redis_url": redis_url,
            "data_dir": data_dir,
            "renderer": "test-card",
            **({"signer_socket": shared_signer().socket} if module == "worker" else {}),
            **settings,
        }
        environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
        environment |= {f"TALKFACE_{key.upper()}": str(value) for key, value in variables.items()}
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module], env=environment, stderr=stream
            )

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, event: str) -> None:
        eventually(lambda: f'"{event}"' in self.log(), f"the worker logs {event}\n{self.log()}")

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        return self._process.wait(timeout=PATIENCE_S)

    def wait(self) -> int:
        """The exit status of a process that ends by itself."""
        return self._process.wait(timeout=PATIENCE_S)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


StartWorker = Callable[..., WorkerProcess]
MakeClient = Callable[..., TestClient]


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    # Not below tmp_path: the name of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tf-redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    with redis_server.operator() as client:
        yield client


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return Ledger(redis)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def keys(redis: Redis, data_dir: Path) -> KeyStore:
    return KeyStore(redis, FolderStore(data_dir))


@pytest.fixture
def start_worker(
    redis_server: RedisServer, data_dir: Path, tmp_path: Path
) -> Iterator[StartWorker]:
    started: list[WorkerProcess] = []

    def start(module: str = "worker", **settings: object) -> WorkerProcess:
        log = tmp_path / f"worker-{len(started)}.log"
        worker = WorkerProcess(redis_server.url, data_dir, log, module, **settings)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def make_app(redis_server: RedisServer, data_dir: Path) -> Callable[..., FastAPI]:
    """Applications on the test's Redis, each with settings of its own."""

    def make(**options: Any) -> FastAPI:
        settings = {
            "redis_url": redis_server.url,
            "data_dir": data_dir,
            "min_free_bytes": 0,
            # Whoever wants a signer says which; without one, nobody waits for it to be ready.
            "content_credentials": "signer_socket" in options,
        }
        return create_app(ServiceSettings(**{**settings, **options}))

    return make


@pytest.fixture
def make_client(make_app: Callable[..., FastAPI]) -> Iterator[MakeClient]:
    with ExitStack() as running:
        yield lambda **options: running.enter_context(TestClient(make_app(**options)))


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client()


@pytest.fixture(scope="session")
def film_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MP4 of 1 s, 30 frames a second, 160 x 90."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return film(path, fps="30").read_bytes()


@pytest.fixture
def post(client: TestClient) -> Callable[..., str]:
    """Post a job and return its id."""

    def post_job(seconds: float = 1.0, **options: str) -> str:
        response = client.post(
            "/v1/talking-face",
            files={"audio": ("a.wav", tone(seconds)), "image": ("i.jpg", picture())},
            data=options,
        )
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    return post_job


def new_record() -> JobRecord:
    """A job of one second that nobody has taken yet."""
    return JobRecord(
        id=ID,
        state=JobState.QUEUED,
        created_at=datetime.now(UTC),
        request_id="request",
        input=JobInput(
            audio=AudioInput(
                seconds=1.0, sample_rate_hz=48_000, channels=1, format="wav", bytes=1, sha256="a"
            ),
            image=ImageInput(width=64, height=64, format="png", bytes=1, sha256="b"),
            options=SamplingOptions(seed=3),
        ),
    )
