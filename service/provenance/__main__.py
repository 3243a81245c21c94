"""The signer: `python -m service.provenance`, or with `--connection FD` for one client alone.

It holds the key and works on finished files that it is handed; nothing that a stranger sent is
decoded here. `talkface up` and compose start it and start it again when it dies.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final, cast

from pydantic import ValidationError

from service.provenance.authority import AuthorityError
from service.provenance.settings import SignerSettings
from service.provenance.signing import VideoSigner
from worker.contract.environment import unknown_variables
from worker.contract.logs import configure_logging, get_logger
from worker.contract.signing import (
    MOST_BYTES,
    SigningAnswer,
    SigningError,
    SigningRequest,
    reachable,
)

_PARALLEL: Final = 4
_REQUEST_S: Final = 30.0
"""A client that connects and asks nothing is let go after so long."""
_log = get_logger(__name__)


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service.provenance", description="The signer.")
    parser.add_argument("--connection", type=int, help="Serve this open socket and end with it.")
    connection_number: int | None = parser.parse_args().connection
    settings = SignerSettings()
    configure_logging("signer", settings.log_level)
    signer = VideoSigner(settings)
    try:
        signer.prepare()
    except (AuthorityError, OSError) as error:
        _log.error("cannot_sign", reason=str(error))
        return 1
    if connection_number is not None:
        with socket.socket(fileno=connection_number) as connection:
            _serve(connection, signer)
        return 0
    for name in unknown_variables(os.environ):
        _log.warning("unknown_variable", name=name)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    with _listener(settings.socket_path) as listener, ThreadPoolExecutor(_PARALLEL) as pool:
        _log.info(
            "signer_listening", certificates="own" if settings.signing_key else "installation"
        )
        while True:
            pool.submit(_attend, listener.accept()[0], signer)


def _listener(path: Path) -> socket.socket:
    """Listen at a path, where an earlier signer may have left its socket."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Bound beside it and renamed: clients find the old socket, which refuses them, or the new one.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with reachable(fresh) as address:
        listener.bind(address)
    fresh.chmod(0o600)
    listener.listen(64)
    fresh.replace(path)
    return listener


def _attend(connection: socket.socket, signer: VideoSigner) -> None:
    with connection:
        connection.settimeout(_REQUEST_S)
        # Whoever asks and leaves is nobody's loss.
        with contextlib.suppress(OSError):
            _serve(connection, signer)


def _serve(connection: socket.socket, signer: VideoSigner) -> None:
    packet, descriptors, _, _ = socket.recv_fds(connection, MOST_BYTES, 2)
    files = [
        cast(BinaryIO, os.fdopen(number, mode))
        for number, mode in zip(descriptors, ("rb", "w+b"), strict=False)
    ]
    try:
        if packet:
            answer = _answer(packet, files, signer)
            connection.sendall(answer.model_dump_json(exclude_defaults=True).encode())
    finally:
        for file in files:
            file.close()


def _answer(packet: bytes, files: list[BinaryIO], signer: VideoSigner) -> SigningAnswer:
    try:
        request = SigningRequest.model_validate_json(packet)
        if request.ask == "trust":
            trust = signer.trust()
            return SigningAnswer(**asdict(trust))
        if len(files) != 2:
            raise SigningError(f"expected two open files beside the request, got {len(files)}")
        credentials = signer.sign(request, files[0], files[1])
    except ValidationError:
        return SigningAnswer(error="the request cannot be read; is the worker of another release?")
    except SigningError as error:
        _log.error("not_signed", reason=str(error))
        return SigningAnswer(error=str(error), is_lasting=error.is_lasting)
    _log.info("signed", manifest=credentials.manifest, timestamp=credentials.timestamp)
    return SigningAnswer(credentials=credentials)


def _end(_signum: int, _frame: FrameType | None) -> None:
    # What is being signed is asked for again.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
