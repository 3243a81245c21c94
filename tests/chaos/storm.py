"""Kill everything at random while jobs come in, then count what was lost and what happened twice.

    python -m tests.chaos.storm --seconds 300 [--store s3] [--segment-s 0.3]

Three workers that draw real files at 20 ms a frame, the API, the validator, the reconciler, the signer and
a real Redis that writes each answer to disk first. Clients post photographs, and now and then a video to dub,
until the end of the storm. The last line reads
`accepted N, kills N, N lost, N doubled`; the exit status is 0 if nothing was.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
from redis import RedisError

from tests.chaos.deployment import BUCKET, Deployment
from tests.chaos.judgement import Report, drain, judge, judge_tidiness
from tests.chaos.processes import Storm
from tests.films import film
from tests.s3_server import S3Server, s3_server
from tests.uploads import picture, tone
from worker.contract.queues import connect

NUM_CLIENTS = 4
NUM_WORKERS = 3
MAX_OPEN = 24
"""Clients wait while more jobs are open: the storm is about kills, not about a long queue."""
CALLBACK = "https://receiver.example/hook"


class Clients:
    """Post jobs from several threads until told to end."""

    def __init__(self, url: str, redis_url: str, video: bytes) -> None:
        self._url = url
        self._video = video
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
        voice = {"audio": ("a.wav", tone(1.0))}
        photograph = {**voice, "image": ("i.jpg", picture())}
        dubbing = {**voice, "video": ("v.mp4", self._video)}
        kinds = itertools.cycle([photograph, photograph, photograph, dubbing])
        data = {"callback_url": CALLBACK}
        with connect(self._redis_url) as redis, httpx2.Client(timeout=30.0) as client:
            while not self._ended.wait(0.1):
                try:
                    if int(redis.zcard("tf:{j}:open")) > MAX_OPEN:
                        continue
                    url = f"{self._url}/v1/talking-face"
                    response = client.post(url, files=next(kinds), data=data)
                except (httpx2.HTTPError, RedisError):
                    response = None
                with self._lock:
                    if response is not None and response.status_code == 202:
                        self.accepted.append(str(response.json()["id"]))
                    else:
                        self.refused += 1


def run(
    seconds: float,
    seed: int,
    pause_s: tuple[float, float],
    folder: Path,
    s3: S3Server | None = None,
    segment_s: float | None = None,
) -> Report:
    """One storm and the counting after it.

    Args:
        seconds: Length of the storm.
        seed: Of the kills.
        pause_s: Shortest and longest time between two kills.
        folder: An empty folder with a short name, for everything.
        s3: Where files are kept, None = in the folder. It is not killed: its objects are in memory.
        segment_s: Videos are drawn in segments of so many seconds; None = each by one worker.
    """
    report = Report()
    deployment = Deployment(folder, s3, segment_s)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        victims = [
            deployment.redis(),
            deployment.api("api", listener),
            deployment.reconciler("reconciler"),
            deployment.validator("validator"),
            deployment.signer(),
            *(deployment.worker(f"worker {number}") for number in range(1, NUM_WORKERS + 1)),
        ]
        storm = Storm(victims, folder, seed, pause_s)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        video = film(folder / "film.mp4").read_bytes()
        clients = Clients(url, deployment.redis_url, video)
        try:
            storm.start()
            clients.start()
            storm.rage(seconds)
            clients.end()
            with connect(deployment.redis_url) as redis:
                drain(report, redis, storm)
                report.kills, report.refused = storm.kills, clients.refused
                judge(report, clients.accepted, redis, deployment)
                judge_tidiness(report, redis, deployment)
        finally:
            clients.end()
            storm.end()
    return report


def special_storm(
    storm: Callable[..., Report], store: str, segment_s: float | None
) -> Callable[..., Report]:
    """A storm with the files in a bucket, or with segments, or both."""
    if store == "folder":
        return partial(storm, segment_s=segment_s)

    def run_in_bucket(*arguments: object) -> Report:
        with s3_server() as s3:
            s3.bucket(BUCKET)
            return storm(*arguments, s3=s3, segment_s=segment_s)

    return run_in_bucket


def command_line(
    about: str,
    storm: Callable[[float, int, tuple[float, float], Path], Report],
    *,
    has_kinds: bool = False,
) -> int:
    """Run a storm as the command line says; 0 if nothing was lost, doubled or left lying about.

    Args:
        about: Said by `--help`.
        storm: Takes seconds, seed, pause and folder.
        has_kinds: It takes an S3 server and the length of segments as well.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, nargs=2, default=(1.2, 3.2), metavar=("MIN", "MAX"))
    parser.add_argument("--keep", action="store_true", help="Keep the folder, logs included.")
    if has_kinds:
        parser.add_argument("--store", choices=("folder", "s3"), default="folder")
        parser.add_argument("--segment-s", type=float, help="Divide videos in such segments.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tf-chaos-"))
    try:
        if has_kinds:
            storm = special_storm(storm, options.store, options.segment_s)
        report = storm(options.seconds, options.seed, tuple(options.pause), folder)
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(report.lines()))
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(command_line(__doc__.splitlines()[0], run, has_kinds=True))
