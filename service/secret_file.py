"""The installation's own secret: 32 random bytes in a file that only its owner can read.

It lies beside the artifact folder, never in it, and every purpose has a key derived from it, so
that what one purpose gives away says nothing about another.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

_BYTES: Final = 32


class SecretFileError(Exception):
    """The file cannot be trusted: others can read it, or it is no secret of ours."""


class InstallSecret:
    """The secret in a file, made when it is first needed.

    Args:
        path: The file. Several processes may ask at the same time; all get the same secret.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secret: bytes | None = None

    def key_for(self, purpose: str) -> bytes:
        """The key of a purpose, 32 bytes; blocks on the disk the first time.

        Raises:
            SecretFileError: The file is readable by others or has the wrong size.
            OSError: It can be neither read nor made.
        """
        if self._secret is None:
            self._secret = _load(self._path)
        return hmac.new(self._secret, purpose.encode(), hashlib.sha256).digest()


def adopt_secret(old: Path, new: Path) -> None:
    """Move the secret to another place, if it is still at the old one and the new one is empty.

    Raises:
        SecretFileError: The old file is readable by others or has the wrong size.
        OSError: It cannot be moved.
    """
    if new == old or new.exists() or not old.exists():
        return
    _put(new, _read(old))
    old.unlink()


def _load(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        _put(path, secrets.token_bytes(_BYTES))
        return _read(path)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        secret = stream.read(_BYTES + 1)
    if mode & 0o077:
        raise SecretFileError(
            f"{path} has mode {mode:04o}, so others can read it; expected 0600. Delete it, and a "
            "new one is made: links and webhook secrets that were given out become invalid"
        )
    if len(secret) != _BYTES:
        raise SecretFileError(f"{path} has the wrong size; expected {_BYTES} bytes")
    return secret


def _put(path: Path, secret: bytes) -> None:
    """Make the file, unless somebody else was faster."""
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
