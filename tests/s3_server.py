"""An S3 server on loopback: moto's, in a process of its own, with its objects in memory.

    python -m tests.s3_server DESCRIPTOR      of a socket that listens

Writes are let in one at a time, because moto looks whether a key is free and takes it in two steps;
S3 does that in one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

ROOT: Final = Path(__file__).resolve().parents[1]
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "talkface-test",
    "AWS_SECRET_ACCESS_KEY": "talkface-test-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class S3Server:
    """A server that runs."""

    url: str

    def bucket(self, name: str) -> str:
        """Make a bucket."""
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """boto3's client, for looking behind the store's back."""
        return client_of(self.url)

    def environment(self, bucket: str) -> dict[str, str]:
        """What a process of ours needs to keep its files there."""
        return {
            **CREDENTIALS,
            "TALKFACE_S3_BUCKET": bucket,
            "TALKFACE_S3_ENDPOINT_URL": self.url,
        }


@lru_cache
def client_of(url: str) -> Any:
    """boto3's client of a server at an address."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Start one that listens on an address of this machine, and end it."""
    environment = {**os.environ, **CREDENTIALS, "PYTHONPATH": str(ROOT)}
    with socket.create_server((host, 0), backlog=512) as listener:
        descriptor, port = listener.fileno(), listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.s3_server", str(descriptor)],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
        )
    try:
        server = S3Server(f"http://{host}:{port}")
        _wait(server, process)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60.0
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            server.client().list_buckets()
            return
        assert process.poll() is None, "the S3 server has ended"
        time.sleep(0.1)
    raise TimeoutError("the S3 server does not answer")


_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _one_write_at_a_time(application: _Application) -> _Application:
    lock = threading.Lock()

    def locked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            return application(environ, start_response)
        with lock:
            return application(environ, start_response)

    return locked


def main() -> None:
    """Serve until killed."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: Any, **__: Any) -> None:
            return

    application = DomainDispatcherApplication(create_backend_app)
    make_server(
        "127.0.0.1",
        0,
        _one_write_at_a_time(application),
        threaded=True,
        request_handler=Quiet,
        fd=int(sys.argv[1]),
    ).serve_forever()


if __name__ == "__main__":
    main()
