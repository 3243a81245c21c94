"""What the HTTP contract promises beside the road from POST to MP4."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from redis import Redis
from starlette.testclient import TestClient

from tests.integration.conftest import MakeClient, RedisServer, StartWorker, eventually
from tests.uploads import picture, tone
from worker.contract.errors import ErrorCode
from worker.contract.idempotency import IdempotencyKey
from worker.contract.ledger import Ledger
from worker.contract.messages import JobFailure
from worker.contract.presence import ProcessKind

PostJob = Callable[..., str]
TOKEN = "token"
FAILURE = JobFailure(code=ErrorCode.NO_FACE_FOUND, detail="No face.")


def send(client: TestClient, key: str | None = None, seconds: float = 0.5, **options: str) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    files = {"audio": ("a.wav", tone(seconds)), "image": ("i.jpg", picture())}
    return client.post("/v1/talking-face", files=files, data=options, headers=headers)


def claim(ledger: Ledger, job_id: str) -> None:
    assert ledger.claim(job_id, 1, TOKEN, worker="w", lease_s=60) is not None


# --- cancel and delete ----------------------------------------------------------------------------


def test_a_job_that_waits_is_cancelled_at_once(client: TestClient, post: PostJob) -> None:
    job_id = post()

    cancelled = client.post(f"/v1/jobs/{job_id}/cancel")
    again = client.post(f"/v1/jobs/{job_id}/cancel")

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert cancelled.json()["links"]["cancel"] is None
    assert (again.status_code, again.json()) == (200, cancelled.json())


def test_a_job_that_runs_stops_between_two_batches(
    client: TestClient, start_worker: StartWorker, post: PostJob
) -> None:
    start_worker(test_card_frame_ms=20)
    job_id = post(60.0)
    eventually(
        lambda: client.get(f"/v1/jobs/{job_id}").json()["progress"] > 0, "the job makes progress"
    )

    asked = client.post(f"/v1/jobs/{job_id}/cancel")

    assert (asked.status_code, asked.json()["state"]) == (202, "running")
    assert asked.json()["cancel_requested_at"] is not None
    eventually(
        lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "cancelled", "it is cancelled"
    )
    assert client.get(f"/v1/jobs/{job_id}/content").json()["code"] == "result_not_available"


def test_a_job_that_has_ended_cannot_be_cancelled(
    client: TestClient, ledger: Ledger, post: PostJob
) -> None:
    job_id = post()
    claim(ledger, job_id)
    ledger.fail(job_id, TOKEN, FAILURE)

    response = client.post(f"/v1/jobs/{job_id}/cancel")

    assert (response.status_code, response.json()["code"]) == (409, "job_terminal")
    assert response.json()["params"] == {"state": "failed"}


def test_deleting_leaves_nothing(
    client: TestClient, start_worker: StartWorker, data_dir: Path, redis: Redis, post: PostJob
) -> None:
    start_worker()
    job_id = post()
    eventually(
        lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "succeeded", "the job ends"
    )

    deleted = client.delete(f"/v1/jobs/{job_id}")

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert list(data_dir.rglob(f"*{job_id}*")) == []
    assert [key for key in redis.keys(f"*{job_id}*") if b":gone:" not in key] == []
    assert client.get(f"/v1/jobs/{job_id}").json()["code"] == "job_not_found"
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert client.get("/v1/jobs").json()["data"] == []


# --- lists, places, expiry ------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_in_pages(client: TestClient, post: PostJob) -> None:
    ids = [post() for _ in range(5)]
    pages: list[list[str]] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        page = client.get("/v1/jobs", params=query).json()
        assert page["object"] == "list"
        pages.append([job["id"] for job in page["data"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "nan_a"}, "cursor"),
        ({"cursor": "1" * 101}, "cursor"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
    ],
)
def test_a_page_that_cannot_be_is_refused(
    client: TestClient, query: dict[str, str], field: str
) -> None:
    response = client.get("/v1/jobs", params=query)

    assert (response.status_code, response.json()["code"]) == (422, "invalid_options")
    assert response.json()["errors"][0]["field"] == field


def test_who_waits_sees_the_place_in_the_queue_and_no_invented_time(
    client: TestClient, ledger: Ledger, post: PostJob
) -> None:
    first, second = post(), post()

    jobs = [client.get(f"/v1/jobs/{job_id}").json() for job_id in (first, second)]

    assert [job["queue_position"] for job in jobs] == [0, 1]
    # No job was ever rendered here.
    assert [job["eta_s"] for job in jobs] == [None, None]
    claim(ledger, first)
    assert client.get(f"/v1/jobs/{first}").json()["queue_position"] is None


def test_a_time_is_told_once_speed_was_measured(
    client: TestClient, start_worker: StartWorker, post: PostJob
) -> None:
    start_worker(test_card_frame_ms=10)
    measured = post(0.3)
    eventually(lambda: client.get(f"/v1/jobs/{measured}").json()["state"] == "succeeded", "it ends")
    long = post(30.0)

    eta_s = client.get(f"/v1/jobs/{long}").json()["eta_s"]

    assert eta_s is not None
    # 750 frames of at least 10 ms, by the pace of the first job or by its own.
    assert eta_s > 1.0


@pytest.mark.parametrize("path", ["", "/content", "/events"])
def test_what_has_expired_is_gone(
    client: TestClient, redis: Redis, ledger: Ledger, post: PostJob, path: str
) -> None:
    job_id = post()
    claim(ledger, job_id)
    ledger.fail(job_id, TOKEN, FAILURE)
    expires_at = client.get(f"/v1/jobs/{job_id}").json()["expires_at"]
    redis.hset(f"tf:{{j}}:job:{job_id}", "expires_at", "1000000000.000")

    response = client.get(f"/v1/jobs/{job_id}{path}")

    assert expires_at is not None
    assert (response.status_code, response.json()["code"]) == (410, "result_expired")
    # It can still be erased for good.
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204


# --- idempotency ----------------------------------------------------------------------------------


def test_the_same_request_again_is_the_same_job(client: TestClient, redis: Redis) -> None:
    first = send(client, "my key", seed="1")
    again = send(client, "my key", seed="1")

    assert first.status_code == again.status_code == 202
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert redis.llen("rq:queue:render") == 1


@pytest.mark.parametrize("change", [{"seed": "2"}, {"seconds": 0.6}, {"fps": "24"}])
def test_another_request_with_the_same_key_is_refused(
    client: TestClient, change: dict[str, Any]
) -> None:
    send(client, "k", seed="1")

    response = send(client, "k", **({"seed": "1"} | change))

    assert (response.status_code, response.json()["code"]) == (422, "idempotency_conflict")


def test_a_request_in_flight_is_told(client: TestClient, ledger: Ledger, redis: Redis) -> None:
    job_id = send(client, "k").json()["id"]
    [name] = redis.keys("tf:{j}:idem:*")
    stored = json.loads(redis.get(name) or b"")
    # As it stands while the first request is being decoded.
    redis.set(name, json.dumps(stored | {"job_id": None}))

    response = send(client, "k")

    assert stored["job_id"] == job_id
    assert (response.status_code, response.json()["code"]) == (409, "idempotency_in_progress")
    assert response.headers["retry-after"].isdecimal()


def test_a_request_that_is_refused_does_not_use_up_its_key(
    client: TestClient, ledger: Ledger
) -> None:
    refused = send(client, "k", seconds=0.1)

    assert refused.json()["code"] == "audio_too_short"
    assert ledger.idempotency_lookup("anonymous", "k") is None
    assert send(client, "k").status_code == 202


def test_a_deleted_job_frees_its_key(client: TestClient) -> None:
    first = send(client, "k").json()["id"]
    client.delete(f"/v1/jobs/{first}")

    second = send(client, "k")

    assert second.status_code == 202
    assert second.json()["id"] != first


def test_keys_belong_to_their_callers(client: TestClient, ledger: Ledger) -> None:
    reserved = IdempotencyKey(principal="someone else", key="k", fingerprint="f")
    ledger.idempotency_reserve(reserved)

    assert send(client, "k").status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_1_to_255_characters(client: TestClient, key: str) -> None:
    response = send(client, key)

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "idempotency-key"


# --- back-pressure --------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_leaves_nothing(make_client: MakeClient, data_dir: Path) -> None:
    client = make_client(max_open_jobs=1)
    accepted = send(client)

    refused = send(client, "k")

    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert refused.headers["retry-after"].isdecimal()
    assert [path.name for path in (data_dir / "artifacts/inputs").iterdir()] == [
        accepted.json()["id"]
    ]
    # A key is not used up by it either.
    client.post(f"/v1/jobs/{accepted.json()['id']}/cancel")
    assert send(client, "k").status_code == 202


# --- probes and figures ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    [
        ("appendonly", "no", "appendonly is no"),
        ("appendfsync", "everysec", "appendfsync is everysec"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru"),
    ],
)
def test_a_redis_that_may_forget_is_not_ready(
    client: TestClient, make_client: MakeClient, ledger: Ledger, redis: Redis,
    setting: str, value: str, word: str,
) -> None:  # fmt: skip
    for kind in (ProcessKind.WORKER, ProcessKind.RECONCILER):
        ledger.presence.beat(kind, "process")
    ready = client.get("/readyz")
    redis.config_set(setting, value)

    refused = client.get("/readyz")
    insisted = make_client(require_durable_redis=False).get("/readyz")

    assert (ready.status_code, ready.json()["durable"]) == (200, True)
    assert (refused.status_code, refused.json()["params"]["durable"]) == (503, False)
    assert word in refused.json()["detail"]
    assert (insisted.status_code, insisted.json()["durable"]) == (200, False)


def figures(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_metrics_tell_what_happened_to_jobs(
    client: TestClient, ledger: Ledger, start_worker: StartWorker, post: PostJob
) -> None:
    failed, cancelled = post(), post()
    before = figures(client)
    claim(ledger, failed)
    ledger.fail(failed, TOKEN, FAILURE)
    client.post(f"/v1/jobs/{cancelled}/cancel")
    handed_back = post()
    claim(ledger, handed_back)
    ledger.hand_back(handed_back, TOKEN)
    start_worker()
    eventually(
        lambda: client.get(f"/v1/jobs/{handed_back}").json()["state"] == "succeeded", "it ends"
    )

    told = figures(client)

    assert before["tf_store_up"] == 1
    assert before['tf_queue_depth{queue="render"}'] == 2
    assert before["tf_oldest_queued_seconds"] > 0
    assert before["tf_open_jobs"] == 2
    assert told['tf_jobs_total{code="",state="succeeded"}'] == 1
    assert told['tf_jobs_total{code="no_face_found",state="failed"}'] == 1
    assert told['tf_jobs_total{code="",state="cancelled"}'] == 1
    assert told["tf_frames_total"] == 25
    assert told["tf_redeliveries_total"] == 1
    assert told['tf_stage_seconds_count{stage="generating"}'] == 1
    assert told["tf_job_seconds_count"] == 3
    assert told["tf_queue_seconds_count"] == 2
    assert told['tf_realtime_factor{preset="balanced"}'] > 0
    assert told['tf_live_workers{kind="render"}'] == 1
    assert told['tf_accept_seconds_count{step="store"}'] == 3
    routes = {
        name: value
        for name, value in told.items()
        if name.startswith("tf_http_requests_total") and "{job_id}/cancel" in name
    }
    assert list(routes.values()) == [1.0]


def test_metrics_are_there_without_redis(client: TestClient, redis_server: RedisServer) -> None:
    redis_server.stop()

    told = figures(client)

    assert told["tf_store_up"] == 0
    assert "tf_open_jobs" not in told


def test_a_picture_of_nobody_is_a_counted_upload_error(client: TestClient) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    files = {"audio": ("a.wav", tone(0.5)), "image": ("i.png", buffer.getvalue())}

    client.post("/v1/talking-face", files=files)

    name = 'tf_http_requests_total{method="POST",route="/v1/talking-face",status="422"}'
    assert figures(client)[name] == 1
