"""Records of every kind, written by the release whose code runs this.

    PYTHONPATH=<code tree> python -P tests/neighbour/records.py REDIS_URL DATA_DIR

Both releases run this file, so it uses nothing that only one of them has. What was written is told
as JSON. Nothing expires, so that what was stored once can be read in any year.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from redis import Redis
from starlette.testclient import TestClient

from service.main import create_app
from service.settings import ServiceSettings
from tests.films import film
from tests.uploads import picture, tone
from worker.contract.errors import ErrorCode
from worker.contract.idempotency import IdempotencyKey
from worker.contract.ledger import Ledger
from worker.contract.ledger_scripts import lease_key
from worker.contract.messages import FrameCount, JobFailure, Stage
from worker.contract.queues import connect

ANONYMOUS: Final = "anonymous"
"""Not imported: it was in another module once."""
HOOK: Final = {"callback_url": "https://receiver.example/hook"}
DONE, IN_FLIGHT = "a request that was answered", "a request in flight"
"""Idempotency keys."""
CHOSEN: Final = {"seed": 7, "preset": "fast", "fps": 30.0, "lip_strength": 0.5}


def environment_of(redis_url: str, data_dir: Path) -> dict[str, str]:
    """What a process of this installation is told."""
    environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
    return environment | {
        "TALKFACE_REDIS_URL": redis_url,
        "TALKFACE_DATA_DIR": str(data_dir),
        "TALKFACE_RENDERER": "test-card",
        "TALKFACE_CONTENT_CREDENTIALS": "false",  # nobody signs here
    }


def new_key(redis_url: str, data_dir: Path) -> str:
    """The text of a key that may have five open jobs, made as an operator makes it."""
    command = [sys.executable, "-P", "-m", "talkface", "keys", "create", "shop", "--env", "test"]
    made = subprocess.run(
        [*command, "--max-concurrent-jobs", "5", "--json"],
        env=environment_of(redis_url, data_dir),
        capture_output=True,
        check=True,
    )
    return str(json.loads(made.stdout)["key"])


@contextmanager
def worker_of_this_tree(redis_url: str, data_dir: Path) -> Iterator[None]:
    """A worker that draws test cards, until the end of the block."""
    command = [sys.executable, "-P", "-m", "worker"]
    worker = subprocess.Popen(command, env=environment_of(redis_url, data_dir))
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(timeout=60.0)


def wait_for(client: TestClient, job_id: str, state: str) -> None:
    """Return when a job has ended so."""
    for _ in range(6):
        job = client.get(f"/v1/jobs/{job_id}", params={"wait": 10}).json()
        if job["state"] == state:
            return
    raise RuntimeError(f"job {job_id} is {job['state']}, expected {state}: {job['error']}")


class Writer:
    """Posts jobs and brings them into the states that records may have."""

    def __init__(self, client: TestClient, redis: Redis) -> None:
        self._client = client
        self._redis = redis
        self._ledger = Ledger(redis)
        self.jobs: dict[str, str] = {}

    def post(
        self,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        files: list[tuple[str, Any]] | None = None,
        data: Mapping[str, str] | None = None,
    ) -> str:
        """Make a job of this name; without files it is the picture and the sound."""
        response = self._client.post(
            "/v1/talking-face",
            files=files or picture_and_sound(),
            data=data or {},
            headers=headers or {},
        )
        if response.status_code != 202:
            raise RuntimeError(f"{name}: {response.status_code} {response.text}")
        self.jobs[name] = str(response.json()["id"])
        return self.jobs[name]

    def claim(self, job_id: str) -> None:
        """Take a job as a worker does and say how far it is."""
        record = self._ledger.get(job_id)
        assert record is not None
        taken = self._ledger.claim(job_id, record.attempt, "token", worker="w", lease_s=3600)
        assert taken is not None
        self._ledger.report(
            job_id, "token", stage=Stage.GENERATING, frames=FrameCount(done=8, total=25)
        )

    def write(self, films: Path) -> None:
        """All jobs but the one that a worker draws."""
        self.post("queued")
        self.post("chosen", data={name: str(value) for name, value in CHOSEN.items()})
        moving = film(films / "film.mp4").read_bytes()
        sound = ("audio", ("a.wav", tone(1.0)))
        self.post("dubbing", files=[sound, ("video", ("v.mp4", moving))])
        self.post(
            "driven",
            files=[
                *picture_and_sound(),
                *picture_and_sound()[1:],
                ("driving_video", ("d", moving)),
            ],
        )
        self.post("idempotent", headers={"Idempotency-Key": DONE})
        self._ledger.idempotency_reserve(
            IdempotencyKey(principal=ANONYMOUS, key=IN_FLIGHT, fingerprint="of the first request")
        )
        self.claim(self.post("running"))
        self.claim(self.post("abandoned"))
        self._redis.delete(lease_key(self.jobs["abandoned"]))
        self.claim(self.post("failed", data=HOOK))
        failure = JobFailure(code=ErrorCode.NO_FACE_FOUND, detail="No face.", params={"faces": 0})
        self._ledger.fail(self.jobs["failed"], "token", failure)
        self._client.post(f"/v1/jobs/{self.post('cancelled', data=HOOK)}/cancel")


def picture_and_sound() -> list[tuple[str, Any]]:
    """The files of the simplest request."""
    return [("audio", ("a.wav", tone(1.0))), ("image", ("i.jpg", picture()))]


def write_records(redis_url: str, data_dir: Path) -> dict[str, Any]:
    """Write everything; ids of jobs by what they are, and the text of an API key."""
    settings = ServiceSettings(
        redis_url=redis_url, data_dir=data_dir, min_free_bytes=0, retention_s=0
    )
    with (
        connect(redis_url) as redis,
        TestClient(create_app(settings)) as client,
        TestClient(create_app(settings.model_copy(update={"require_keys": True}))) as with_keys,
        tempfile.TemporaryDirectory() as films,
    ):
        writer = Writer(client, redis)
        key = new_key(redis_url, data_dir)
        with worker_of_this_tree(redis_url, data_dir):
            writer.post("succeeded", data=HOOK)
            wait_for(client, writer.jobs["succeeded"], "succeeded")
        writer.write(Path(films))
        owner = Writer(with_keys, redis)
        owner.post("owned", headers={"Authorization": f"Bearer {key}"})
    return {"jobs": writer.jobs, "owned": owner.jobs["owned"], "key": key}


if __name__ == "__main__":
    print(json.dumps(write_records(sys.argv[1], Path(sys.argv[2]))))
