"""uvicorn, told how to end: who waits for a job is let go first."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

# Open downloads may go on for so long after SIGTERM, in seconds.
GRACE_S = 5


class ApiServer(uvicorn.Server):
    """Serves the application until SIGTERM or SIGINT.

    Args:
        app: Made by `create_app`.
        host: Address to listen on.
        port: Port to listen on.
    """

    def __init__(self, app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                # Our own lines: JSON, with the request id.
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop to listen, then wait for the answers that are under way."""
        # A stream of events lasts as long as its job, and would be waited for.
        self._app.state.resources.watch.close()
        await super().shutdown(sockets)
