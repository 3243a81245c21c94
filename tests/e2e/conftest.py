"""A whole service, started as a user starts it, with a renderer that needs no model."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import httpx2
import numpy as np
import psutil
import pytest
import skimage.data
import soundfile
from PIL import Image

START_LIMIT_S = 120.0
JOB_LIMIT_S = 120.0


@dataclass
class Up:
    """A running `talkface up`."""

    process: subprocess.Popen[str]
    data_dir: Path
    url: str = ""
    lines: list[str] = field(default_factory=list)

    @cached_property
    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60.0)

    def post(self, image: Path, audio: Path, **options: str) -> httpx2.Response:
        """Send a portrait and a voice."""
        return self.post_files(("image", image), ("audio", audio), **options)

    def post_files(self, *parts: tuple[str, Path], **options: str) -> httpx2.Response:
        """Send files; a name may come several times."""
        with ExitStack() as stack:
            files = [
                (name, (path.name, stack.enter_context(path.open("rb")))) for name, path in parts
            ]
            return self.client.post("/v1/talking-face", files=files, data=options)

    def wait_for_end(self, job: dict[str, Any]) -> dict[str, Any]:
        """Poll a job until it ends."""
        until_s = time.monotonic() + JOB_LIMIT_S
        while time.monotonic() < until_s:
            answer = self.client.get(job["links"]["self"])
            if answer.status_code == 200 and answer.json()["state"] in ("succeeded", "failed"):
                ended: dict[str, Any] = answer.json()
                return ended
            time.sleep(0.1)
        raise AssertionError(f"the job did not end within {JOB_LIMIT_S} s: {answer.text}")

    def children(self, name: str = "") -> list[psutil.Process]:
        """Processes below `up`, all or those whose command line holds `name`."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile, or is a zombie
                # Whole words: `-m worker` is not `-m worker.validation`.
                if f"{name} " in " ".join([*child.cmdline(), ""]):
                    found.append(child)
        return found

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60.0)


class RunUp(Protocol):
    def __call__(
        self, data_dir: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> AbstractContextManager[Up]: ...


@contextmanager
def _running_up(
    data_dir: Path, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[Up]:
    """Run `talkface up` on a free port until the block ends; kill it if it does not obey."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "talkface", "up", "--port", "0", "--data-dir", data_dir, *arguments],
        env={**inherited, "TALKFACE_RENDERER": "test-card", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=data_dir.parent,
    )
    up = Up(process, data_dir)
    ready: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_collect, args=(up, ready), daemon=True)
    reader.start()
    try:
        url = ready.get(timeout=START_LIMIT_S)
        assert url, "talkface up ended while it started:\n" + "\n".join(up.lines[-30:])
        up.url = url
        yield up
    finally:
        up.client.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=60.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(timeout=10.0)
        assert process.stdout is not None
        process.stdout.close()


def _collect(up: Up, ready: queue.Queue[str]) -> None:
    assert up.process.stdout is not None
    for line in up.process.stdout:
        up.lines.append(line.rstrip())
        if line.startswith("talkface is ready on "):
            ready.put(line.split()[-1])
    ready.put("")


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "portrait.jpg"
    Image.fromarray(skimage.data.astronaut()[0:301, 80:381]).save(path, quality=90)
    return path


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "voice.wav"
    times = np.arange(44_100) / 44_100
    hum = 0.3 * np.sin(2 * np.pi * 150 * times) * (1 + np.sin(2 * np.pi * 4 * times)) / 2
    soundfile.write(path, np.stack([hum, hum], axis=1), 44_100)
    return path


@pytest.fixture(scope="session")
def run_up() -> RunUp:
    """Starts a service of its own for a test that damages it."""
    return _running_up


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One service for all tests that leave it as it is."""
    with _running_up(tmp_path_factory.mktemp("server") / "data") as up:
        yield up
