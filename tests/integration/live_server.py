"""The application on a real port, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from service.server import ApiServer
from service.settings import ServiceSettings
from tests.integration.conftest import eventually


class LiveServer:
    """Where it listens, and its end."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._server = ApiServer(settings.model_copy(update={"port": 0}))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        eventually(lambda: self._server.started, "the server listens")
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=90.0, **options)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=60.0)
        assert not self._thread.is_alive()


@contextmanager
def live_server(redis_url: str, data_dir: Path, **options: Any) -> Iterator[LiveServer]:
    settings = ServiceSettings(
        redis_url=redis_url, data_dir=data_dir, min_free_bytes=0, write_rate="100000/minute"
    ).model_copy(update=options)
    server = LiveServer(settings)
    try:
        yield server
    finally:
        server.stop()
