"""The README's commands, as printed, in their order, by the model that ships.

What a test cannot do is left out by name: installing packages, cloning, `make` (this test is part of it) and Docker.
The port is a free one, and training ends after one step.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import soundfile

from model.media.probe import probe

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("sudo ", "git clone ", "make ", "docker compose ", "TALKFACE_S3_BUCKET=")
SNIPPET_LIMIT_S = 900.0
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("readme")]


def snippets() -> list[str]:
    """The shell blocks of the README, without what is left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    kept = [
        "\n".join(line for line in block.splitlines() if not line.startswith(LEFT_OUT))
        for block in blocks
    ]
    return [block for block in kept if block.strip()]


class Shell:
    """A user's shell in a folder of their own, with the commands of this environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, "HOME": str(folder), "PATH": path}

    def start(self, snippet: str) -> subprocess.Popen[str]:
        """Start the commands; the shell stops at the first that fails."""
        return subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", snippet.replace("8000", str(self.port))],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, snippet: str) -> str:
        """What the commands print."""
        process = self.start(snippet)
        try:
            told = process.communicate(timeout=SNIPPET_LIMIT_S)[0]
        finally:
            with suppress(ProcessLookupError):  # it has ended, and all that it started
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, f"{snippet}\n{told}"
        return told


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder with the files that the README's reader has."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "model").symlink_to(ROOT / "model")
    shutil.copy(ROOT / "examples" / "portrait.jpg", folder / "me.jpg")
    shutil.copy(ROOT / "examples" / "speech.wav", folder / "voice.wav")
    sound, rate = soundfile.read(ROOT / "examples" / "speech.wav")
    soundfile.write(folder / "sentence.wav", sound[: 3 * rate], rate)  # as long as its place
    (folder / "pairs.csv").write_text("image,audio\nme.jpg,voice.wav\n")
    return Shell(folder)


@pytest.fixture(scope="module")
def service(shell: Shell) -> Iterator[Shell]:
    """The service, as the README starts it."""
    (snippet,) = [block for block in snippets() if "talkface up" in block]
    process = shell.start(snippet)
    try:
        assert process.stdout is not None
        told = ""
        while not told.startswith("talkface is ready on "):
            told = process.stdout.readline()
            assert told, "talkface up ended while it started"
        yield shell
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60.0)


def check(film: Path, least_s: float, audio_codec: str | None = "aac") -> None:
    info = probe(film)
    assert (info.video_codec, info.audio_codec) == ("h264", audio_codec)
    assert info.duration_s >= least_s


def test_the_first_video_by_curl(service: Shell) -> None:
    (snippet,) = [block for block in snippets() if "curl" in block]
    post, later = snippet.split("# 202")
    answer = service.run(post)
    job = re.search(r'"id": ?"([^"]+)"', answer)
    assert job, answer
    later = later.split("\n", 1)[1].replace("<id>", job[1])
    service.run(f"curl -s 'http://127.0.0.1:8000/v1/jobs/{job[1]}?wait=60' > waited.json")

    told = service.run(later)

    assert '"succeeded"' in told
    check(service.folder / "talking.mp4", 3.0)


def test_without_a_server(shell: Shell) -> None:
    (snippet,) = [block for block in snippets() if "talkface generate" in block]
    first, *others = snippet.splitlines()
    shell.run(first)
    # The films that the reader has are not in the repository; the first result stands for each.
    for name in ("clip.mp4", "nod.mp4"):
        shutil.copy(shell.folder / "talking.mp4", shell.folder / name)
    long_film = "talkface generate --image me.jpg --seconds 50 --preset preview --output talk.mp4"
    shell.run(long_film)

    told = shell.run("\n".join(others))

    for name in ("dubbed", "calm", "nodding"):
        check(shell.folder / f"{name}.mp4", 3.0)
    check(shell.folder / "listening.mp4", 8.0, audio_codec=None)
    check(shell.folder / "mended.mp4", 49.0)
    assert len(list((shell.folder / "videos").glob("*.mp4"))) == 1
    assert "ours" in told


def test_training_and_measuring(shell: Shell) -> None:
    (snippet,) = [block for block in snippets() if "talkface prepare" in block]
    videos = shell.folder / "my-videos"
    videos.mkdir()
    for name in ("one", "two"):
        shell.run(
            f"talkface generate --image me.jpg --audio voice.wav --preset preview --seed {len(name)}"
            f" --label off --output my-videos/{name}.mp4"
        )

    told = shell.run(snippet.replace("--stage 3", "--stage 3 max_steps=1"))

    assert list((shell.folder / "data" / "shards" / "mine").iterdir())
    assert "LSE" in told or "r " in told, told
