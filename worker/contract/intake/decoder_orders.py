"""What a decoder is told to do and how it ended, and how a process asks another one to run it.

    API, validator ──one JSON line: the order──▶ decoder server   (a socket on the data volume)
                   ◀─one JSON line: the end────  (`decoder_server`)

Whoever hangs up ends its decoder. Files are named, not sent: both sides have the volume.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_LOOK_S: Final = 0.5
_PATIENCE_S: Final = 20.0
"""How long a server that is being started anew is waited for, in seconds."""


@dataclass(frozen=True)
class ChildLimits:
    """Bounds of one child: address space, processor time, patience, and any file it writes."""

    memory_bytes: int
    cpu_s: int
    wall_clock_s: float
    max_file_bytes: int


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended: exit status (negative = signal), standard output, last standard error."""

    status: int
    output: bytes
    errors: str

    @property
    def words(self) -> str:
        """The last line of its complaints, without any path of the server."""
        lines = self.errors.strip().splitlines()
        if not lines:
            return ""
        # Keep what follows the last colon of ffmpeg's or Python's message.
        return lines[-1].rsplit("/", 1)[-1].rsplit(": ", 1)[-1][:200]


@dataclass(frozen=True)
class Order:
    """One decoder to run; see `limited_child.run_limited`."""

    command: tuple[str, ...]
    limits: ChildLimits
    reads: tuple[Path, ...]
    writes: Path | None
    told: bytes = b""

    def to_line(self) -> bytes:
        """For the wire."""
        values = {**asdict(self), "told": base64.b64encode(self.told).decode()}
        return json.dumps(values, default=str).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> Order:
        """What `to_line` made.

        Raises:
            ValueError, KeyError, TypeError: It is no order.
        """
        values = json.loads(line)
        return Order(
            command=tuple(values["command"]),
            limits=ChildLimits(**values["limits"]),
            reads=tuple(Path(path) for path in values["reads"]),
            writes=None if values["writes"] is None else Path(values["writes"]),
            told=base64.b64decode(values.get("told", "")),
        )


class DecoderAwayError(Exception):
    """The process that decodes cannot be reached; nothing is wrong with the upload."""


def run_elsewhere(path: Path, order: Order, on_wait: Callable[[], None]) -> ChildEnd:
    """Let the decoder server at a socket run an order to its end.

    Raises:
        subprocess.TimeoutExpired: The order's wall clock ran out.
        DecoderAwayError: The server cannot be reached, or ended meanwhile.
    """
    with _connected(path, on_wait) as stream:
        answer = b""
        try:
            stream.sendall(order.to_line())
            stream.settimeout(_LOOK_S)
            while not answer.endswith(b"\n"):
                try:
                    piece = stream.recv(2**16)
                except TimeoutError:
                    on_wait()
                    continue
                if not piece:
                    raise DecoderAwayError("the decoder server ended")
                answer += piece
        except OSError as error:
            raise DecoderAwayError(str(error)) from error
    values = json.loads(answer)
    if values is None:
        raise subprocess.TimeoutExpired(order.command[0], order.limits.wall_clock_s)
    return ChildEnd(values["status"], base64.b64decode(values["output"]), values["errors"])


def end_line(end: ChildEnd | None) -> bytes:
    """An end for the wire; None: the wall clock ran out."""
    if end is None:
        return b"null\n"
    output = base64.b64encode(end.output).decode()
    return (
        json.dumps({"status": end.status, "output": output, "errors": end.errors}).encode() + b"\n"
    )


def _connected(path: Path, on_wait: Callable[[], None]) -> socket.socket:
    until = time.monotonic() + _PATIENCE_S
    while True:
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(str(path))
        except OSError as error:
            stream.close()
            if time.monotonic() >= until:
                raise DecoderAwayError(f"no decoder server at {path}: {error.strerror}") from None
        else:
            return stream
        on_wait()
        time.sleep(_LOOK_S)
