"""What the reconciler puts right, on a real Redis and real files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from service.erasure import MediaEraser
from service.key_recovery import KeyRecovery
from service.reconciler import Reconciler, ReconcilerSettings
from service.sweep import Sweeper
from tests.integration.conftest import RedisServer, StartWorker, eventually, new_record
from tests.integration.test_ledger import FAILURE, RESULT
from worker.contract.answers import DeadlinePolicy
from worker.contract.artifact_folder import FolderStore
from worker.contract.artifacts import ArtifactStore
from worker.contract.asset_registry import AssetRegistry
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.media import MediaIndex
from worker.contract.messages import JobRecord, JobState
from worker.contract.presence import ProcessKind
from worker.contract.queues import open_queue
from worker.contract.rebuild import rebuild
from worker.contract.recovery import Recovered, Recovery
from worker.contract.results import FinishedRender

QUEUE = "rq:queue:render"


@pytest.fixture
def recovery(redis: Redis) -> Recovery:
    return Recovery(redis, lost_after_s=0.0)


@pytest.fixture
def store(data_dir: Path) -> ArtifactStore:
    return FolderStore(data_dir)


@pytest.fixture
def sweeper(redis: Redis, store: ArtifactStore, ledger: Ledger, recovery: Recovery) -> Sweeper:
    keys = KeyRecovery(redis, store)
    eraser = MediaEraser(store, ledger, MediaIndex(redis))
    assets = AssetRegistry(redis)
    return Sweeper(
        store, ledger, recovery, keys, eraser, assets, orphan_after_s=0.0, record_kept_s=100.0
    )


@pytest.fixture
def put(store: ArtifactStore, tmp_path: Path) -> Callable[..., None]:
    def put_file(key: str, text: str = "x") -> None:
        (tmp_path / "file").write_text(text)
        store.put(key, tmp_path / "file")

    return put_file


def accepted(ledger: Ledger, **changes: object) -> JobRecord:
    record = new_record().model_copy(update={"id": uuid4().hex, **changes})
    return ledger.accept(record)


def seen(ledger: Ledger, record: JobRecord) -> JobRecord:
    found = ledger.get(record.id)
    assert found is not None
    return found


def claim_and_die(ledger: Ledger, redis: Redis, record: JobRecord) -> None:
    """As a worker that was killed, after Redis let its lease expire."""
    attempt = seen(ledger, record).attempt
    redis.lrem(QUEUE, 0, f"{record.id}_{attempt}")
    assert ledger.claim(record.id, attempt, uuid4().hex, worker="w", lease_s=30)
    redis.delete(f"tf:{{j}}:lease:{record.id}")


def test_a_job_whose_worker_died_is_delivered_again_in_front(
    ledger: Ledger, redis: Redis, recovery: Recovery
) -> None:
    dead, waiting = accepted(ledger), accepted(ledger)
    claim_and_die(ledger, redis, dead)

    (lost,) = recovery.lost()
    assert recovery.recover(lost) is Recovered.REDELIVERED

    again = seen(ledger, dead)
    assert (again.state, again.attempt, again.deaths) == (JobState.QUEUED, 2, 1)
    assert open_queue(redis, "render").job_ids == [f"{dead.id}_2", f"{waiting.id}_1"]
    assert recovery.recover(lost) is Recovered.CHANGED, "a second reconciler does no harm"
    assert list(recovery.lost()) == []


def test_a_delivery_that_a_worker_took_and_never_claimed_is_repeated(
    ledger: Ledger, redis: Redis, recovery: Recovery
) -> None:
    record = accepted(ledger)
    redis.lmove(QUEUE, f"{QUEUE}:intermediate", "LEFT", "RIGHT")

    (lost,) = recovery.lost()
    assert recovery.recover(lost) is Recovered.REDELIVERED

    assert seen(ledger, record).deaths == 0
    assert redis.exists(f"{QUEUE}:intermediate") == 0
    assert redis.keys("rq:job:*") == [f"rq:job:{record.id}_2".encode()]


def test_what_is_held_or_waits_is_not_lost(ledger: Ledger, recovery: Recovery) -> None:
    running = accepted(ledger)
    accepted(ledger)
    ledger.claim(running.id, 1, "token", worker="w", lease_s=30)

    assert recovery.lost() == []


def test_a_job_must_be_missing_for_a_while(ledger: Ledger, redis: Redis) -> None:
    patient = Recovery(redis, lost_after_s=3600)
    claim_and_die(ledger, redis, accepted(ledger))

    assert patient.lost() == []
    assert patient.lost() == []


def test_a_job_that_kills_its_workers_is_given_up(
    ledger: Ledger, redis: Redis, recovery: Recovery
) -> None:
    record = accepted(ledger)
    outcomes = []
    for _ in range(3):
        claim_and_die(ledger, redis, record)
        outcomes += [recovery.recover(lost) for lost in recovery.lost()]

    assert outcomes == [Recovered.REDELIVERED, Recovered.REDELIVERED, Recovered.WORKER_LOST]
    ended = seen(ledger, record)
    assert ended.failure is not None
    assert (ended.state, ended.failure.code) == (JobState.FAILED, ErrorCode.WORKER_LOST)
    assert redis.llen(QUEUE) == 0


def test_a_cancelled_job_whose_worker_died_is_cancelled(
    ledger: Ledger, redis: Redis, recovery: Recovery
) -> None:
    record = accepted(ledger)
    claim_and_die(ledger, redis, record)
    ledger.request_cancel(record.id)

    (lost,) = recovery.lost()
    assert recovery.recover(lost) is Recovered.CANCELLED
    assert seen(ledger, record).state is JobState.CANCELLED


def test_a_job_whose_inspector_died_goes_on_to_the_renderers(
    ledger: Ledger, redis: Redis, recovery: Recovery
) -> None:
    ledger.presence.beat(ProcessKind.INSPECTOR, "i")
    record = accepted(ledger)
    redis.delete("rq:queue:inspect")

    (lost,) = recovery.lost()
    assert recovery.recover(lost) is Recovered.REDELIVERED
    assert open_queue(redis, "render").job_ids == [f"{record.id}_2"]


def test_jobs_are_not_kept_waiting_for_inspectors_that_are_gone(
    ledger: Ledger, redis: Redis, recovery: Recovery
) -> None:
    ledger.presence.beat(ProcessKind.INSPECTOR, "i")
    first, second = accepted(ledger), accepted(ledger)
    assert recovery.unattended() == 0
    ledger.presence.sign_off(ProcessKind.INSPECTOR, "i")

    assert recovery.unattended() == 2

    assert open_queue(redis, "render").job_ids == [f"{first.id}_2", f"{second.id}_2"]
    assert open_queue(redis, "inspect").job_ids == []


def test_rq_forgets_what_is_over(ledger: Ledger, redis: Redis, recovery: Recovery) -> None:
    over, current = accepted(ledger), accepted(ledger)
    ledger.end_open(over.id, FAILURE)
    for record in (over, current):
        redis.zadd("rq:wip:render", {f"{record.id}_1:abc": time.time()})
        redis.rpush(f"{QUEUE}:intermediate", f"{record.id}_1")
    redis.sadd("rq:workers", "rq:worker:dead")
    redis.hset(f"rq:job:{current.id}_0", "status", "started")

    assert recovery.clean_rq() == 4

    assert redis.zrange("rq:wip:render", 0, -1) == [f"{current.id}_1:abc".encode()]
    assert redis.lrange(f"{QUEUE}:intermediate", 0, -1) == [f"{current.id}_1".encode()]
    assert redis.exists("rq:workers") == 0
    assert redis.keys("rq:job:*") == [f"rq:job:{current.id}_1".encode()]


def reconciler(server: RedisServer, data_dir: Path) -> Reconciler:
    return Reconciler(
        ReconcilerSettings(redis_url=server.url, data_dir=data_dir, lost_after_s=0.001)
    )


def test_a_round_ends_what_is_overdue_even_where_nobody_renders(
    redis_server: RedisServer, data_dir: Path, ledger: Ledger
) -> None:
    record = accepted(ledger, deadline_at=datetime(2020, 1, 1, tzinfo=UTC))
    running = accepted(ledger)
    other = accepted(ledger)
    policy = DeadlinePolicy(0.0, 0.0)
    ledger.claim(running.id, 1, "t", worker="w", lease_s=30, deadline=policy)

    reconciler(redis_server, data_dir).round()

    for late in (record, running):
        ended = seen(ledger, late)
        assert ended.failure is not None
        assert ended.failure.code is ErrorCode.DEADLINE_EXCEEDED
        assert ended.failure.params["deadline_at"]
    assert seen(ledger, other).state is JobState.QUEUED


def test_two_reconcilers_deliver_once(
    redis_server: RedisServer, data_dir: Path, ledger: Ledger, redis: Redis
) -> None:
    record = accepted(ledger)
    claim_and_die(ledger, redis, record)
    pair = [reconciler(redis_server, data_dir) for _ in range(2)]
    for _ in range(3):
        for one in pair:
            one.round()
        time.sleep(0.01)

    assert open_queue(redis, "render").job_ids == [f"{record.id}_2"]


def test_a_reconciler_that_comes_before_redis_waits_for_it(
    redis_server: RedisServer, ledger: Ledger, redis: Redis, start_worker: StartWorker
) -> None:
    record = accepted(ledger)
    claim_and_die(ledger, redis, record)
    redis_server.stop()
    process = start_worker("service.reconciler", reconcile_every_s=0.1, lost_after_s=0.1)
    process.wait_for("redis_unavailable")

    redis_server.start()

    eventually(lambda: seen(ledger, record).attempt == 2, "the job is delivered again")
    assert process.terminate() == 0


def ended_with_files(
    ledger: Ledger, put: Callable[..., None], **changes: object
) -> tuple[JobRecord, str]:
    record = accepted(ledger, **changes)
    ledger.claim(record.id, 1, "token", worker="w", lease_s=30)
    key = f"results/{record.id}/token.mp4"
    put(f"inputs/{record.id}/input.png")
    put(key)
    result = RESULT.model_copy(update={"key": key, "bytes": 1})
    finished = FinishedRender(result=result, timings_s={})
    put(FinishedRender.key_of(key), finished.model_dump_json())
    ledger.succeed(record.id, "token", result, {})
    return record, key


def expire_all(sweeper: Sweeper, recovery: Recovery) -> int:
    due = recovery.expired()
    for job in due:
        sweeper.expire(job)
    return len(due)


def test_files_of_an_expired_job_go_first_and_its_record_later(
    ledger: Ledger, redis: Redis, sweeper: Sweeper, recovery: Recovery, store: ArtifactStore,
    put: Callable[..., None],
) -> None:  # fmt: skip
    record, _ = ended_with_files(ledger, put, retention_s=0.0)
    kept, kept_key = ended_with_files(ledger, put, retention_s=1000.0)

    assert expire_all(sweeper, recovery) == 1

    assert seen(ledger, record).erased
    assert list(store.names("inputs")) == [kept.id]
    assert list(store.names("results")) == [kept.id]
    assert store.stat(kept_key).bytes == 1
    assert ledger.read_events(record.id) == []
    assert expire_all(sweeper, recovery) == 0
    redis.zadd("tf:{j}:expire", {record.id: 1.0})
    assert expire_all(sweeper, recovery) == 1
    assert ledger.get(record.id) is None
    assert not seen(ledger, kept).erased


def test_the_sweep_takes_orphans_and_nothing_else(
    ledger: Ledger, sweeper: Sweeper, store: ArtifactStore, put: Callable[..., None]
) -> None:
    record, _ = ended_with_files(ledger, put)
    running = accepted(ledger)
    put(f"inputs/{running.id}/input.png")
    put(f"results/{running.id}/other.mp4")
    put(f"results/{record.id}/fenced.mp4")
    # What a newer release may keep beside a result.
    put(f"results/{record.id}/token.novelty")
    nobody = uuid4().hex
    put(f"inputs/{nobody}/input.png")
    put(f"results/{nobody}/t.mp4")

    assert sweeper.sweep() == 4, "the media of the job that ended, too"

    assert set(store.names("inputs")) == {record.id, running.id}
    assert set(store.names(f"results/{record.id}")) == {"token.mp4", "token.json", "token.novelty"}
    assert set(store.names("results")) == {record.id, running.id}
    assert sweeper.sweep() == 0


def test_a_ledger_that_has_forgotten_everything_erases_nothing_until_it_is_rebuilt(
    redis_server: RedisServer,
    data_dir: Path,
    ledger: Ledger,
    redis: Redis,
    sweeper: Sweeper,
    store: ArtifactStore,
    put: Callable[..., None],
) -> None:
    done, key = ended_with_files(ledger, put)
    put(f"inputs/{done.id}/job.json", done.model_dump_json())
    waiting = accepted(ledger)
    put(f"inputs/{waiting.id}/job.json", waiting.model_dump_json())
    put(f"inputs/{waiting.id}/input.png")
    sweeper.sweep()
    redis.flushall()

    assert sweeper.sweep() == 0
    assert set(store.names("inputs")) == {done.id, waiting.id}

    environment = {**os.environ, "TALKFACE_REDIS_URL": redis_server.url}
    command = [sys.executable, "-m", "talkface", "rebuild", "--data-dir", str(data_dir)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stderr
    assert "1 with their video, 1 queued again, 0 known already, 0 without" in ended.stdout
    again = seen(ledger, done)
    assert again.result is not None
    assert (again.state, again.result.key) == (JobState.SUCCEEDED, key)
    assert seen(ledger, waiting) == waiting
    assert open_queue(redis, "render").job_ids == [f"{waiting.id}_1"]
    assert rebuild(store, ledger).known == 2
    assert sweeper.sweep() == 0
    assert store.stat(key).bytes == 1
