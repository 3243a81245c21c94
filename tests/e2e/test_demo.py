"""What `make demo` promises: a playable MP4, and nothing left running, however it ends."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from PIL import Image

from model.media.probe import probe

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, str(ROOT / "examples" / "demo.py")]


def start_demo(folder: Path, mark: str, *options: str, **settings: str) -> "subprocess.Popen[str]":
    """Start the demonstration; `mark` is in the environment of every process that it starts."""
    command = [*DEMO, "--output", str(folder / "demo.mp4"), *options]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **settings, "TMPDIR": str(folder), "DEMO_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_with(mark: str) -> list[str]:
    """Command lines of all living processes that inherited `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # gone meanwhile, or another user's
    return found


def wait_for_log(folder: Path, line: str, process: "subprocess.Popen[str]") -> None:
    """Wait until the server's log has `line`; fails when the demonstration ends before."""
    log = folder / "demo.log"
    for _ in range(1200):
        if log.exists() and line in log.read_text():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    pytest.fail(f"{line!r} never came: {log.read_text() if log.exists() else 'no log'}")


def test_demo_makes_a_playable_video_and_stops_everything(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    demo = start_demo(tmp_path, mark, "--preset", "preview")
    output, _ = demo.communicate()
    assert demo.returncode == 0, output
    video = probe(tmp_path / "demo.mp4")
    assert (video.video_codec, video.pix_fmt, video.audio_codec) == ("h264", "yuv420p", "aac")
    assert video.fps == pytest.approx(25)
    assert video.faststart
    assert abs(video.duration_s - video.audio_duration_s) <= 0.040
    with Image.open(tmp_path / "demo.png") as sheet:
        assert sheet.width == 4 * video.width
    assert re.search(r"from the first request to the MP4: \d", output)
    assert processes_with(mark) == []


@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=pytest.mark.long), "SIGTERM"])
def test_interrupted_demo_leaves_nothing_running(name: str, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    settings = {"TALKFACE_RENDERER": "test-card", "TALKFACE_TEST_CARD_FRAME_MS": "500"}
    demo = start_demo(tmp_path, mark, **settings)
    wait_for_log(tmp_path, "job_accepted", demo)
    demo.send_signal(signal.Signals[name])
    output, _ = demo.communicate()
    assert demo.returncode == 128 + signal.Signals[name], output
    assert processes_with(mark) == []
    assert list(tmp_path.glob("talkface-demo-*")) == []


@pytest.mark.long
def test_refused_upload_ends_the_demo_with_the_servers_reason(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    (tmp_path / "empty.wav").touch()
    demo = start_demo(tmp_path, mark, "--audio", "empty.wav", TALKFACE_RENDERER="test-card")
    output, _ = demo.communicate()
    assert demo.returncode == 1
    assert "answered 4" in output
    assert processes_with(mark) == []
