"""Records of the previous release are read by this tree, and the other way round.

The first half runs both releases and needs a history; the second half reads records that release
0.2.1 wrote once (tests/neighbour/stored.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from service.exposure import ANONYMOUS
from service.main import create_app
from service.settings import ServiceSettings
from tests import previous_release
from tests.chaos.code_trees import CodeTrees, lay_out
from tests.integration.conftest import RedisServer, StartWorker, eventually
from tests.neighbour.processes import Told, run_in
from tests.neighbour.readings import DONE, IN_FLIGHT
from tests.neighbour.records import CHOSEN
from tests.neighbour.stored import load
from tests.previous_release import NoHistoryError, extract
from worker.contract.artifact_folder import FolderStore
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import from_json
from worker.contract.messages import JobState
from worker.contract.outbox import Outbox
from worker.contract.rebuild import rebuild

WAITING = ("queued", "chosen", "dubbing", "driven", "idempotent")
STATES = dict.fromkeys(WAITING, "queued") | {
    "running": "running",
    "abandoned": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> CodeTrees:
    """The code of the previous release, and of this one with an option more."""
    try:
        return lay_out(tmp_path_factory.mktemp("trees"))
    except NoHistoryError as error:
        pytest.skip(str(error))


# --- both releases run --------------------------------------------------------------------------


def expect_all_read(told: Told, records: dict[str, Any]) -> None:
    """The reader understood every record, and none of its steps failed."""
    jobs, answer = records["jobs"], told.answer
    assert answer["get"] == dict.fromkeys(jobs, 200)
    assert {name: job["state"] for name, job in answer["job"].items()} == STATES
    assert {name: job["id"] for name, job in answer["job"].items()} == jobs
    assert answer["list"] == 200
    assert set(answer["listed"]) == set(jobs.values())
    assert answer["last_event"] == dict.fromkeys(("succeeded", "failed", "cancelled"), "event: job")
    chosen = answer["job"]["chosen"]["input"]["options"]
    assert {name: chosen[name] for name in CHOSEN} == CHOSEN
    assert answer["job"]["running"]["frames"] == {"done": 8, "total": 25}
    assert answer["job"]["failed"]["error"]["code"] == ErrorCode.NO_FACE_FOUND
    assert answer["video"] == [200, answer["job"]["succeeded"]["result"]["bytes"]]

    same, in_flight = answer["sent_again"][DONE], answer["sent_again"][IN_FLIGHT]
    assert (same["status"], same["id"]) == (202, jobs["idempotent"])
    assert (in_flight["status"], in_flight["code"]) == (409, ErrorCode.IDEMPOTENCY_IN_PROGRESS)


def expect_all_ended(told: Told, records: dict[str, Any]) -> None:
    """The reader's reconciler and its calls that end jobs did what they should."""
    jobs, answer = records["jobs"], told.answer
    webhooks = {
        f"evt_{jobs[name]} {jobs[name]} job.{name}" for name in ("succeeded", "failed", "cancelled")
    }
    assert set(answer["reconciler"]["webhooks"]) == webhooks
    assert answer["reconciler"]["quarantine"] == []
    for fault in ("step_failed", "job_not_handled", "job_quarantined", "Traceback"):
        assert fault not in told.log
    assert (answer["recovered"]["state"], answer["recovered"]["attempt"]) == ("queued", 2)
    assert answer["cancel"] == {"queued": 200, "running": 202, "cancelled": 200, "succeeded": 409}
    assert answer["delete"] == dict.fromkeys(jobs, 204)
    assert answer["after"] == dict.fromkeys(jobs, 404)
    with_a_key = {"without": 401, "get": 200, "listed": [records["owned"]]}
    assert answer["with_a_key"] == with_a_key | {"cancel": 200, "delete": 204}


@pytest.mark.parametrize("writer", ["previous", "next"])
def test_each_release_reads_what_the_other_wrote(
    writer: str, trees: CodeTrees, redis_server: RedisServer, data_dir: Path
) -> None:
    both = (trees.previous, trees.next)
    writing, reading = both if writer == "previous" else reversed(both)

    records = run_in(writing, "records", redis_server.url, data_dir).answer
    told = run_in(reading, "readings", redis_server.url, data_dir, given=records)

    expect_all_read(told, records)
    expect_all_ended(told, records)


def test_a_worker_of_this_tree_draws_what_the_previous_release_accepted(
    trees: CodeTrees,
    redis_server: RedisServer,
    data_dir: Path,
    client: TestClient,
    start_worker: StartWorker,
) -> None:
    jobs = run_in(trees.previous, "records", redis_server.url, data_dir).answer["jobs"]

    start_worker()
    start_worker("service.reconciler", reconcile_every_s=0.2, lost_after_s=0.2)

    def ended() -> dict[str, Any]:
        """Those that have ended of the jobs that this tree has to draw."""
        shown = {
            name: client.get(f"/v1/jobs/{jobs[name]}").json() for name in (*WAITING, "abandoned")
        }
        return {name: job for name, job in shown.items() if job["finished_at"]}

    eventually(lambda: len(ended()) == len(WAITING) + 1, "all of them end")
    drawn = ended()
    assert {name: job["state"] for name, job in drawn.items()} == dict.fromkeys(drawn, "succeeded")
    chosen = drawn["chosen"]["result"]
    assert (chosen["fps"], chosen["num_frames"]) == (CHOSEN["fps"], 30)


