"""Nothing that serves starts open to the network by accident."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from talkface.private_redis import private_redis_url

ROOT = Path(__file__).parents[3]


def run(*command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "TALKFACE" not in name}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        [sys.executable, "-P", *command],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("-m", "talkface", "up", "--port", "0"), 3),
        (("-m", "service"), 78),
        (("-m", "talkface.api_process", "0"), 78),
    ],
)
@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"TALKFACE_HOST": "0.0.0.0"}, "TALKFACE_ALLOW_ANONYMOUS"),
    ],
)
def test_what_would_be_open_to_the_network_does_not_start(
    tmp_path: Path,
    command: tuple[str, ...],
    status: int,
    variables: dict[str, str],
    word: str,
) -> None:
    ended = run(*command, folder=tmp_path, **variables)

    assert ended.returncode == status
    assert word in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_private_redis_of_a_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    assert private_redis_url(tmp_path) is None

    # A folder with a long name has its socket elsewhere, and a file that says where.
    (folder / "socket-path").write_text(str(tmp_path / "gone.sock"))
    assert private_redis_url(tmp_path) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "s.sock"))
        (folder / "socket-path").write_text(str(tmp_path / "s.sock"))
        assert private_redis_url(tmp_path) == f"unix://{tmp_path}/s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "redis.sock"))
        assert private_redis_url(tmp_path) == f"unix://{folder}/redis.sock"
