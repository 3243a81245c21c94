"""The ledger on a real Redis: who may write what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from tests.integration.conftest import ID, new_record
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.messages import FrameCount, JobFailure, JobRecord, JobState, Stage
from worker.contract.presence import ProcessKind
from worker.contract.queues import JOB_FUNCTION, open_queue
from worker.contract.results import JobResult, RendererInfo

QUEUE = "rq:queue:render"


RESULT = JobResult(
    key=f"results/{ID}/token.mp4",
    content_type="video/mp4",
    bytes=10,
    sha256="c",
    width=64,
    height=64,
    fps=25.0,
    num_frames=25,
    seconds=1.0,
    face_bbox_xyxy=None,
    renderer=RendererInfo(
        model_name="m", weights_sha256=None, attention_backend=None, dtype="fp32", device="cpu"
    ),
)
FAILURE = JobFailure(code=ErrorCode.NO_FACE_FOUND, detail="No face.", params={"faces": 0})


@pytest.fixture
def record(ledger: Ledger) -> JobRecord:
    record = new_record()
    ledger.accept(record)
    return record


def claim(ledger: Ledger, token: str, attempt: int = 1) -> JobRecord | None:
    return ledger.claim(ID, attempt, token, worker="w", lease_s=30)


def test_accepting_writes_the_job_and_one_delivery(
    ledger: Ledger, redis: Redis, record: JobRecord
) -> None:
    assert ledger.get(ID) == record
    assert redis.zrange("tf:{j}:open", 0, -1) == [ID.encode()]
    (delivery,) = open_queue(redis, "render").jobs
    assert delivery.id == f"{ID}_1"
    assert (delivery.func_name, delivery.args) == (JOB_FUNCTION, [ID, 1])
    assert delivery.timeout == -1


def test_a_job_is_claimed_once(ledger: Ledger, record: JobRecord) -> None:
    claimed = claim(ledger, "first")

    assert claimed is not None
    assert (claimed.state, claimed.stage) == (JobState.RUNNING, Stage.VALIDATING)
    assert claimed.started_at is not None
    assert claim(ledger, "second") is None
    assert claim(ledger, "first") is not None, "asking again after a lost answer is harmless"


@pytest.mark.parametrize("attempt", [0, 2])
def test_a_delivery_of_another_attempt_is_stale(
    ledger: Ledger, record: JobRecord, attempt: int
) -> None:
    assert claim(ledger, "token", attempt) is None


def test_an_unknown_job_is_neither_found_nor_claimed(ledger: Ledger) -> None:
    assert ledger.get(ID) is None
    assert claim(ledger, "token") is None


def test_an_expired_lease_lets_a_successor_in_and_fences_the_predecessor(
    ledger: Ledger, redis: Redis, record: JobRecord
) -> None:
    claim(ledger, "old")
    redis.delete(f"tf:{{j}}:lease:{ID}")  # what Redis does when the time is over

    assert claim(ledger, "new") is not None

    assert not ledger.renew(ID, "old", lease_s=30)
    assert not ledger.report(ID, "old", stage=Stage.ENCODING, frames=None)
    assert not ledger.hand_back(ID, "old")
    assert not ledger.fail(ID, "old", FAILURE)
    assert not ledger.succeed(ID, "old", RESULT, {})
    assert ledger.renew(ID, "new", lease_s=30)
    assert ledger.succeed(ID, "new", RESULT, {"generating": 1.5})


def test_progress_is_told_to_readers(ledger: Ledger, record: JobRecord) -> None:
    claim(ledger, "token")

    ledger.report(ID, "token", stage=Stage.GENERATING, frames=FrameCount(done=8, total=25))

    seen = ledger.get(ID)
    assert seen is not None
    assert (seen.stage, seen.frames) == (Stage.GENERATING, FrameCount(done=8, total=25))


Ending = Callable[[Ledger], bool]


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda ledger: ledger.succeed(ID, "token", RESULT, {"encoding": 2.0}), "succeeded"),
        (lambda ledger: ledger.fail(ID, "token", FAILURE), "failed"),
    ],
)
def test_a_job_ends_once(
    ledger: Ledger, redis: Redis, record: JobRecord, end: Ending, state: str
) -> None:
    claim(ledger, "token")

    assert end(ledger)

    ended = ledger.get(ID)
    assert ended is not None
    assert ended.state == state
    assert ended.state.is_terminal
    assert ended.finished_at is not None
    assert ended.stage is None
    assert (ended.result, ended.timings_s) == (
        (RESULT, {"encoding": 2.0}) if state == "succeeded" else (None, {})
    )
    assert ended.failure == (FAILURE if state == "failed" else None)
    assert redis.exists("tf:{j}:open") == 0
    assert redis.exists(f"tf:{{j}}:lease:{ID}") == 0
    # Nothing changes it any more.
    assert not ledger.fail(ID, "token", FAILURE)
    assert not ledger.succeed(ID, "token", RESULT, {})
    assert claim(ledger, "late") is None
    assert ledger.get(ID) == ended


def test_a_job_that_is_handed_back_is_the_next_to_be_delivered(
    ledger: Ledger, redis: Redis, record: JobRecord
) -> None:
    redis.rpush(QUEUE, "someone-else")
    claim(ledger, "token")
    ledger.report(ID, "token", stage=Stage.GENERATING, frames=FrameCount(done=8, total=25))

    assert ledger.hand_back(ID, "token")

    again = ledger.get(ID)
    assert again == record.model_copy(update={"attempt": 2})
    assert redis.lindex(QUEUE, 0) == f"{ID}_2".encode()
    assert claim(ledger, "late", 1) is None
    assert claim(ledger, "next", 2) is not None


def test_a_retry_is_counted_apart_from_an_interruption(ledger: Ledger, record: JobRecord) -> None:
    claim(ledger, "a")
    ledger.hand_back(ID, "a")
    claim(ledger, "b", 2)
    ledger.hand_back(ID, "b", is_retry=True)

    seen = ledger.get(ID)
    assert seen is not None
    assert (seen.attempt, seen.retries) == (3, 1)


def test_workers_are_counted_while_they_beat(ledger: Ledger) -> None:
    ledger.presence.beat(ProcessKind.WORKER, "one")
    ledger.presence.beat(ProcessKind.WORKER, "two")
    ledger.presence.beat(ProcessKind.WORKER, "one")

    assert ledger.presence.count(ProcessKind.WORKER, within_s=30) == 2
    ledger.presence.sign_off(ProcessKind.WORKER, "two")
    assert ledger.presence.count(ProcessKind.WORKER, within_s=30) == 1
    assert ledger.presence.count(ProcessKind.WORKER, within_s=0) == 0
