"""`python -m worker.contract.intake.decoder_server`: decodes for others, and knows nothing else.

For a container without a network, without Redis and without the installation's secret: what breaks
out of a decoder's sandbox there finds uploads and nothing more. It runs ffmpeg, the picture child, the
one that reads Content Credentials and the one that looks for watermarks, whatever it is asked to run.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.contract.intake.decoder_orders import Order, end_line
from worker.contract.intake.limited_child import ffmpeg_path, run_here
from worker.contract.intake.sandbox import SandboxMode
from worker.contract.logs import LogLevel, configure_logging, get_logger
from worker.contract.start import StartError, check_data_dir, check_sandbox, read_settings, refuse

_MODULES: Final = (
    "worker.contract.intake.picture_child",
    "service.provenance.reading_child",
    "worker.watermark_child",
)
_LONGEST_ORDER: Final = 2**16
_log = get_logger("decoder")


class DecoderSettings(BaseSettings):
    """Settings of the decoder server."""

    model_config = SettingsConfigDict(env_prefix="TALKFACE_", frozen=True)

    data_dir: Annotated[Path, Field(description="Folder of uploads.")] = Path("talkface-data")
    decoder_socket: Annotated[
        Path, Field(description="Where it listens; on a volume that those who ask have as well.")
    ]
    log_level: Annotated[LogLevel, Field(description="Least level logged.")] = "INFO"
    sandbox: Annotated[
        SandboxMode, Field(description="`require` or `warn`, as for the service.")
    ] = SandboxMode.WARN


class _HungUpError(Exception):
    """Whoever asked is gone."""


class _Handler(socketserver.StreamRequestHandler):
    """One order."""

    def handle(self) -> None:
        """Run it and tell the end."""
        try:
            order = Order.from_line(self.rfile.readline(_LONGEST_ORDER))
            command = _checked(order.command)
        except (ValueError, KeyError, TypeError):
            _log.warning("order_refused")
            return
        try:
            where = (order.reads, order.writes)
            end = run_here(command, order.limits, *where, self._look_up, order.told)
        except subprocess.TimeoutExpired:
            end = None
        except _HungUpError:
            _log.info("order_dropped")
            return
        with contextlib.suppress(OSError):
            self.wfile.write(end_line(end))

    def _look_up(self) -> None:
        readable, _, _ = select.select([self.connection], [], [], 0)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise _HungUpError


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def _checked(command: tuple[str, ...]) -> list[str]:
    """The command with our own ffmpeg.

    Raises:
        ValueError: It is another program.
    """
    if command[0] == "-m" and command[1] in _MODULES:
        return list(command)
    if Path(command[0]).name.startswith("ffmpeg"):
        return [ffmpeg_path(), *command[1:]]
    raise ValueError(command[0])


def make_server(path: Path) -> socketserver.BaseServer:
    """A server that listens at a path; what lies there of an earlier one is removed."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        return _Server(str(path), _Handler)
    finally:
        os.umask(before)


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    try:
        settings = read_settings(DecoderSettings)
        configure_logging("decoder", settings.log_level)
        check_data_dir(settings.data_dir)
        check_sandbox(settings.sandbox)
    except StartError as error:
        refuse(error)

    def stop(_signum: int, _frame: FrameType | None) -> None:
        # Its threads are daemons; the kernel ends what they run with the container.
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with make_server(settings.decoder_socket) as server:
        _log.info("decoder_started")
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
