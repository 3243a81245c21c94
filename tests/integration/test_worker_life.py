"""Worker processes that start, stop and lose Redis while there is work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer
from starlette.testclient import TestClient

from service.reconciler import Reconciler, ReconcilerSettings
from tests.integration.conftest import RedisServer, StartWorker, eventually
from tests.uploads import picture, tone
from worker.contract.ledger import Ledger
from worker.contract.presence import Presence, ProcessKind
from worker.progress import STALLED

PostJob = Callable[..., str]


def job_of(client: TestClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return job


def wait_for_success(client: TestClient, job_id: str) -> None:
    eventually(lambda: job_of(client, job_id)["state"] == "succeeded", f"job {job_id} succeeds")


def test_a_stopped_worker_hands_its_job_back_and_another_finishes_it(
    client: TestClient, start_worker: StartWorker, post: PostJob, data_dir: Path
) -> None:
    slow = start_worker(test_card_frame_ms=200)
    first, second = post(4.0), post(0.2)
    eventually(lambda: (job_of(client, first)["frames"] or {}).get("done"), "frames are drawn")

    status = slow.terminate()

    assert status == 0
    assert '"job_handed_back"' in slow.log()
    job = job_of(client, first)
    assert (job["state"], job["attempt"], job["stage"]) == ("queued", 2, None)
    assert job["started_at"] is None
    assert job["frames"] is None
    assert list((data_dir / "scratch").iterdir()) == []

    start_worker()
    for job_id in (first, second):
        wait_for_success(client, job_id)
    ends = [job_of(client, job_id)["finished_at"] for job_id in (first, second)]
    assert ends == sorted(ends), "a job that is handed back keeps its place in front"


def test_an_idle_worker_stops_on_a_signal(
    client: TestClient, redis: Redis, start_worker: StartWorker
) -> None:
    worker = start_worker()
    worker.wait_for("worker_listening")
    presence = Presence(redis)
    eventually(lambda: presence.count(ProcessKind.WORKER) == 1, "a worker is counted")

    assert worker.terminate() == 0
    assert client.get("/readyz").json()["params"]["live_workers"] == 0


def test_everybody_waits_for_a_redis_that_comes_later(
    redis_server: RedisServer, start_worker: StartWorker, make_app: Callable[..., FastAPI]
) -> None:
    redis_server.stop()
    worker = start_worker()
    worker.wait_for("redis_unavailable")
    files = {"audio": tone(0.3), "image": picture()}
    with TestClient(make_app()) as client:
        refused = client.post("/v1/talking-face", files=files)
        redis_server.start()
        accepted = client.post("/v1/talking-face", files=files)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert refused.headers["retry-after"].isdecimal()
        assert accepted.status_code == 202
        job_id = accepted.json()["id"]
        wait_for_success(client, job_id)


def test_a_restart_of_redis_during_a_render_loses_nothing(
    redis_server: RedisServer, client: TestClient, start_worker: StartWorker, post: PostJob
) -> None:
    start_worker(test_card_frame_ms=60)
    first, second = post(2.0), post(0.3)
    eventually(lambda: (job_of(client, first)["frames"] or {}).get("done"), "frames are drawn")

    redis_server.stop()
    redis_server.start()

    for job_id in (first, second):
        wait_for_success(client, job_id)
    assert job_of(client, first)["attempt"] == 1


@pytest.mark.parametrize("function", ["os.mkdir", "worker.jobs.install", "builtins.eval"])
def test_a_queue_entry_cannot_name_a_foreign_function(
    redis: Redis,
    client: TestClient,
    start_worker: StartWorker,
    post: PostJob,
    tmp_path: Path,
    function: str,
) -> None:
    target = tmp_path / "made-by-the-queue"
    foreign = Queue("render", connection=redis, serializer=JSONSerializer)
    foreign.enqueue(function, str(target), on_success=None)
    job_id = post(0.2)

    start_worker()

    wait_for_success(client, job_id)
    assert not target.exists()


def test_a_render_that_ends_within_the_grace_is_finished(
    client: TestClient, start_worker: StartWorker, post: PostJob
) -> None:
    worker = start_worker(test_card_frame_ms=40, grace_s=60)
    job_id = post(2.0)
    eventually(lambda: (job_of(client, job_id)["frames"] or {}).get("done"), "frames are drawn")

    assert worker.terminate() == 0

    job = job_of(client, job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)


def test_a_running_job_is_cancelled_between_batches(
    client: TestClient, ledger: Ledger, start_worker: StartWorker, post: PostJob, data_dir: Path
) -> None:
    start_worker(test_card_frame_ms=50)
    long, short = post(60.0), post(0.2)
    eventually(lambda: (job_of(client, long)["frames"] or {}).get("done"), "frames are drawn")

    ledger.request_cancel(long)

    eventually(lambda: job_of(client, long)["state"] == "cancelled", "the job is cancelled")
    wait_for_success(client, short)
    assert list((data_dir / "scratch").iterdir()) == []


def test_deleting_a_running_job_stops_its_render(
    client: TestClient, ledger: Ledger, start_worker: StartWorker, post: PostJob, data_dir: Path
) -> None:
    worker = start_worker(test_card_frame_ms=50)
    job_id = post(60.0)
    eventually(lambda: (job_of(client, job_id)["frames"] or {}).get("done"), "frames are drawn")

    assert ledger.delete(job_id)

    worker.wait_for("lease_lost")
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    results = data_dir / "artifacts" / "results"
    eventually(lambda: not list(results.rglob("*.mp4")), "nothing of it is left")


def test_a_hung_render_ends_its_process_and_is_done_by_another(
    redis_server: RedisServer,
    client: TestClient,
    start_worker: StartWorker,
    post: PostJob,
    data_dir: Path,
) -> None:
    hung = start_worker(test_card_frame_ms=3_600_000, stall_s=1, lease_s=1)
    job_id = post(0.2)

    assert hung.wait() == STALLED

    assert "stacks of all threads" in hung.log()
    assert "render" in hung.log().split("stacks of all threads")[1]
    start_worker()
    settings = ReconcilerSettings(
        redis_url=redis_server.url, data_dir=data_dir, lost_after_s=0.1, min_free_bytes=0
    )
    reconciler = Reconciler(settings)

    def is_done() -> bool:
        reconciler.round()
        return bool(job_of(client, job_id)["state"] == "succeeded")

    eventually(is_done, "another worker does it")
    assert job_of(client, job_id)["attempt"] == 2


def test_a_job_that_takes_too_long_fails_at_its_deadline(
    client: TestClient, start_worker: StartWorker, post: PostJob
) -> None:
    start_worker(test_card_frame_ms=50, deadline_base_s=1, deadline_per_audio_s=0)
    job_id = post(60.0)

    eventually(lambda: job_of(client, job_id)["state"] == "failed", "the deadline passes")
    assert job_of(client, job_id)["error"]["code"] == "deadline_exceeded"
