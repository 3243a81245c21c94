"""Nothing that serves starts open to the network by accident; keys are made without torch."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from talkface.private_redis import private_redis_url

ROOT = Path(__file__).parents[3]


def run(
    *command: str, folder: Path, python_path: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "TALKFACE" not in name}
    environment |= {"PYTHONPATH": str(python_path), "PYTHONDONTWRITEBYTECODE": "1", **variables}
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
        (("-m", "service"), 1),
        (("-m", "talkface.api_process", "0"), 1),
    ],
)
@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"TALKFACE_HOST": "0.0.0.0"}, "TALKFACE_ALLOW_ANONYMOUS"),
        (
            {"TALKFACE_REQUIRE_KEYS": "true", "TALKFACE_ALLOW_ANONYMOUS": "true"},
            "contradict",
        ),
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


def test_keys_are_made_in_the_image_of_the_api(tmp_path: Path) -> None:
    """What the Dockerfile copies into that image is enough for the command."""
    wanted = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    start = wanted.index(["FROM", "base", "AS", "api"])
    stop = wanted.index(["FROM", "base", "AS", "worker"])
    for words in wanted[start:stop]:
        if words[:1] == ["COPY"] and "--from=build-api" not in words:
            *sources, destination = words[1:]
            for source in sources:
                copy(ROOT / source, tmp_path / destination)

    helped = run(
        "-c",
        "import sys, talkface.keys; print(talkface.keys.__file__, 'torch' in sys.modules)",
        folder=tmp_path,
        python_path=tmp_path,
    )

    assert helped.stdout.split() == [str(tmp_path / "talkface" / "keys.py"), "False"]
    shown = run("-m", "talkface.keys", "--help", folder=tmp_path, python_path=tmp_path)
    assert "revoke" in shown.stdout
    # No server of its own is there to ask, which is told rather than a traceback.
    refused = run(
        *("-m", "talkface.keys", "list"),
        folder=tmp_path,
        python_path=tmp_path,
        TALKFACE_REDIS_URL=f"unix://{tmp_path}/absent.sock",
    )
    assert (refused.returncode, "Traceback" in refused.stderr) == (40, False)


def copy(source: Path, destination: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        destination.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, destination)


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
