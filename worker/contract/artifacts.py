"""Files that outlive a process, behind verbs that a folder and object storage both answer.

    inputs/<job>/input.png ... results/<job>/<token>.mp4     published: whole, and written once
    <data_dir>/scratch/<random>/                             work in progress, on this machine

Keys are made of ids and constants, never of a client's words. `artifact_folder` keeps files on a volume,
`artifact_bucket` in S3-compatible storage, and `artifact_settings` chooses between the two.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 256 * 1024
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*(\.[a-z0-9]+)?")


class ArtifactError(Exception):
    """Root of what a store raises."""


class ArtifactNotFoundError(ArtifactError):
    """Nothing was published under this key."""


class ArtifactExistsError(ArtifactError):
    """Something else was published under this key before; a key is written once."""


class StorageFullError(ArtifactError):
    """The storage has too little room."""


class StorageAwayError(ArtifactError, OSError):
    """The storage does not answer, or refuses us; later it may not. Every verb may raise it."""


@dataclass(frozen=True)
class ArtifactStat:
    """Size of a published file in bytes."""

    bytes: int


class ArtifactStore(ABC):
    """Where published files are.

    Args:
        data_dir: The process's own data folder; work in progress is below it in either store.
    """

    def __init__(self, data_dir: Path) -> None:
        self._scratch = data_dir / "scratch"

    @abstractmethod
    def put(self, key: str, local_path: Path) -> None:
        """Publish a file: durable when this returns, whole or absent at every moment.

        The file is moved: nothing is left at `local_path`, so nobody can change what is published.

        Raises:
            ArtifactExistsError: The key was published before.
            StorageFullError: The storage has no room.
        """

    @abstractmethod
    def local_copy(self, key: str) -> AbstractContextManager[Path]:
        """A local path of a published file, for as long as the context lasts; read only.

        Raises:
            ArtifactNotFoundError: Nothing was published under this key.
        """

    @abstractmethod
    def read_range(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes `start` (included) to `stop` (excluded) in pieces.

        Raises:
            ArtifactNotFoundError: Nothing was published under this key.
        """

    @abstractmethod
    def stat(self, key: str) -> ArtifactStat:
        """Size of a published file.

        Raises:
            ArtifactNotFoundError: Nothing was published under this key.
        """

    def download_url(self, key: str, *, content_type: str, disposition: str) -> str | None:
        """Where a client may fetch a file without us, or None: the service hands it out itself.

        Args:
            key: Of a published file.
            content_type: What the storage shall say it is.
            disposition: Its `Content-Disposition`.
        """
        return None

    @abstractmethod
    def delete(self, key: str) -> None:
        """Erase one file; nothing there is fine."""

    @abstractmethod
    def names(self, prefix: str) -> dict[str, float]:
        """What lies directly below a folder of keys, with its age in seconds.

        Files that are not whole are left out; `sweep` is for them.
        """

    @abstractmethod
    def delete_prefix(self, prefix: str) -> None:
        """Erase everything under a folder of keys such as `inputs/<job>`; nothing there is fine."""

    def sweep(self, *, older_than_s: float) -> int:
        """Remove what crashed processes left: scratch folders here, half-written files in the store.

        Returns:
            How many were removed.
        """
        deadline = time.time() - older_than_s
        removed = sum(remove_if_older(path, deadline) for path in self._scratch.glob("*"))
        return removed + self._sweep_store(deadline)

    @abstractmethod
    def _sweep_store(self, deadline: float) -> int:
        """Remove half-written files of the store that were last touched before a Unix time."""

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder for work in progress, gone with the context.

        Raises:
            StorageFullError: The volume has no room.
        """
        with full_volume():
            self._scratch.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(dir=self._scratch)
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @abstractmethod
    def check_writable(self) -> None:
        """Write something where published files go.

        Raises:
            OSError: It cannot be written.
        """


def fetch_copy(store: ArtifactStore, key: str, target: Path) -> None:
    """Have a published file at a local path as well, whatever becomes of its key; not to be written to.

    Args:
        store: Where it is.
        key: Which file.
        target: Must not exist.

    Raises:
        ArtifactNotFoundError: Nothing was published under this key.
        StorageFullError: The volume has no room.
    """
    with store.local_copy(key) as path, full_volume():
        try:
            # Two names of one file: nothing is copied, and either may be erased.
            os.link(path, target)
        except FileNotFoundError:
            raise ArtifactNotFoundError(key) from None
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            shutil.copyfile(path, target)


def is_key(text: str) -> bool:
    """Whether a text is a key, or a part of one."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> None:
    """Return for a key.

    Raises:
        ValueError: It is none.
    """
    if not is_key(key):
        raise ValueError(f"not an artifact key: {key!r}")


def remove_if_older(path: Path, deadline: float) -> bool:
    """Remove a file or folder that was last touched before a Unix time; whether it was."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mtime < deadline:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            return True
    return False


@contextmanager
def full_volume() -> Iterator[None]:
    """What says that a volume has no room becomes `StorageFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(error.strerror) from error
        raise
