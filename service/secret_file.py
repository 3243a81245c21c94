"""The installation's own secret, from which every purpose has a key of its own.

It lies beside the artifact folder, never in it. What one purpose gives away says nothing about another.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from worker.contract.key_file import SecretFileError, load_key, put_key, read_key

__all__ = ["InstallSecret", "SecretFileError", "adopt_secret"]


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
            self._secret = load_key(self._path)
        return hmac.new(self._secret, purpose.encode(), hashlib.sha256).digest()


def adopt_secret(old: Path, new: Path) -> None:
    """Move the secret to another place, if it is still at the old one and the new one is empty.

    Raises:
        SecretFileError: The old file is readable by others or has the wrong size.
        OSError: It cannot be moved.
    """
    if new == old or new.exists() or not old.exists():
        return
    put_key(new, read_key(old))
    old.unlink()