@pytest.mark.long
def test_this_tree_rebuilds_the_ledger_of_the_previous_release(
    trees: CodeTrees, redis_server: RedisServer, redis: Redis, data_dir: Path
) -> None:
    records = run_in(trees.previous, "records", redis_server.url, data_dir).answer
    redis.flushall()

    told = rebuild(FolderStore(data_dir), Ledger(redis))

    assert (told.finished, told.unreadable, told.known) == (1, 0, 0)
    assert told.queued == len(records["jobs"])  # all but the one with a video, and the key's


# --- records of release 0.2.1 that are kept as files --------------------------------------------


@pytest.fixture
def records(redis: Redis, data_dir: Path, tmp_path: Path) -> dict[str, Any]:
    return load(redis, FolderStore(data_dir), tmp_path)


def test_stored_jobs_are_shown_listed_and_deleted(
    records: dict[str, Any], client: TestClient, ledger: Ledger
) -> None:
    jobs = records["jobs"]

    shown = {name: client.get(f"/v1/jobs/{job_id}") for name, job_id in jobs.items()}
    listed = client.get("/v1/jobs", params={"limit": 100}).json()["data"]

    assert {name: answer.status_code for name, answer in shown.items()} == dict.fromkeys(jobs, 200)
    assert {name: answer.json()["state"] for name, answer in shown.items()} == STATES
    assert {job["id"] for job in listed} == set(jobs.values())
    for name, job_id in jobs.items():
        record = ledger.get(job_id)
        assert record is not None and record.is_understood, name
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
        assert client.get(f"/v1/jobs/{job_id}").status_code == 404


def test_stored_jobs_are_what_they_were(records: dict[str, Any], ledger: Ledger) -> None:
    found = {name: ledger.get(job_id) for name, job_id in records["jobs"].items()}
    jobs = {name: record for name, record in found.items() if record is not None}

    assert {name: record.state.value for name, record in jobs.items()} == STATES
    options = jobs["chosen"].input.options.model_dump(exclude_defaults=True)
    assert options == CHOSEN
    assert jobs["dubbing"].input.video is not None
    assert jobs["driven"].input.driving_video is not None
    assert len(jobs["driven"].input.references) == 1
    assert jobs["failed"].failure is not None
    assert jobs["failed"].failure.code is ErrorCode.NO_FACE_FOUND
    assert jobs["succeeded"].result is not None
    assert jobs["succeeded"].result.num_frames == 25


def test_stored_jobs_are_claimed_and_cancelled(records: dict[str, Any], ledger: Ledger) -> None:
    jobs = records["jobs"]

    claimed = ledger.claim(jobs["queued"], 1, "token", worker="w", lease_s=30)
    ledger.request_cancel(jobs["dubbing"])

    assert claimed is not None and claimed.state is JobState.RUNNING
    cancelled = ledger.get(jobs["dubbing"])
    assert cancelled is not None and cancelled.state is JobState.CANCELLED


def test_stored_events_keys_and_webhooks_are_read(
    records: dict[str, Any],
    ledger: Ledger,
    redis: Redis,
    client: TestClient,
    redis_server: RedisServer,
    data_dir: Path,
) -> None:
    jobs, bearer = records["jobs"], {"Authorization": f"Bearer {records['key']}"}
    settings = ServiceSettings(redis_url=redis_server.url, data_dir=data_dir, require_keys=True)

    states = [event.state.value for event in ledger.read_events(jobs["failed"])]
    with TestClient(create_app(settings)) as with_keys:
        owned = with_keys.get("/v1/jobs", headers=bearer).json()["data"]
    due = {event.job_id: event.type for event in Outbox(redis).due()}

    assert (states[0], states[-1], len(states)) == ("queued", "failed", 4)
    assert "event: job" in client.get(f"/v1/jobs/{jobs['failed']}/events").text
    assert [job["id"] for job in owned] == [records["owned"]]
    assert due == {jobs[name]: f"job.{name}" for name in ("succeeded", "failed", "cancelled")}
    done = ledger.idempotency_lookup(ANONYMOUS, DONE)
    in_flight = ledger.idempotency_lookup(ANONYMOUS, IN_FLIGHT)
    assert done is not None and done.job_id == jobs["idempotent"]
    assert in_flight is not None and in_flight.job_id is None


def test_a_ledger_is_rebuilt_from_stored_files(
    records: dict[str, Any], redis: Redis, data_dir: Path, ledger: Ledger, tmp_path: Path
) -> None:
    before = {name: ledger.get(job_id) for name, job_id in records["jobs"].items()}
    redis.flushall()
    store = FolderStore(data_dir)
    for job_id in (*records["jobs"].values(), records["owned"]):
        # What was not rendered waits again, where there is something to render it from.
        (tmp_path / "media").write_text("a voice")
        store.put(f"inputs/{job_id}/speech.flac", tmp_path / "media")

    told = rebuild(store, ledger)

    assert (told.finished, told.queued, told.unreadable) == (1, len(records["jobs"]), 0)
    for name, record in before.items():
        again = ledger.get(records["jobs"][name])
        assert again is not None and record is not None
        assert (again.input, again.callback_url) == (record.input, record.callback_url)
        with store.local_copy(f"inputs/{record.id}/job.json") as path:
            assert from_json(path.read_text()).input == record.input


# --- checkouts without a history ----------------------------------------------------------------


def test_a_missing_history_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(previous_release, "PREVIOUS_COMMIT", "0" * 40)

    with pytest.raises(NoHistoryError, match=r"0\.2\.1 .*no history.*git fetch --unshallow"):
        extract(tmp_path)

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoHistoryError, match="git is not installed"):
        extract(tmp_path)
