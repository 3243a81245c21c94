"""Lists, events, cancelling, deleting, idempotency, webhooks: the ledger's side of the API."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from redis import Redis

from tests.integration.conftest import new_record
from tests.integration.test_ledger import FAILURE, RESULT
from worker.contract.answers import CancelOutcome, DeadlinePolicy, ReportAnswer
from worker.contract.idempotency import IdempotencyKey, IdempotencyTakenError
from worker.contract.ledger import Ledger
from worker.contract.ledger_reader import CursorError
from worker.contract.messages import FrameCount, JobRecord, JobState, Stage
from worker.contract.outbox import Outbox
from worker.contract.presence import ProcessKind
from worker.contract.queues import INSPECT_FUNCTION, open_queue

CALLBACK = "https://example.org/hook"
BOXES = ((1.0, 2.0, 30.0, 40.0),)


def job(**changes: object) -> JobRecord:
    return new_record().model_copy(update={"id": uuid4().hex, **changes})


def claim(ledger: Ledger, record: JobRecord, token: str = "token", attempt: int = 1) -> bool:
    return ledger.claim(record.id, attempt, token, worker="w", lease_s=30) is not None


def states(ledger: Ledger, job_id: str) -> list[str]:
    return [event.state.value for event in ledger.read_events(job_id) if event.kind == "state"]


def test_a_record_comes_back_as_it_was_accepted(ledger: Ledger) -> None:
    record = job(
        principal="key-1",
        retention_s=60.0,
        callback_url=CALLBACK,
        deadline_at=datetime(2030, 1, 1, tzinfo=UTC),
    )

    assert ledger.accept(record) == record
    assert ledger.get(record.id) == record


def test_accepting_twice_is_accepting_once(ledger: Ledger, redis: Redis) -> None:
    record = job()
    ledger.accept(record)
    claim(ledger, record)

    ledger.accept(record)  # as after a lost answer

    assert open_queue(redis, "render").count == 1
    again = ledger.get(record.id)
    assert again is not None and again.state is JobState.RUNNING


def test_lists_are_the_callers_own_newest_first_and_in_pages(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    mine = [job(principal="me", created_at=now + timedelta(seconds=i // 2)) for i in range(7)]
    for record in mine:
        ledger.accept(record)
    ledger.accept(job(principal="you"))
    ledger.accept(job())

    pages, cursor = [], None
    while True:
        page = ledger.list_jobs("me", cursor=cursor, limit=3)
        pages.append([record.id for record in page.records])
        if (cursor := page.next_cursor) is None:
            break

    newest_first = sorted(mine, key=lambda record: (record.created_at, record.id), reverse=True)
    assert [len(ids) for ids in pages] == [3, 3, 1]
    assert [job_id for ids in pages for job_id in ids] == [record.id for record in newest_first]
    assert len(ledger.list_jobs(None).records) == 1
    assert (ledger.count_open("me"), ledger.count_open(None), ledger.count_all_open()) == (7, 1, 9)


@pytest.mark.parametrize("cursor", ["", "x", "nan_abc", "1.0", "1.0_../x"])
def test_a_made_up_cursor_is_refused(ledger: Ledger, cursor: str) -> None:
    with pytest.raises(CursorError):
        ledger.list_jobs(None, cursor=cursor)


def test_events_tell_the_whole_story_and_resume(ledger: Ledger) -> None:
    record = job()
    ledger.accept(record)
    claim(ledger, record)
    ledger.report(record.id, "token", stage=Stage.GENERATING, frames=FrameCount(done=8, total=25))
    ledger.succeed(record.id, "token", RESULT, {})

    told = ledger.read_events(record.id)

    assert [(event.kind, event.state.value) for event in told] == [
        ("state", "queued"),
        ("state", "running"),
        ("progress", "running"),
        ("state", "succeeded"),
    ]
    assert told[2].frames == FrameCount(done=8, total=25)
    assert told[2].stage is Stage.GENERATING
    assert ledger.read_events(record.id, told[1].id) == told[2:]
    assert ledger.read_events(record.id, told[-1].id, block_ms=20) == []


def test_a_waiting_job_is_cancelled_at_once(ledger: Ledger, redis: Redis) -> None:
    record = job()
    ledger.accept(record)

    assert ledger.request_cancel(record.id) is CancelOutcome.CANCELLED
    assert ledger.request_cancel(record.id) is CancelOutcome.CANCELLED

    seen = ledger.get(record.id)
    assert seen is not None
    assert (seen.state, seen.stage) == (JobState.CANCELLED, None)
    assert seen.finished_at is not None and seen.cancel_requested_at is not None
    assert states(ledger, record.id) == ["queued", "cancelled"]
    assert not claim(ledger, record)
    assert open_queue(redis, "render").count == 0
    assert ledger.count_all_open() == 0


def test_a_running_job_is_cancelled_by_its_worker(ledger: Ledger) -> None:
    record = job()
    ledger.accept(record)
    claim(ledger, record)

    assert ledger.request_cancel(record.id) is CancelOutcome.REQUESTED

    answer = ledger.report(record.id, "token", stage=Stage.GENERATING, frames=None)
    assert answer is ReportAnswer.CANCEL
    assert ledger.finish_cancelled(record.id, "token")
    assert states(ledger, record.id) == ["queued", "running", "cancelled"]


def test_a_job_that_is_handed_back_after_a_wish_to_cancel_is_cancelled(ledger: Ledger) -> None:
    record = job()
    ledger.accept(record)
    claim(ledger, record)
    ledger.request_cancel(record.id)

    assert ledger.hand_back(record.id, "token")

    assert states(ledger, record.id) == ["queued", "running", "cancelled"]


def test_what_has_ended_is_not_cancelled(ledger: Ledger) -> None:
    record = job()
    ledger.accept(record)
    claim(ledger, record)
    ledger.fail(record.id, "token", FAILURE)

    assert ledger.request_cancel(record.id) is CancelOutcome.TERMINAL
    assert ledger.request_cancel("f" * 32) is CancelOutcome.UNKNOWN


@pytest.mark.parametrize("when", ["queued", "running", "failed"])
def test_a_deleted_job_leaves_nothing_and_does_not_come_back(
    ledger: Ledger, redis: Redis, when: str
) -> None:
    key = IdempotencyKey(principal="me", key="k", fingerprint="f")
    record = job(principal="me", retention_s=60.0, callback_url=CALLBACK)
    ledger.accept(record, idempotency=key)
    if when != "queued":
        claim(ledger, record)
    if when == "failed":
        ledger.fail(record.id, "token", FAILURE)

    assert ledger.delete(record.id)

    assert ledger.get(record.id) is None
    assert not ledger.report(record.id, "token", stage=Stage.ENCODING, frames=None)
    assert not ledger.renew(record.id, "token", lease_s=30)
    assert not ledger.succeed(record.id, "token", RESULT, {})
    assert not ledger.hand_back(record.id, "token")
    assert not ledger.delete(record.id)
    assert not claim(ledger, record)
    assert ledger.idempotency_lookup("me", "k") is None
    # Counters know no job.
    left = set(redis.keys("tf:*")) - {b"tf:{j}:stats"}
    assert left == {f"tf:{{j}}:gone:{record.id}".encode()}
    assert redis.llen("rq:queue:render") == 0


def test_an_idempotency_key_leads_to_its_job(ledger: Ledger) -> None:
    key = IdempotencyKey(principal="me", key="k", fingerprint="f")
    record = job(principal="me")

    assert ledger.idempotency_reserve(key) is None
    in_flight = ledger.idempotency_lookup("me", "k")
    assert in_flight is not None and (in_flight.job_id, in_flight.fingerprint) == (None, "f")
    ledger.accept(record, idempotency=key)

    found = ledger.idempotency_reserve(key)
    assert found is not None and found.job_id == record.id
    assert ledger.idempotency_lookup("you", "k") is None
    ledger.idempotency_release(key)
    assert ledger.idempotency_lookup("me", "k") == found, "a key with a job stays"
    other = job(principal="me")
    with pytest.raises(IdempotencyTakenError):
        ledger.accept(other, idempotency=key)
    assert ledger.get(other.id) is None


def test_a_refused_request_frees_its_key(ledger: Ledger) -> None:
    key = IdempotencyKey(principal=None, key="k", fingerprint="f")
    ledger.idempotency_reserve(key)

    ledger.idempotency_release(key)

    assert ledger.idempotency_reserve(key) is None


def test_places_in_the_queue_count_from_the_front(ledger: Ledger) -> None:
    jobs = [job() for _ in range(3)]
    for record in jobs:
        ledger.accept(record)

    assert [ledger.queue_position(record) for record in jobs] == [0, 1, 2]
    claim(ledger, jobs[0])
    assert ledger.queue_position(jobs[0]) is None
    assert ledger.queue_position(job()) is None


def test_an_eta_is_measured_or_absent(ledger: Ledger) -> None:
    first, second = job(), job()
    ledger.accept(first)
    ledger.accept(second)
    assert ledger.eta_s(second) is None

    ledger.presence.beat(ProcessKind.WORKER, "w")
    claimed = ledger.claim(first.id, 1, "token", worker="w", lease_s=30)
    assert claimed is not None and ledger.eta_s(claimed) is None
    ledger.succeed(first.id, "token", RESULT, {"generating": 3.0, "encoding": 1.0})

    # One video of 1 s took 4 s, and another job waits before it in RQ's list.
    assert ledger.eta_s(second, 0) == pytest.approx(4.0)
    assert ledger.eta_s(second, 2) == pytest.approx(12.0)
    ended = ledger.get(first.id)
    assert ended is not None and ledger.eta_s(ended) is None


def test_the_deadline_begins_with_the_first_claim(ledger: Ledger) -> None:
    record = job()
    ledger.accept(record)
    policy = DeadlinePolicy(base_s=600, per_audio_s=60)

    before = time.time()
    ledger.claim(record.id, 1, "a", worker="w", lease_s=30, deadline=policy)
    ledger.hand_back(record.id, "a")
    first = ledger.get(record.id)
    ledger.claim(record.id, 2, "b", worker="w", lease_s=30, deadline=policy)
    second = ledger.get(record.id)

    assert first is not None and first.deadline_at is not None and second is not None
    assert first.deadline_at.timestamp() == pytest.approx(before + 660, abs=30)
    assert second.deadline_at == first.deadline_at


def test_a_job_with_a_picture_is_inspected_where_somebody_inspects(
    ledger: Ledger, redis: Redis
) -> None:
    ledger.presence.beat(ProcessKind.INSPECTOR, "i")
    record = ledger.accept(job())
    waiting = ledger.accept(job())

    (delivery, _) = open_queue(redis, "inspect").jobs
    assert (delivery.func_name, delivery.args) == (INSPECT_FUNCTION, [record.id, 1])
    assert record.queue == "inspect"
    assert not claim(ledger, waiting, attempt=2)
    assert ledger.queue_position(waiting) == 1

    held = ledger.claim_waiting(record.id, 1, "i", lease_s=30)
    assert held is not None and held.state is JobState.QUEUED
    assert ledger.claim_waiting(record.id, 1, "other", lease_s=30) is None
    assert not ledger.pass_inspection(record.id, "other", BOXES)
    assert ledger.pass_inspection(record.id, "i", BOXES)
    assert not ledger.pass_inspection(record.id, "i", BOXES)

    passed = ledger.get(record.id)
    assert passed is not None
    assert (passed.state, passed.queue, passed.face_boxes) == (JobState.QUEUED, "render", BOXES)
    assert claim(ledger, record)


def test_an_inspector_may_fail_a_job(ledger: Ledger) -> None:
    ledger.presence.beat(ProcessKind.INSPECTOR, "i")
    record = ledger.accept(job())
    ledger.claim_waiting(record.id, 1, "i", lease_s=30)

    assert ledger.fail(record.id, "i", FAILURE)

    assert states(ledger, record.id) == ["queued", "failed"]


def test_an_open_job_is_ended_without_its_token(ledger: Ledger) -> None:
    record = job()
    ledger.accept(record)
    claim(ledger, record)

    assert not ledger.end_open(record.id, FAILURE, attempt=2)
    assert ledger.end_open(record.id, FAILURE, attempt=1)
    assert not ledger.end_open(record.id, None)
    assert not ledger.report(record.id, "token", stage=Stage.ENCODING, frames=None)
    assert states(ledger, record.id) == ["queued", "running", "failed"]


def test_a_webhook_is_written_with_the_end_and_keeps_its_id(ledger: Ledger, redis: Redis) -> None:
    outbox = Outbox(redis)
    record = job(callback_url=CALLBACK)
    ledger.accept(record)
    ledger.accept(job())
    claim(ledger, record)
    assert outbox.count() == 0
    ledger.succeed(record.id, "token", RESULT, {})

    now = time.time() + 1
    (event,) = outbox.due(now)
    assert (event.id, event.job_id, event.type) == (
        f"evt_{record.id}",
        record.id,
        "job.succeeded",
    )
    assert (event.callback_url, event.attempts) == (CALLBACK, 0)
    assert outbox.due(now) == [], "another reconciler does not get it at the same time"
    (after_death,) = outbox.due(now + 61)
    assert after_death == event

    outbox.reschedule(event.id, now + 300)
    assert outbox.due(now + 299) == []
    (again,) = outbox.due(now + 301)
    assert (again.id, again.attempts) == (event.id, 1)
    outbox.done(event.id)
    assert outbox.count() == 0
    outbox.reschedule(event.id, now)
    assert redis.keys("tf:*outbox*") == []


def test_what_has_ended_expires(ledger: Ledger, redis: Redis) -> None:
    record = job(retention_s=100.0)
    ledger.accept(record)
    claim(ledger, record)
    before = time.time()
    ledger.fail(record.id, "token", FAILURE)

    seen = ledger.get(record.id)
    assert seen is not None and seen.expires_at is not None
    assert seen.expires_at.timestamp() == pytest.approx(before + 100, abs=30)
    assert redis.zrange("tf:{j}:expire", 0, -1) == [record.id.encode()]
