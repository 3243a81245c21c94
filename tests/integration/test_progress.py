"""What a render tells the ledger, and what it is told back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.integration.conftest import ID, RedisServer, eventually, new_record
from worker.contract.answers import DeadlinePolicy
from worker.contract.ledger import Ledger
from worker.contract.messages import FrameCount, Stage
from worker.progress import (
    CancelledError,
    DeadlineError,
    HandBackError,
    Heartbeat,
    LeaseLostError,
    LedgerProgress,
    Stop,
)


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def heartbeat(redis_server: RedisServer) -> Iterator[Heartbeat]:
    with (
        redis_server.client() as redis,
        Heartbeat(Ledger(redis), "tester", lease_s=1.0) as heartbeat,
    ):
        yield heartbeat


@pytest.fixture
def progress(ledger: Ledger, heartbeat: Heartbeat, stop: Stop) -> LedgerProgress:
    ledger.accept(new_record())
    record = ledger.claim(ID, 1, "token", worker="tester", lease_s=1.0)
    assert record is not None
    return LedgerProgress(ledger, record, "token", heartbeat, stop)


def seen(ledger: Ledger) -> tuple[Stage | None, FrameCount | None]:
    record = ledger.get(ID)
    assert record is not None
    return record.stage, record.frames


def test_stages_and_the_first_and_last_count_are_told_at_once(
    ledger: Ledger, progress: LedgerProgress
) -> None:
    progress.stage(Stage.DETECTING)
    assert seen(ledger) == (Stage.DETECTING, None)
    progress.stage(Stage.GENERATING)
    progress.frames(0, 20)
    assert seen(ledger) == (Stage.GENERATING, FrameCount(done=0, total=20))
    progress.frames(20, 20)
    assert seen(ledger) == (Stage.GENERATING, FrameCount(done=20, total=20))


def test_a_stop_is_noticed_between_batches_and_not_when_all_is_drawn(
    progress: LedgerProgress, stop: Stop
) -> None:
    progress.frames(0, 20)
    stop.set()

    with pytest.raises(HandBackError):
        progress.frames(8, 20)
    with pytest.raises(HandBackError):
        progress.stage(Stage.LANDMARKS)
    progress.frames(20, 20)
    progress.stage(Stage.ENCODING)


def test_a_render_goes_on_while_redis_is_away(
    redis_server: RedisServer, ledger: Ledger, progress: LedgerProgress
) -> None:
    redis_server.stop()
    progress.stage(Stage.GENERATING)
    progress.frames(20, 20)
    redis_server.start()

    progress.stage(Stage.ENCODING)
    assert seen(ledger) == (Stage.ENCODING, FrameCount(done=20, total=20))


def test_the_heartbeat_renews_the_lease_and_notices_its_loss(
    redis: Redis, ledger: Ledger, progress: LedgerProgress, heartbeat: Heartbeat
) -> None:
    key = f"tf:{{j}}:lease:{ID}"
    with heartbeat.holding(ID, "token"):
        redis.pexpire(key, 900_000)
        eventually(lambda: redis.pttl(key) <= 1000, "the lease is renewed")
        assert not heartbeat.is_lost

        redis.delete(key)
        ledger.claim(ID, 1, "successor", worker="other", lease_s=30)
        eventually(lambda: heartbeat.is_lost, "the loss is noticed")
        with pytest.raises(LeaseLostError):
            progress.stage(Stage.GENERATING)


def test_a_render_that_ends_within_the_grace_is_finished(
    ledger: Ledger, heartbeat: Heartbeat, progress: LedgerProgress
) -> None:
    record = ledger.get(ID)
    assert record is not None
    stop = Stop(grace_s=3600)
    patient = LedgerProgress(ledger, record, "token", heartbeat, stop)
    patient.frames(0, 20)
    time.sleep(0.01)
    stop.set()

    patient.frames(8, 20)  # at this pace some hundredths of a second are left
    with pytest.raises(HandBackError):
        patient.frames(8, 10**9)


def test_a_cancelled_render_stops_between_batches(ledger: Ledger, progress: LedgerProgress) -> None:
    progress.frames(0, 20)
    ledger.request_cancel(ID)

    with pytest.raises(CancelledError):
        progress.stage(Stage.ENCODING)


def test_a_render_stops_at_its_deadline(ledger: Ledger, heartbeat: Heartbeat, stop: Stop) -> None:
    ledger.accept(new_record())
    policy = DeadlinePolicy(base_s=0.0, per_audio_s=0.0)
    record = ledger.claim(ID, 1, "token", worker="tester", lease_s=9, deadline=policy)
    assert record is not None
    progress = LedgerProgress(ledger, record, "token", heartbeat, stop)
    time.sleep(0.01)  # the ledger counts in milliseconds

    with pytest.raises(DeadlineError):
        progress.frames(0, 20)


def test_a_render_without_progress_is_given_up(redis_server: RedisServer, ledger: Ledger) -> None:
    ledger.accept(new_record())
    ledger.claim(ID, 1, "token", worker="tester", lease_s=30)
    stalls: list[str] = []
    with (
        redis_server.client() as redis,
        Heartbeat(
            Ledger(redis), "tester", 30.0, stall_s=0.2, on_stall=lambda: stalls.append("stall")
        ) as heartbeat,
    ):
        time.sleep(0.5)
        assert not stalls, "an idle process is not a stalled one"
        with heartbeat.holding(ID, "token"):
            eventually(lambda: stalls, "the stall is noticed")
