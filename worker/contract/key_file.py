"""A secret of the installation in a file: 32 random bytes that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 32


class SecretFileError(Exception):
    """The file cannot be trusted: others can read it, or it is no secret of ours."""


def load_key(path: Path) -> bytes:
    """The secret in a file, made if there is none; several processes may ask at once.

    Raises:
        SecretFileError: The file is readable by others or has the wrong size.
        OSError: It can be neither read nor made.
    """
    try:
        return read_key(path)
    except FileNotFoundError:
        put_key(path, secrets.token_bytes(KEY_BYTES))
        return read_key(path)


def read_key(path: Path) -> bytes:
    """The secret in a file that is there.

    Raises:
        SecretFileError: The file is readable by others or has the wrong size.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        secret = stream.read(KEY_BYTES + 1)
    if mode & 0o077:
        raise SecretFileError(
            f"{path} has mode {mode:04o}, so others can read it; expected 0600. Delete it, and a "
            "new one is made: what was made with this one, such as links that were given out, "
            "webhook secrets and watermarks, is not known any more"
        )
    if len(secret) != KEY_BYTES:
        raise SecretFileError(f"{path} has the wrong size; expected {KEY_BYTES} bytes")
    return secret


def put_key(path: Path, secret: bytes) -> None:
    """Make the file, unless somebody else was faster.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes it 0600 from the first moment; the link is whole or absent, and first come wins.
    descriptor, name = tempfile.mkstemp(prefix=".secret-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secret)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        os.unlink(name)
