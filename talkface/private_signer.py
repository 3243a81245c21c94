"""Sign one file without a service: by a short child process that holds the key and ends with the job.

The key is not in this process, which decodes what it is given.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.contract.results import Credentials
from worker.contract.signing import SignerGoneError, SigningError, SigningRequest, ask_to_sign

_FOLDER: Final = Path("secrets", "content-credentials")
_CHOSEN_FOLDER: Final = "TALKFACE_SIGNING_DIR"


def signing_folder(
    data_dir: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Path:
    """Where the keys of this machine's user lie, who may run a service or not.

    Args:
        data_dir: Data folder of a service; None = `TALKFACE_DATA_DIR`.
        environment: Variables.
    """
    if chosen := environment.get(_CHOSEN_FOLDER):
        return Path(chosen)
    if data_dir is not None:
        return data_dir / _FOLDER
    if folder := environment.get("TALKFACE_DATA_DIR"):
        return Path(folder) / _FOLDER
    # A service that was started here has its keys here; without one they are the user's.
    if (here := Path("talkface-data") / _FOLDER).is_dir():
        return here
    return user_folder(environment)


def watermark_key_path(
    data_dir: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Path:
    """Where the watermark's key of this machine's user lies; the arguments are as above."""
    if chosen := environment.get("TALKFACE_WATERMARK_KEY_FILE"):
        return Path(chosen)
    others = {name: value for name, value in environment.items() if name != _CHOSEN_FOLDER}
    return signing_folder(data_dir, others).with_name("watermark.key")


def user_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the keys lie of somebody who runs no service."""
    home = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "talkface" / "content-credentials"


def sign_once(request: SigningRequest, source: Path, destination: Path) -> Credentials:
    """Have a finished file signed.

    Args:
        request: What is to be said of it.
        source: The MP4.
        destination: Where the signed one goes.

    Raises:
        SigningError: It cannot be signed; the child has said why on standard error.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The package's own code, wherever this was started.
    code = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        _CHOSEN_FOLDER: str(signing_folder().absolute()),
        "TALKFACE_LOG_LEVEL": "ERROR",
        "PYTHONPATH": code if not inherited else code + os.pathsep + inherited,
    }
    command = [sys.executable, "-P", "-m", "service.provenance"]
    with ours:
        with theirs:
            child = subprocess.Popen(
                [*command, "--connection", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        try:
            return ask_to_sign(ours, request, source, destination)
        except SignerGoneError as error:
            raise SigningError(f"the signer ended before it had signed ({error})") from error
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            child.wait()
