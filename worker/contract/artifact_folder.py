"""The artifact store on a volume that all processes share.

    <data_dir>/artifacts/inputs/<job>/input.png ... <data_dir>/artifacts/results/<job>/<token>.mp4
    <data_dir>/scratch/<random>/ work in progress, swept when old

Nobody but this file turns a key into a path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.contract.artifacts import (
    CHUNK_BYTES,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ArtifactStat,
    ArtifactStore,
    StorageFullError,
    check_key,
    full_volume,
    is_key,
    remove_if_older,
)


class FolderStore(ArtifactStore):
    """A store on a local or shared volume.

    Args:
        root: The data folder; made when the first file comes.
        min_free_bytes: `put` refuses to leave less than this free on the volume.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        super().__init__(root)
        self._artifacts = root / "artifacts"
        self._min_free_bytes = min_free_bytes

    def put(self, key: str, local_path: Path) -> None:
        """Publish a file: durable when this returns, whole or absent at every moment.

        The file is moved: nothing is left at `local_path`, so nobody can change what is published.

        Raises:
            ArtifactExistsError: The key was published before.
            StorageFullError: The volume has no room.
        """
        target = self._path(key)
        with full_volume():
            target.parent.mkdir(parents=True, exist_ok=True)
            source = local_path.stat()
            more_bytes = 0 if source.st_dev == target.parent.stat().st_dev else source.st_size
            free = shutil.disk_usage(target.parent).free
            if free - more_bytes < self._min_free_bytes:
                raise StorageFullError(f"{free} bytes are free, {self._min_free_bytes} must stay")
            if _published_by_link(local_path, target):
                local_path.unlink()
                _sync_folder(target.parent)
                return
            descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=target.parent)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as copy, local_path.open("rb") as original:
                    shutil.copyfileobj(original, copy, CHUNK_BYTES)
                    copy.flush()
                    os.fsync(copy.fileno())
                _publish_once(partial, target)
                local_path.unlink()
                _sync_folder(target.parent)
            finally:
                partial.unlink(missing_ok=True)

    @contextmanager
    def local_copy(self, key: str) -> Iterator[Path]:
        """A local path of a published file, for as long as the context lasts; read only.

        Raises:
            ArtifactNotFoundError: Nothing was published under this key.
        """
        self.stat(key)
        yield self._path(key)

    def read_range(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes `start` (included) to `stop` (excluded) in pieces.

        Raises:
            ArtifactNotFoundError: Nothing was published under this key.
        """
        self.stat(key)
        return _pieces(self._path(key), start, stop)

    def stat(self, key: str) -> ArtifactStat:
        """Size of a published file.

        Raises:
            ArtifactNotFoundError: Nothing was published under this key.
        """
        try:
            return ArtifactStat(bytes=self._path(key).stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactNotFoundError(key) from None

    def delete(self, key: str) -> None:
        """Erase one file; nothing there is fine."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._path(key).unlink()

    def names(self, prefix: str) -> dict[str, float]:
        """What lies directly below a folder of keys, with its age in seconds.

        Half-copied files are left out; `sweep` is for them.
        """
        now = time.time()
        found: dict[str, float] = {}
        with contextlib.suppress(FileNotFoundError):
            for path in self._path(prefix).iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if is_key(path.name):
                        found[path.name] = now - path.stat().st_mtime
        return found

    def delete_prefix(self, prefix: str) -> None:
        """Erase everything under a folder of keys such as `inputs/<job>`; nothing there is fine."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def _sweep_store(self, deadline: float) -> int:
        return sum(remove_if_older(path, deadline) for path in self._half_copied())

    def _half_copied(self) -> Iterator[Path]:
        # Not glob: a folder that is erased at this moment would end it.
        for folder, _, names in os.walk(self._artifacts):
            yield from (Path(folder, name) for name in names if name.startswith(".incoming-"))

    def check_writable(self) -> None:
        """Write and remove a file where published ones go.

        Raises:
            OSError: The folder cannot be made or written.
        """
        self._artifacts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._artifacts) as probe:
            probe.write(b"probe")
            probe.flush()

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._artifacts / key


def _published_by_link(source: Path, target: Path) -> bool:
    """Whether a file that lies on the volume already could be published without copying it."""
    # What is published must be durable; a name is worth nothing without the bytes.
    with source.open("rb") as stream:
        # Faces and voices are nobody else's business.
        os.fchmod(stream.fileno(), 0o600)
        os.fsync(stream.fileno())
    try:
        os.link(source, target)
    except FileExistsError:
        raise ArtifactExistsError(target.name) from None
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            return False
        raise
    return True


def _publish_once(partial: Path, target: Path) -> None:
    try:
        # A hard link, unlike a rename, fails where the name is taken.
        os.link(partial, target)
    except FileExistsError:
        raise ArtifactExistsError(target.name) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        # A volume without hard links: the name is checked first, which is all that can be done.
        if target.exists():
            raise ArtifactExistsError(target.name) from None
        partial.rename(target)


def _sync_folder(folder: Path) -> None:
    # A new name is durable only when its folder is written.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pieces(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(start)
        left = stop - start
        while left > 0 and (piece := stream.read(min(CHUNK_BYTES, left))):
            left -= len(piece)
            yield piece
