"""What the release whose code runs this makes of records that another one wrote.

    PYTHONPATH=<code tree> python -P tests/neighbour/readings.py REDIS_URL DATA_DIR < RECORDS

RECORDS is what `records.py` told. The answers are told as JSON; both releases run this file, so it
uses nothing that only one of them has.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from redis import Redis
from starlette.testclient import TestClient

from service.main import create_app
from service.reconciler import Reconciler, ReconcilerSettings
from service.secret_file import InstallSecret
from service.settings import ServiceSettings
from tests.chaos.reconciler_process import FileSender
from tests.uploads import picture, tone
from worker.contract.logs import configure_logging
from worker.contract.outbox import Outbox
from worker.contract.quarantine import Quarantine
from worker.contract.queues import connect

ENDED = ("succeeded", "failed", "cancelled")
DONE, IN_FLIGHT = "a request that was answered", "a request in flight"


def shown(client: TestClient, jobs: dict[str, str]) -> dict[str, Any]:
    """What callers see of the jobs and of their events."""
    answers = {name: client.get(f"/v1/jobs/{job_id}") for name, job_id in jobs.items()}
    listed = client.get("/v1/jobs", params={"limit": 100})
    events = {name: client.get(f"/v1/jobs/{jobs[name]}/events").text for name in ENDED}
    video = client.get(f"/v1/jobs/{jobs['succeeded']}/content")
    return {
        "get": {name: answer.status_code for name, answer in answers.items()},
        "job": {name: answer.json() for name, answer in answers.items()},
        "list": listed.status_code,
        "listed": [job["id"] for job in listed.json()["data"]],
        "last_event": {
            name: [line for line in text.splitlines() if line.startswith("event: ")][-1]
            for name, text in events.items()
        },
        "video": [video.status_code, len(video.content)],
    }


def with_a_key(client: TestClient, job_id: str, key: str) -> dict[str, Any]:
    """What the owner of a key and others see of its job, and its end."""
    path, bearer = f"/v1/jobs/{job_id}", {"Authorization": f"Bearer {key}"}
    return {
        "without": client.get(path).status_code,
        "get": client.get(path, headers=bearer).status_code,
        "listed": [job["id"] for job in client.get("/v1/jobs", headers=bearer).json()["data"]],
        "cancel": client.post(f"{path}/cancel", headers=bearer).status_code,
        "delete": client.delete(path, headers=bearer).status_code,
    }


def sent_again(client: TestClient, key: str) -> dict[str, Any]:
    """The answer to the same request under an idempotency key."""
    response = client.post(
        "/v1/talking-face",
        files={"audio": ("a.wav", tone(1.0)), "image": ("i.jpg", picture())},
        headers={"Idempotency-Key": key},
    )
    job = response.json()
    return {"status": response.status_code, "id": job.get("id"), "code": job.get("code")}


def reconcile(redis: Redis, redis_url: str, data_dir: Path) -> dict[str, Any]:
    """Two rounds of the reconciler; its log goes to standard error."""
    deliveries = data_dir / "deliveries.txt"
    settings = ReconcilerSettings(
        redis_url=redis_url, data_dir=data_dir, lost_after_s=0.001, retention_s=0
    )
    reconciler = Reconciler(settings, FileSender(InstallSecret(settings.secret_path), deliveries))
    for _ in range(2):
        reconciler.round()
        time.sleep(0.01)
    for _ in range(600):
        if not Outbox(redis).count():
            break
        time.sleep(0.1)
    ended = threading.Event()
    ended.set()
    reconciler.run(ended)
    sent = deliveries.read_text().splitlines() if deliveries.exists() else []
    return {"webhooks": sorted(sent), "quarantine": sorted(Quarantine(redis).ids())}


def ended(client: TestClient, jobs: dict[str, str]) -> dict[str, Any]:
    """The answers of the calls that end jobs."""
    cancel = {
        name: client.post(f"/v1/jobs/{jobs[name]}/cancel").status_code
        for name in ("queued", "running", "cancelled", "succeeded")
    }
    paths = {name: f"/v1/jobs/{job_id}" for name, job_id in jobs.items()}
    return {
        "cancel": cancel,
        "delete": {name: client.delete(path).status_code for name, path in paths.items()},
        "after": {name: client.get(path).status_code for name, path in paths.items()},
    }


def read(redis_url: str, data_dir: Path, records: dict[str, Any]) -> dict[str, Any]:
    """Everything, in the order in which it does not get in its own way."""
    jobs = records["jobs"]
    settings = ServiceSettings(
        redis_url=redis_url, data_dir=data_dir, min_free_bytes=0, retention_s=0
    )
    with (
        connect(redis_url) as redis,
        TestClient(create_app(settings)) as client,
        TestClient(create_app(settings.model_copy(update={"require_keys": True}))) as with_keys,
    ):
        told = shown(client, jobs)
        told["sent_again"] = {key: sent_again(client, key) for key in (DONE, IN_FLIGHT)}
        told["reconciler"] = reconcile(redis, redis_url, data_dir)
        told["recovered"] = client.get(f"/v1/jobs/{jobs['abandoned']}").json()
        told |= ended(client, jobs)
        told["with_a_key"] = with_a_key(with_keys, records["owned"], records["key"])
    return told


if __name__ == "__main__":
    configure_logging("reconciler", "INFO")
    print(json.dumps(read(sys.argv[1], Path(sys.argv[2]), json.load(sys.stdin))))
