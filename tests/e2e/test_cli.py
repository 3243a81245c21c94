"""The commands that talk to a service, and what of a batch survives the death of everything."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from model.media.probe import probe
from talkface.batch_state import NAME
from tests.uploads import picture, tone

# One service for them all: starting one costs more than they do.
pytestmark = pytest.mark.xdist_group("service")

# `make batch` sends 50.
ROWS = int(os.environ.get("BATCH_ROWS", "8"))
LIMIT_S = 300.0


def environment(**variables: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
    return {**inherited, **variables}


def talkface(
    url: str, *arguments: object, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "talkface", *map(str, arguments)],
        env=environment(TALKFACE_URL=url),
        input=stdin,
        capture_output=True,
        timeout=LIMIT_S,
    )


def test_one_video_with_a_voice_from_standard_input(
    server: Any, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    arguments = ("--image", portrait, "--audio", "-", "--set", "fps=30", "--output", film, "--json")

    ended = talkface(server.url, "submit", *arguments, stdin=voice.read_bytes())

    assert ended.returncode == 0, ended.stderr
    job = json.loads(ended.stdout)["job"]
    assert (probe(film).num_frames, probe(film).audio_codec) == (30, "aac")

    # The same job by the other commands.
    again = tmp_path / "again.mp4"
    assert talkface(server.url, "download", job["id"], "--output", again).returncode == 0
    assert again.read_bytes() == film.read_bytes()
    listed = json.loads(talkface(server.url, "list", "--state", "succeeded", "--json").stdout)
    assert job["id"] in [each["id"] for each in listed]


def test_refusals_have_the_exit_status_of_their_problem(server: Any, portrait: Path) -> None:
    unknown = talkface(server.url, "status", "0" * 32, "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)["error"]["code"]) == (
        33,
        "job_not_found",
    )

    wrong = talkface(server.url, "submit", "--image", portrait, "--audio", portrait)
    assert wrong.returncode == 10
    assert b"[unsupported_media_type]" in wrong.stderr


def check_cancel(url: str, portrait: Path) -> None:
    """A job that was only sent is found, stopped and waited for by its id."""
    sent = talkface(
        url, "submit", "--image", portrait, "--set", "seconds=60", "--set", "fps=60", "--no-wait"
    )
    job = sent.stdout.decode().strip()
    assert len(job) == 32, sent.stderr

    assert talkface(url, "cancel", job).returncode == 0
    ended = talkface(url, "wait", job, "--json")

    assert (ended.returncode, json.loads(ended.stdout)["state"]) == (0, "cancelled")


def free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])


def make_batch(folder: Path) -> Path:
    """A CSV of pairs, each with a voice of its own."""
    folder.mkdir()
    (folder / "portrait.jpg").write_bytes(picture())
    lines = ["image,audio,output,preset"]
    for number in range(ROWS):
        (folder / f"{number}.wav").write_bytes(tone(0.4 + number / 100))
        lines.append(f"portrait.jpg,{number}.wav,{number}.mp4,preview")
    (folder / "batch.csv").write_text("\n".join(lines) + "\n")
    return folder / "batch.csv"


def saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"))


def wait_for(num_videos: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + LIMIT_S
    while len(saved(folder)) < num_videos:
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < until_s, f"{len(saved(folder))} videos"
        time.sleep(0.05)


@pytest.mark.long
def test_a_batch_goes_on_after_service_and_command_were_killed(run_up: Any, tmp_path: Path) -> None:
    source, films = make_batch(tmp_path / "batch"), tmp_path / "films"
    port = str(free_port())
    slow = {"TALKFACE_TEST_CARD_FRAME_MS": "20"}
    command = [sys.executable, "-m", "talkface", "submit", source, "--output", films]
    command += ["--parallel", "3", "--url", f"http://127.0.0.1:{port}"]

    # 1. the service dies, all of it at once, and comes back; the command has not noticed
    with run_up(tmp_path / "data", "--port", port, environment=slow) as up:
        first = subprocess.Popen(command, env=environment())
        wait_for(ROWS // 4, films, first)
        up.process.kill()
        up.process.wait()
    with run_up(tmp_path / "data", "--port", port, environment=slow) as up:
        wait_for(ROWS // 2, films, first)

        # 2. the command dies; the same command goes on
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert len(saved(films)) < ROWS
        second = subprocess.run([*command, "--json"], env=environment(), capture_output=True)
        assert second.returncode == 0, second.stderr

        # 3. all videos are there, and no job was made twice
        page = up.client.get("/v1/jobs", params={"limit": 100}).json()
        assert page["next_cursor"] is None
        jobs = page["data"]

        # 4. once more: nothing is left to do
        third = subprocess.run(command, env=environment(), capture_output=True, text=True)
        after = up.client.get("/v1/jobs", params={"limit": 100}).json()["data"]
        check_cancel(up.url, source.parent / "portrait.jpg")
    assert [path.name for path in saved(films)] == sorted(f"{n}.mp4" for n in range(ROWS))
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert len(jobs) == len({job["input"]["audio"]["sha256"] for job in jobs}) == ROWS
    noted = (films / NAME).read_text().splitlines()
    digests = {job["result"]["sha256"] for job in jobs}
    assert {json.loads(line)["sha256"] for line in noted} - {None} == digests
    assert third.stdout == f"0 made, {ROWS} were there, 0 failed\n"
    assert len(after) == ROWS
    assert not list(films.glob("*.part")) and not list(films.glob(".*.part"))


def test_a_row_that_fails_does_not_hold_up_the_others(server: Any, tmp_path: Path) -> None:
    source = make_batch(tmp_path / "batch")
    (tmp_path / "batch" / "1.wav").write_bytes(b"RIFF but no sound")
    lines = source.read_text().splitlines()[:3]
    source.write_text("\n".join(lines) + "\n")

    ended = talkface(server.url, "submit", source, "--output", tmp_path / "films", "--json")

    assert ended.returncode in (10, 11)  # the status of its one failure
    good, bad = json.loads(ended.stdout)
    assert good["error"] is None and Path(good["output"]).is_file()
    assert bad["error"]["code"] in ("unsupported_media_type", "undecodable_media")
    assert b"line 3" in ended.stderr
