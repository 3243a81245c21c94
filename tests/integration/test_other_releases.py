"""Jobs, keys and events that another release wrote: nobody stumbles over them, nobody guesses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from starlette.testclient import TestClient

from service.keys import KEYS_HASH, KeyStore
from service.reconciler import Reconciler, ReconcilerSettings
from tests.integration.conftest import RedisServer, StartWorker, eventually, new_record
from tests.integration.live_server import live_server
from worker.contract.answers import DeadlinePolicy
from worker.contract.artifact_folder import FolderStore
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError, from_json, to_json
from worker.contract.ledger_scripts import STATISTICS, events_key, job_key, lease_key
from worker.contract.messages import SCHEMA, JobRecord, JobState, SamplingOptions
from worker.contract.presence import ProcessKind
from worker.contract.quarantine import Quarantine
from worker.contract.queues import open_queue
from worker.contract.rebuild import rebuild


def add_option(redis: Redis, job_id: str, name: str = "gaze", value: object = "camera") -> None:
    """As a newer release stores a job whose caller chose something that is new there."""
    job_input = json.loads(redis.hget(job_key(job_id), "input") or "")
    job_input["options"][name] = value
    job_input["novelty"] = {"of": "a newer release"}
    redis.hset(job_key(job_id), "input", json.dumps(job_input))
    redis.hset(job_key(job_id), "novelty", "1")


def damage(redis: Redis, job_id: str) -> None:
    redis.hset(job_key(job_id), "input", "{ no JSON")


def accepted(ledger: Ledger, **changes: object) -> JobRecord:
    return ledger.accept(new_record().model_copy(update={"id": uuid4().hex, **changes}))


def forget_worker(ledger: Ledger, redis: Redis, record: JobRecord) -> None:
    """As after a worker that took the job and was killed."""
    redis.delete("rq:queue:render")
    assert ledger.claim(record.id, 1, "dead", worker="w", lease_s=30)
    redis.delete(lease_key(record.id))


def reconciler(server: RedisServer, data_dir: Path) -> Reconciler:
    settings = ReconcilerSettings(redis_url=server.url, data_dir=data_dir, lost_after_s=0.001)
    return Reconciler(settings)


def two_rounds(one: Reconciler) -> None:
    one.round()
    time.sleep(0.01)
    one.round()


# --- what a caller sees -------------------------------------------------------------------------


def test_a_job_with_one_option_more_is_shown_listed_cancelled_and_deleted(
    client: TestClient, redis: Redis, post: Callable[..., str]
) -> None:
    first, second = post(seed="5"), post()
    for job_id in (first, second):
        add_option(redis, job_id)

    shown = client.get(f"/v1/jobs/{first}")
    listed = client.get("/v1/jobs")

    assert (shown.status_code, shown.json()["input"]["options"]["seed"]) == (200, 5)
    assert [job["id"] for job in listed.json()["data"]] == [second, first]
    assert client.post(f"/v1/jobs/{first}/cancel").json()["state"] == "cancelled"
    assert client.delete(f"/v1/jobs/{second}").status_code == 204
    assert client.get(f"/v1/jobs/{second}").status_code == 404


def test_a_job_that_cannot_be_read_hides_no_other_and_can_be_deleted(
    client: TestClient, redis: Redis, post: Callable[..., str]
) -> None:
    broken, healthy = post(), post()
    damage(redis, broken)

    shown = client.get(f"/v1/jobs/{broken}")

    assert (shown.status_code, shown.json()["code"]) == (503, "job_unreadable")
    assert shown.headers["Retry-After"]
    assert [job["id"] for job in client.get("/v1/jobs").json()["data"]] == [healthy]
    client.post(f"/v1/jobs/{broken}/cancel")
    assert redis.hget(job_key(broken), "state") == b"cancelled"
    assert client.delete(f"/v1/jobs/{broken}").status_code == 204
    assert redis.exists(job_key(broken)) == 0


def test_an_unknown_option_is_still_refused_at_the_door(
    client: TestClient, post: Callable[..., str]
) -> None:
    with pytest.raises(AssertionError, match="gaze"):
        post(gaze="camera")


def test_a_key_with_one_field_more_still_opens_and_keeps_the_field(
    redis: Redis, keys: KeyStore
) -> None:
    record, text = keys.create("shop")
    stored = json.loads(redis.hget(KEYS_HASH, record.id) or "")
    redis.hset(KEYS_HASH, record.id, json.dumps({**stored, "novelty": 7}))

    assert keys.authenticate(text) is not None
    assert keys.revoke(record.id)

    assert json.loads(redis.hget(KEYS_HASH, record.id) or "")["novelty"] == 7
    assert keys.authenticate(text) is None


def test_events_of_another_kind_are_passed_over(
    redis_server: RedisServer, redis: Redis, ledger: Ledger, data_dir: Path
) -> None:
    record = accepted(ledger, principal="anonymous")
    redis.xadd(events_key(record.id), {"kind": "glimpse", "state": "running", "attempt": 1})
    with (
        live_server(redis_server.url, data_dir) as server,
        server.client() as client,
        client.stream("GET", f"/v1/jobs/{record.id}/events") as response,
    ):
        lines = response.iter_lines()
        heard = [next(lines)]
        # While the client waits: the reader that all clients share must live on.
        redis.xadd(events_key(record.id), {"kind": "glimpse", "attempt": 1})
        ledger.claim(record.id, 1, "t", worker="w", lease_s=30)
        redis.hset(job_key(record.id), "stage", "polishing")
        ledger.end_open(record.id, None)
        heard += list(lines)

    names = [line for line in heard if line.startswith("event: ")]
    assert names == ["event: state", "event: state", "event: job"]


# --- the reconciler -----------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [add_option, damage])
def test_healthy_jobs_are_recovered_beside_one_of_another_release(
    redis_server: RedisServer,
    redis: Redis,
    ledger: Ledger,
    data_dir: Path,
    spoil: Callable[[Redis, str], None],
) -> None:
    strange, healthy = accepted(ledger), accepted(ledger)
    for record in (strange, healthy):
        forget_worker(ledger, redis, record)
    spoil(redis, strange.id)

    two_rounds(reconciler(redis_server, data_dir))

    assert set(open_queue(redis, "render").job_ids) == {f"{strange.id}_2", f"{healthy.id}_2"}


def test_a_job_that_nobody_can_handle_is_kept_aside_and_counted(
    redis_server: RedisServer, redis: Redis, ledger: Ledger, data_dir: Path, client: TestClient
) -> None:
    hopeless, healthy = accepted(ledger), accepted(ledger)
    forget_worker(ledger, redis, healthy)
    redis.delete(job_key(hopeless.id))
    redis.set(job_key(hopeless.id), "no hash at all")
    one = reconciler(redis_server, data_dir)

    two_rounds(one)
    two_rounds(one)

    assert open_queue(redis, "render").job_ids == [f"{healthy.id}_2"]
    assert Quarantine(redis).ids() == {hopeless.id}
    assert client.get("/readyz").json()["params"]["quarantined"] == 1
    metrics = client.get("/metrics").text
    assert "tf_quarantined_jobs 1.0" in metrics
    assert "tf_quarantined_total 1.0" in metrics, "counted once, not in every round"

    redis.delete(job_key(hopeless.id))
    redis.hset(job_key(hopeless.id), mapping={"id": hopeless.id, "state": "queued", "attempt": 1})
    two_rounds(one)
    assert Quarantine(redis).count() == 0, "it was handled after all"


def test_ready_only_while_a_reconciler_goes_round(
    client: TestClient, redis_server: RedisServer, data_dir: Path, ledger: Ledger
) -> None:
    ledger.presence.beat(ProcessKind.WORKER, "w")
    without = client.get("/readyz")
    reconciler(redis_server, data_dir).round()

    assert without.status_code == 503
    assert "no reconciler is alive" in without.json()["detail"]
    assert client.get("/readyz").json()["live_reconcilers"] == 1


def test_a_round_goes_on_after_a_step_that_fails(
    redis_server: RedisServer, redis: Redis, ledger: Ledger, data_dir: Path
) -> None:
    record = accepted(ledger, retention_s=0.0)
    ledger.end_open(record.id, None)
    redis.delete("rq:queue:inspect")
    redis.set("rq:queue:inspect", "no list")

    reconciler(redis_server, data_dir).round()

    ended = ledger.get(record.id)
    assert ended is not None and ended.erased, "expiry comes after the step that failed"
    assert ledger.presence.count(ProcessKind.RECONCILER) == 1


# --- workers ------------------------------------------------------------------------------------


def test_a_worker_passes_on_what_it_does_not_understand(
    redis: Redis, ledger: Ledger, post: Callable[..., str], start_worker: StartWorker
) -> None:
    strange, newer, healthy = post(), post(), post()
    add_option(redis, strange)
    redis.hset(job_key(newer), "schema", SCHEMA + 1)
    start_worker()

    def state(job_id: str) -> bytes:
        return redis.hget(job_key(job_id), "state") or b""

    eventually(lambda: state(healthy) == b"succeeded", "the job behind them is rendered")
    assert (state(strange), state(newer)) == (b"queued", b"queued")
    found = ledger.get(strange)
    assert found is not None and found.attempt > 1 and found.deaths == 0
    assert found.deadline_at is not None, "it ends even where nobody ever understands it"
    redis.hset(job_key(newer), "schema", SCHEMA)
    eventually(lambda: state(newer) == b"succeeded", "who understands it renders it")


def test_a_worker_that_cannot_read_a_job_keeps_it_aside(
    redis: Redis, post: Callable[..., str], start_worker: StartWorker
) -> None:
    broken, healthy = post(), post()
    damage(redis, broken)
    start_worker(deadline_base_s=1, deadline_per_audio_s=0)
    start_worker("service.reconciler", reconcile_every_s=0.2)

    eventually(lambda: redis.hget(job_key(healthy), "state") == b"succeeded", "the other is drawn")
    eventually(lambda: redis.hget(job_key(broken), "state") == b"failed", "its deadline ends it")
    failure = json.loads(redis.hget(job_key(broken), "failure") or "")
    assert failure["code"] == ErrorCode.DEADLINE_EXCEEDED
    assert Quarantine(redis).count() == 0


def test_passing_on_changes_nothing_of_a_job_that_moved_on(ledger: Ledger, redis: Redis) -> None:
    record = accepted(ledger)
    policy = DeadlinePolicy(base_s=600, per_audio_s=60)

    assert not ledger.pass_on(record.id, 2, policy)
    assert ledger.claim(record.id, 1, "t", worker="w", lease_s=30)
    assert not ledger.pass_on(record.id, 1, policy)

    found = ledger.get(record.id)
    assert found is not None and (found.state, found.attempt) == (JobState.RUNNING, 1)


def test_passing_on_keeps_nothing_aside_that_ended_meanwhile(ledger: Ledger, redis: Redis) -> None:
    ended, waiting, gone = accepted(ledger), accepted(ledger), accepted(ledger)
    quarantine = Quarantine(redis)
    ledger.end_open(ended.id, None)
    ledger.delete(gone.id)

    for record in (ended, waiting, gone, waiting):
        quarantine.add_waiting(record.id, "gaze")

    assert quarantine.ids() == {waiting.id}
    assert redis.hget(STATISTICS, "quarantined") == b"1"


def test_an_inspector_sends_on_what_it_does_not_understand(
    redis: Redis, ledger: Ledger, post: Callable[..., str], start_worker: StartWorker
) -> None:
    ledger.presence.beat(ProcessKind.INSPECTOR, "inspector")
    job_id = post()
    add_option(redis, job_id)

    start_worker("worker.inspection")

    eventually(lambda: redis.hget(job_key(job_id), "queue") == b"render", "it is sent on")
    found = ledger.get(job_id)
    assert found is not None and found.face_boxes is None, "nobody here judges its faces"
    assert found.state is JobState.QUEUED


# --- records ------------------------------------------------------------------------------------


def test_options_equal_to_their_default_are_not_written(ledger: Ledger, redis: Redis) -> None:
    record = accepted(ledger)

    stored = json.loads(redis.hget(job_key(record.id), "input") or "")

    assert stored["options"] == {"seed": 3}
    assert json.loads(to_json(record))["input"]["options"] == {"seed": 3}
    assert redis.hget(job_key(record.id), "schema") == b"1"
    assert from_json(to_json(record)) == record


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ({"gaze": "camera"}, ("gaze",)),
        ({"preset": "ultra", "gaze": 1}, ("gaze", "preset")),
        ({"fps": 240}, ("fps",)),
        ({"preset": "preview", "num_inference_steps": 4}, ("options",)),
        ({}, ()),
    ],
)
def test_what_is_not_known_of_a_stored_input_is_named(
    change: dict[str, Any], unknown: tuple[str, ...]
) -> None:
    values = json.loads(to_json(new_record()))
    values["input"]["options"] |= change

    record = from_json(json.dumps(values))

    assert record.unknown_options == unknown
    assert record.is_understood is (unknown == ())
    assert SamplingOptions.model_validate(record.input.options.model_dump())
    assert "unknown_options" not in to_json(record)


def test_words_of_another_release_become_known_ones(ledger: Ledger, redis: Redis) -> None:
    record = accepted(ledger)
    ledger.claim(record.id, 1, "t", worker="w", lease_s=30)
    failure = {"code": "solar_flare", "detail": "Too bright.", "params": {}, "novelty": 1}
    redis.hset(
        job_key(record.id),
        mapping={"stage": "signing", "queue": "sign", "failure": json.dumps(failure)},
    )

    found = ledger.get(record.id)

    assert found is not None and found.failure is not None
    assert (found.stage, found.queue) == (None, "sign")
    assert (found.failure.code, found.failure.detail) == (ErrorCode.INTERNAL_ERROR, "Too bright.")


def test_a_job_in_a_queue_that_only_another_release_has_is_not_lost(
    ledger: Ledger, redis: Redis, redis_server: RedisServer, data_dir: Path
) -> None:
    record = accepted(ledger)
    redis.delete("rq:queue:render")
    redis.hset(job_key(record.id), "queue", "sign")
    redis.rpush("rq:queue:sign", f"{record.id}_1_sign")

    two_rounds(reconciler(redis_server, data_dir))

    found = ledger.get(record.id)
    assert found is not None and found.attempt == 1


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 5, "gaze": "camera"},
        {"fps": 240, "seed": 5},
        {"preset": "preview", "num_inference_steps": 4},
    ],
)
def test_options_that_are_not_known_survive_a_rebuild(
    ledger: Ledger, redis: Redis, tmp_path: Path, options: dict[str, Any]
) -> None:
    values = json.loads(to_json(new_record()))
    values["input"]["options"] = options
    store, job = FolderStore(tmp_path / "data"), tmp_path / "job.json"
    job.write_text(json.dumps(values))
    store.put(f"inputs/{values['id']}/job.json", job)
    (tmp_path / "media").write_text("without media there is nothing to render")
    store.put(f"inputs/{values['id']}/speech.flac", tmp_path / "media")

    assert rebuild(store, ledger).queued == 1

    stored = json.loads(redis.hget(job_key(values["id"]), "input") or "")
    assert stored["options"] == options
    found = ledger.get(values["id"])
    assert found is not None and not found.is_understood


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"input": 3}', '{"input": {"options": []}}'])
def test_what_is_no_record_is_told_as_that(text: str) -> None:
    with pytest.raises(UnreadableRecordError):
        from_json(text)
