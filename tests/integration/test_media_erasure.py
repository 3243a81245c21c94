"""After a job's end no media of the caller's is left but the MP4, on a real Redis and real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis
from starlette.testclient import TestClient

from service.erasure import MediaEraser
from service.key_recovery import KeyRecovery
from service.reconciler import Reconciler, ReconcilerSettings
from service.sweep import Sweeper
from tests.integration.conftest import RedisServer, StartWorker, eventually, new_record
from tests.integration.test_ledger import FAILURE, RESULT
from worker.contract.artifact_folder import FolderStore
from worker.contract.artifacts import ArtifactStore
from worker.contract.asset_registry import AssetRegistry
from worker.contract.ending import EndedJob, media_names, read_ending
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import to_json
from worker.contract.ledger_scripts import job_key
from worker.contract.media import MediaIndex
from worker.contract.messages import JobRecord, JobState
from worker.contract.queues import open_queue
from worker.contract.rebuild import Rebuilt, rebuild
from worker.contract.recovery import Recovered, Recovery
from worker.contract.results import FinishedRender
from worker.contract.stored_bytes import bytes_of

MEDIA = "tf:{j}:media"
Put = Callable[[str, str], None]


@pytest.fixture
def store(data_dir: Path) -> ArtifactStore:
    return FolderStore(data_dir)


@pytest.fixture
def put(store: ArtifactStore, tmp_path: Path) -> Put:
    def put_file(key: str, text: str) -> None:
        (tmp_path / "file").write_text(text)
        store.put(key, tmp_path / "file")

    return put_file


@pytest.fixture
def accept(ledger: Ledger, put: Put) -> Callable[[], JobRecord]:
    """A job with files, as the API stores it."""

    def accept_job() -> JobRecord:
        record = new_record().model_copy(update={"id": uuid4().hex, "principal": "me"})
        put(f"inputs/{record.id}/job.json", to_json(record))
        put(f"inputs/{record.id}/input.png", "a face")
        put(f"inputs/{record.id}/speech.flac", "a voice")
        return ledger.accept(record, stored_bytes=100)

    return accept_job


@pytest.fixture
def eraser(redis: Redis, store: ArtifactStore, ledger: Ledger) -> MediaEraser:
    return MediaEraser(store, ledger, MediaIndex(redis))


@pytest.fixture
def sweeper(redis: Redis, store: ArtifactStore, ledger: Ledger, eraser: MediaEraser) -> Sweeper:
    keys = KeyRecovery(redis, store)
    recovery = Recovery(redis)
    assets = AssetRegistry(redis)
    return Sweeper(
        store, ledger, recovery, keys, eraser, assets, orphan_after_s=3600.0, record_kept_s=9.0
    )


@pytest.fixture
def reconciler(redis_server: RedisServer, data_dir: Path) -> Reconciler:
    """One that has swept already, so that its rounds show what a round alone does."""
    settings = ReconcilerSettings(
        redis_url=redis_server.url, data_dir=data_dir, lost_after_s=0.001, sweep_every_s=1e6
    )
    one = Reconciler(settings)
    one.round()
    return one


def seen(ledger: Ledger, record: JobRecord) -> JobRecord:
    found = ledger.get(record.id)
    assert found is not None
    return found


def succeed(ledger: Ledger, put: Put, record: JobRecord) -> None:
    assert ledger.claim(record.id, 1, "token", worker="w", lease_s=30)
    result = RESULT.model_copy(update={"key": f"results/{record.id}/token.mp4", "bytes": 5})
    put(result.key, "video")
    finished = FinishedRender(result=result, timings_s={})
    put(FinishedRender.key_of(result.key), finished.model_dump_json())
    assert ledger.succeed(record.id, "token", result, {})


# --- the reconciler -----------------------------------------------------------------------------


def test_after_success_no_media_is_left_but_the_mp4(
    redis: Redis,
    post: Callable[..., str],
    client: TestClient,
    store: ArtifactStore,
    start_worker: StartWorker,
) -> None:
    job_id = post()
    before = bytes_of(redis, "anonymous")
    start_worker()
    start_worker("service.reconciler", reconcile_every_s=0.1)

    def state() -> str:
        return str(client.get(f"/v1/jobs/{job_id}").json()["state"])

    eventually(lambda: state() == "succeeded", "the job is rendered")
    eventually(lambda: set(store.names(f"inputs/{job_id}")) == {"job.json"}, "its media go")
    video = client.get(f"/v1/jobs/{job_id}/content")
    assert video.status_code == 200
    kept = {name.rpartition(".")[2] for name in store.names(f"results/{job_id}")}
    assert kept == {"mp4", "json", "jpg"}
    eventually(lambda: bytes_of(redis, "anonymous") == len(video.content), "bytes are told")
    assert before > len(video.content)


def test_a_round_asks_one_question_about_all_open_jobs(
    redis: Redis, accept: Callable[[], JobRecord], reconciler: Reconciler
) -> None:
    for _ in range(20):
        accept()
    redis.config_resetstat()

    reconciler.round()

    calls = redis.info("commandstats")
    assert calls["cmdstat_zdiff"]["calls"] == 1
    assert "cmdstat_hgetall" not in calls, "no job is read as a whole"


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_what_failed_or_was_cancelled_leaves_its_end_and_no_media(
    ledger: Ledger,
    redis: Redis,
    store: ArtifactStore,
    accept: Callable[[], JobRecord],
    reconciler: Reconciler,
    how: str,
) -> None:
    record, waiting = accept(), accept()
    if how == "cancel":
        ledger.request_cancel(record.id)
    else:
        ledger.end_open(record.id, FAILURE)

    reconciler.round()

    ended = read_ending(store, record.id)
    found = seen(ledger, record)
    assert ended == EndedJob(
        state=found.state, failure=found.failure, finished_at=found.finished_at
    )
    assert media_names(store, record.id) == []
    assert len(media_names(store, waiting.id)) == 2
    assert redis.zrange(MEDIA, 0, -1) == [waiting.id.encode()]
    assert bytes_of(redis, "me") == 100


def test_open_jobs_keep_their_media_wherever_they_are(
    ledger: Ledger, store: ArtifactStore, accept: Callable[[], JobRecord], redis: Redis,
    reconciler: Reconciler,
) -> None:  # fmt: skip
    running, handed_back, redelivered, waiting = (accept() for _ in range(4))
    for record in (running, handed_back, redelivered):
        redis.lrem("rq:queue:render", 0, f"{record.id}_1")
        assert ledger.claim(record.id, 1, "token", worker="w", lease_s=30)
    ledger.hand_back(handed_back.id, "token")
    redis.delete(f"tf:{{j}}:lease:{redelivered.id}")
    recovery = Recovery(redis, lost_after_s=0.0)
    assert [recovery.recover(lost) for lost in recovery.lost()] == [Recovered.REDELIVERED]

    reconciler.round()

    for record in (running, handed_back, redelivered, waiting):
        assert len(media_names(store, record.id)) == 2


def test_a_job_that_is_open_again_keeps_its_media(
    ledger: Ledger, redis: Redis, store: ArtifactStore, accept: Callable[[], JobRecord],
    eraser: MediaEraser,
) -> None:  # fmt: skip
    record = accept()
    ledger.end_open(record.id, FAILURE)
    (due,) = MediaIndex(redis).ended()
    ended = seen(ledger, record)
    # Between the look and the erasing the ledger is lost and rebuilt.
    redis.flushall()
    assert rebuild(store, ledger).queued == 1

    eraser.erase_ended(due.job_id)
    assert eraser.erase(ended) == 0

    assert len(media_names(store, record.id)) == 2
    assert read_ending(store, record.id) is None
    assert redis.zrange(MEDIA, 0, -1) == [record.id.encode()]
    assert seen(ledger, record).state is JobState.QUEUED


def test_jobs_that_another_release_ended_or_deleted_are_found(
    ledger: Ledger, redis: Redis, store: ArtifactStore, accept: Callable[[], JobRecord],
    reconciler: Reconciler,
) -> None:  # fmt: skip
    ended, deleted = accept(), accept()
    # As 0.2.1 does it, which knows neither `media` nor bytes.
    redis.hset(
        job_key(ended.id), mapping={"state": "cancelled", "finished_at": "2026-01-01T00:00Z"}
    )
    redis.delete(job_key(deleted.id))
    redis.zrem("tf:{j}:open", ended.id, deleted.id)
    redis.delete("rq:queue:render")

    reconciler.round()

    assert media_names(store, ended.id) == []
    assert redis.exists(MEDIA) == 0


def test_the_sweep_finds_media_of_jobs_that_another_release_accepted(
    ledger: Ledger, redis: Redis, store: ArtifactStore, accept: Callable[[], JobRecord],
    sweeper: Sweeper, put: Put,
) -> None:  # fmt: skip
    ended, is_open = accept(), accept()
    succeed(ledger, put, ended)
    redis.delete(MEDIA, "tf:{j}:stored", "tf:{j}:stored-jobs")

    assert sweeper.sweep() == 2

    assert media_names(store, ended.id) == []
    assert len(media_names(store, is_open.id)) == 2
    assert bytes_of(redis, "me") == 5, "the video"
    assert sweeper.sweep() == 0


def test_the_sweep_takes_back_bytes_that_another_release_left(
    ledger: Ledger, redis: Redis, accept: Callable[[], JobRecord], sweeper: Sweeper
) -> None:
    deleted, erased, kept = accept(), accept(), accept()
    redis.delete(job_key(deleted.id))
    redis.hset(job_key(erased.id), "erased", "1")
    assert bytes_of(redis, "me") == 300

    sweeper.sweep()

    assert bytes_of(redis, "me") == 100
    ledger.set_stored_bytes(kept.id, 70)
    assert bytes_of(redis, "me") == 70
    ledger.delete(kept.id)
    assert redis.exists("tf:{j}:stored", "tf:{j}:stored-jobs") == 0


def test_media_of_a_job_that_cannot_be_read_are_left_alone(
    ledger: Ledger, redis: Redis, store: ArtifactStore, accept: Callable[[], JobRecord],
    reconciler: Reconciler, sweeper: Sweeper,
) -> None:  # fmt: skip
    record, other = accept(), accept()
    for job in (record, other):
        ledger.end_open(job.id, None)
    redis.hset(job_key(record.id), "input", "{ no JSON")

    reconciler.round()
    sweeper.sweep()

    assert len(media_names(store, record.id)) == 2
    assert media_names(store, other.id) == []


def test_a_full_volume_keeps_no_media(
    ledger: Ledger, redis: Redis, data_dir: Path, accept: Callable[[], JobRecord]
) -> None:
    record = accept()
    ledger.end_open(record.id, FAILURE)
    full = FolderStore(data_dir, min_free_bytes=2**62)

    MediaEraser(full, ledger, MediaIndex(redis)).erase_ended(record.id)

    assert set(full.names(f"inputs/{record.id}")) == {"job.json"}


def test_expiry_and_deletion_erase_everything_all_the_same(
    client: TestClient, ledger: Ledger, redis: Redis, store: ArtifactStore,
    accept: Callable[[], JobRecord], reconciler: Reconciler,
) -> None:  # fmt: skip
    deleted, expired = accept(), accept()
    for record in (deleted, expired):
        redis.hset(job_key(record.id), mapping={"principal": "anonymous", "retention_s": "0.0"})
        ledger.end_open(record.id, FAILURE)
    reconciler.round()
    reconciler.round()

    assert client.delete(f"/v1/jobs/{deleted.id}").status_code == 204
    assert seen(ledger, expired).erased
    assert list(store.names("inputs")) == []
    assert redis.exists("tf:{j}:stored", "tf:{j}:stored-jobs", MEDIA) == 0


# --- a ledger that was lost ---------------------------------------------------------------------


def test_a_lost_ledger_comes_back_with_every_end(
    ledger: Ledger, redis: Redis, store: ArtifactStore, accept: Callable[[], JobRecord], put: Put,
    reconciler: Reconciler,
) -> None:  # fmt: skip
    done, failed, cancelled, waiting = (accept() for _ in range(4))
    succeed(ledger, put, done)
    ledger.end_open(failed.id, FAILURE)
    ledger.request_cancel(cancelled.id)
    reconciler.round()
    ends = [seen(ledger, record).finished_at for record in (failed, cancelled)]
    redis.flushall()

    assert rebuild(store, ledger) == Rebuilt(finished=1, ended=2, queued=1)

    again = [seen(ledger, record) for record in (done, failed, cancelled, waiting)]
    assert [record.state.value for record in again] == [
        *("succeeded", "failed", "cancelled", "queued"),
    ]
    assert (again[1].failure, again[1].finished_at) == (FAILURE, ends[0])
    assert again[2].finished_at == ends[1]
    assert open_queue(redis, "render").job_ids == [f"{waiting.id}_1"], "nothing else is delivered"
    assert redis.zrange("tf:{j}:open", 0, -1) == [waiting.id.encode()]
    events = [event.state.value for event in ledger.read_events(failed.id)]
    assert events == ["queued", "failed"]
    reconciler.round()
    assert rebuild(store, ledger) == Rebuilt(known=4)
    assert len(media_names(store, waiting.id)) == 2


def test_a_job_that_lost_its_media_and_its_end_fails_once_and_for_all(
    ledger: Ledger, redis: Redis, store: ArtifactStore, accept: Callable[[], JobRecord],
    reconciler: Reconciler,
) -> None:  # fmt: skip
    record = accept()
    for name in media_names(store, record.id):
        store.delete(f"inputs/{record.id}/{name}")
    redis.flushall()

    assert rebuild(store, ledger) == Rebuilt(without_media=1)

    found = seen(ledger, record)
    assert found.failure is not None
    assert (found.state, found.failure.code) == (JobState.FAILED, ErrorCode.INTERNAL_ERROR)
    assert redis.exists("rq:queue:render") == 0
    reconciler.round()
    redis.flushall()
    assert rebuild(store, ledger) == Rebuilt(ended=1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"state": "failed", "failure": {"code": "solar_flare", "detail": "x"}, "new": 1}', True),
        ('{"state": "failed"}', False),
        ('{"state": "melted"}', False),
        ('{"state": "succeeded"}', False),
        ("[]", False),
        ("", False),
    ],
)
def test_the_end_that_another_release_wrote_is_read_tolerantly(
    store: ArtifactStore, put: Put, text: str, code: bool
) -> None:
    put("inputs/a/ended.json", text)

    ended = read_ending(store, "a")

    assert (ended is not None) is code
    if ended is not None and ended.failure is not None:
        assert ended.failure.code is ErrorCode.INTERNAL_ERROR
        assert json.loads(text)["failure"]["detail"] == ended.failure.detail
