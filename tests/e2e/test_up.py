"""`talkface up`: the whole road, and that nothing of it survives its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from model.media.probe import probe


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended after a while."""
    _, alive = psutil.wait_procs(processes, timeout=20.0)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def wait_for_another(up: Any, name: str, dead: int) -> int:
    """The id of the process `name` that took the place of `dead`."""
    until_s = time.monotonic() + 60.0
    while time.monotonic() < until_s:
        alive = [child.pid for child in up.children(name) if child.pid != dead]
        if alive:
            return int(alive[0])
        time.sleep(0.1)
    raise AssertionError(f"no new {name}:\n" + "\n".join(up.lines[-20:]))


def test_a_portrait_and_a_voice_become_a_video(
    server: Any, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    answer = server.post(portrait, voice)
    assert answer.status_code == 202, answer.text
    job = server.wait_for_end(answer.json())
    assert job["state"] == "succeeded", job

    film = tmp_path / "film.mp4"
    film.write_bytes(server.client.get(job["links"]["content"]).content)
    info = probe(film)

    assert (info.video_codec, info.pix_fmt, info.audio_codec) == ("h264", "yuv420p", "aac")
    # The portrait has odd sides; the film has even ones.
    assert (info.width, info.height) == (302, 302)
    assert (info.num_frames, info.fps) == (25, 25.0)
    assert (info.audio_sample_rate_hz, info.audio_channels) == (48_000, 2)
    assert abs(info.duration_s - info.audio_duration_s) <= 0.04
    assert info.faststart


def test_the_job_answers_with_the_video_to_who_asks_for_video(
    server: Any, portrait: Path, voice: Path
) -> None:
    job = server.wait_for_end(server.post(portrait, voice).json())

    video = server.client.get(job["links"]["self"], headers={"Accept": "video/mp4"})

    assert video.headers["content-type"] == "video/mp4"
    assert video.content == server.client.get(job["links"]["content"]).content
    assert video.content[4:8] == b"ftyp"


def test_a_killed_worker_is_replaced(
    run_up: Any, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    with run_up(tmp_path / "data") as up:
        [worker] = up.children("-m worker")
        worker.send_signal(signal.SIGKILL)
        wait_for_another(up, "-m worker", worker.pid)

        job = up.wait_for_end(up.post(portrait, voice).json())

        assert job["state"] == "succeeded"
        assert any("worker 1 ended with signal SIGKILL" in line for line in up.lines)


def test_a_killed_api_is_replaced_and_callers_wait(
    run_up: Any, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    with run_up(tmp_path / "data") as up:
        [api] = up.children("talkface.api_process")
        api.send_signal(signal.SIGKILL)
        api.wait()

        # The socket is still there, so this request is served by the next API.
        answer = up.post(portrait, voice)

        assert answer.status_code == 202
        assert up.wait_for_end(answer.json())["state"] == "succeeded"


def test_a_killed_reconciler_is_replaced(run_up: Any, tmp_path: Path) -> None:
    with run_up(tmp_path / "data") as up:
        [reconciler] = up.children("service.reconciler")
        reconciler.send_signal(signal.SIGKILL)
        wait_for_another(up, "service.reconciler", reconciler.pid)


def test_accepted_jobs_survive_the_death_of_redis_and_of_everything(
    run_up: Any, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    with run_up(tmp_path / "data") as up:
        job = up.wait_for_end(up.post(portrait, voice).json())
        [redis] = up.children("redis-server")
        redis.send_signal(signal.SIGKILL)
        wait_for_another(up, "redis-server", redis.pid)

        assert up.wait_for_end(job) == job
        children = up.children()
        up.process.kill()
        up.process.wait()
        assert still_running(children) == []

    with run_up(tmp_path / "data") as up:
        again = up.client.get(job["links"]["self"]).json()
        assert (again["id"], again["state"]) == (job["id"], "succeeded")
        assert up.client.get(job["links"]["content"]).status_code == 200


@pytest.mark.parametrize(
    "kind", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL]
)
def test_nothing_is_left_when_up_ends(run_up: Any, tmp_path: Path, kind: signal.Signals) -> None:
    with run_up(tmp_path / "data", "--workers", "2") as up:
        # It is started once jobs are worked on.
        wait_for_another(up, "worker.validation", dead=0)
        children = up.children()
        names = [" ".join(child.cmdline()) for child in children]
        assert sum("redis-server" in name for name in names) == 1
        assert sum(name.endswith("-m worker") for name in names) == 2
        assert sum(name.endswith("-m worker.validation") for name in names) == 1
        assert sum("talkface.api_process" in name for name in names) == 1

        up.process.send_signal(kind)
        status = up.process.wait(timeout=60.0)

    assert still_running(children) == []
    assert status == (-signal.SIGKILL if kind == signal.SIGKILL else 0)
    assert (tmp_path / "data" / "redis" / "redis.sock").exists() == (kind == signal.SIGKILL)


def test_a_render_in_progress_does_not_hold_up_the_end(
    run_up: Any, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    slow = {"TALKFACE_TEST_CARD_FRAME_MS": "2000"}
    with run_up(tmp_path / "data", environment=slow) as up:
        job = up.post(portrait, voice).json()
        while up.client.get(job["links"]["self"]).json()["state"] != "running":
            time.sleep(0.05)
        children = up.children()

        # The second signal means: at once.
        up.process.terminate()
        time.sleep(0.5)
        up.process.terminate()

        assert up.process.wait(timeout=60.0) == 0
    assert still_running(children) == []


@pytest.mark.long
def test_a_data_folder_too_deep_for_a_socket_works(
    run_up: Any, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    # A socket's path has at most 107 bytes; this one is non-ASCII and has a space, too.
    deep = tmp_path / ("tief und schön " * 7).strip() / "data"
    deep.parent.mkdir()
    with run_up(deep) as up:
        [redis] = up.children("redis-server")
        [path] = {Path(each.laddr) for each in redis.net_connections("unix") if each.laddr}
        assert path.is_socket()
        assert not path.is_relative_to(deep)
        assert up.wait_for_end(up.post(portrait, voice).json())["state"] == "succeeded"
        assert up.stop() == 0

    assert not path.parent.exists()
    assert (deep / "redis" / "redis.log").exists()


def run_to_end(
    *arguments: str, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
    return subprocess.run(
        [sys.executable, "-m", "talkface", "up", *arguments],
        env={**inherited, "TALKFACE_RENDERER": "test-card", **(environment or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120.0,
    )


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_to_end("--port", str(port), "--data-dir", "data", cwd=tmp_path)

    assert ended.returncode == 4
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_two_services_do_not_share_a_folder(server: Any, tmp_path: Path) -> None:
    ended = run_to_end("--port", "0", "--data-dir", str(server.data_dir), cwd=tmp_path)

    assert ended.returncode == 3
    assert "another `talkface up` uses" in ended.stderr


def test_a_program_that_cannot_start_ends_everything(tmp_path: Path) -> None:
    ended = run_to_end(
        *("--port", "0", "--data-dir", "data"),
        cwd=tmp_path,
        environment={"TALKFACE_RENDERER": "pipeline", "TALKFACE_WEIGHTS_DIR": str(tmp_path)},
    )

    assert ended.returncode == 3
    assert "worker 1 ended with exit status 78" in ended.stderr
    assert "talkface doctor" in ended.stderr


@pytest.mark.long
def test_another_redis_is_used_when_one_is_given(run_up: Any, server: Any, tmp_path: Path) -> None:
    [redis] = server.children("redis-server")
    [path] = {Path(each.laddr) for each in redis.net_connections("unix") if each.laddr}

    with run_up(tmp_path / "data", environment={"TALKFACE_REDIS_URL": f"unix://{path}?db=1"}) as up:
        assert up.children("redis-server") == []
        assert up.client.get("/readyz").json()["redis"] is True
