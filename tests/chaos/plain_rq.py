"""The same storm over RQ alone, for comparison: three warm workers and a durable Redis.

    python -m tests.chaos.plain_rq --seconds 300

RQ as it comes, with what a render needs: a worker that keeps its model (`SimpleWorker`), a time-out
of an hour, and three retries. A job counts as lost if it has no video when the drain is over.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

from redis import Redis, RedisError
from rq import Queue, Retry

from talkface.private_redis import find_redis_binary
from tests.chaos.plain_job import draw
from tests.chaos.processes import Storm, Victim
from worker.contract.queues import connect

NUM_CLIENTS = 4
MAX_WAITING = 20


def enqueue_until(ended: threading.Event, url: str, folder: Path, accepted: list[str]) -> None:
    """What a client does; a job counts as accepted when `enqueue` has returned."""
    with connect(url) as redis:
        queue = Queue(connection=redis)
        while not ended.wait(0.1):
            job_id = uuid.uuid4().hex
            try:
                if int(redis.llen(queue.key)) > MAX_WAITING:
                    continue
                queue.enqueue(
                    draw,
                    job_id,
                    str(folder / "videos"),
                    job_id=job_id,
                    job_timeout=3600,
                    retry=Retry(max=3),
                )
            except RedisError:
                continue
            accepted.append(job_id)


def run(
    seconds: float, drain_s: float, seed: int, pause_s: tuple[float, float], folder: Path
) -> None:
    """One storm; tells the last line itself."""
    server = find_redis_binary()
    assert server is not None
    (folder / "redis").mkdir()
    (folder / "videos").mkdir()
    url = f"unix://{folder / 'redis.sock'}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    victims = [
        Victim(
            "redis",
            [
                *(str(server), "--port", "0", "--unixsocket", str(folder / "redis.sock")),
                *("--dir", str(folder / "redis"), "--appendonly", "yes"),
                *("--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"),
            ],
            environment,
        ),
        *(
            Victim(
                f"worker {number}",
                [
                    *(sys.executable, "-m", "rq.cli", "worker", "--url", url),
                    *("--worker-class", "rq.SimpleWorker"),
                ],
                environment,
            )
            for number in (1, 2, 3)
        ),
    ]
    storm = Storm(victims, folder, seed, pause_s)
    ended, accepted = threading.Event(), list[str]()
    clients = [
        threading.Thread(target=enqueue_until, args=(ended, url, folder, accepted))
        for _ in range(NUM_CLIENTS)
    ]
    try:
        storm.start()
        for client in clients:
            client.start()
        storm.rage(seconds)
    finally:
        ended.set()
        for client in clients:
            client.join()
    videos = folder / "videos"
    began = time.monotonic()
    missing = set(accepted)
    while missing and time.monotonic() - began < drain_s:
        storm.tend()
        missing = {job_id for job_id in missing if not (videos / f"{job_id}.mp4").exists()}
        time.sleep(0.5)
    notes = videos / "finished.txt"
    finished = Counter(notes.read_text().split() if notes.exists() else [])
    doubled = [job_id for job_id, count in finished.items() if count > 1]
    with connect(url) as redis:
        statuses = Counter(_status(redis, job_id) for job_id in missing)
    storm.end()
    print(f"what RQ says of the missing ones after {drain_s:g} s: {dict(statuses)}")
    print(
        f"plain RQ: accepted {len(accepted)}, kills {storm.num_kills}, "
        f"{len(missing)} lost, {len(doubled)} doubled"
    )


def _status(redis: Redis, job_id: str) -> str:
    status = redis.hget(f"rq:job:{job_id}", "status")
    return "gone" if status is None else bytes(status).decode()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--drain", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, nargs=2, default=(1.8, 4.8), metavar=("MIN", "MAX"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tf-plain-") as folder:
        run(options.seconds, options.drain, options.seed, tuple(options.pause), Path(folder))


if __name__ == "__main__":
    main()
