"""What a render tells the ledger, and what it is told back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.integration.conftest import ID, RedisServer, eventually, new_record
from worker.contract.ledger import Ledger
from worker.contract.messages import FrameCount, Stage
from worker.progress import HandBackError, Heartbeat, LeaseLostError, LedgerProgress


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def heartbeat(redis_server: RedisServer) -> Iterator[Heartbeat]:
    with (
        redis_server.client() as redis,
        Heartbeat(Ledger(redis), "tester", lease_s=1.0) as heartbeat,
    ):
        yield heartbeat


@pytest.fixture
def progress(ledger: Ledger, heartbeat: Heartbeat, stop: threading.Event) -> LedgerProgress:
    ledger.accept(new_record())
    ledger.claim(ID, 1, "token", worker="tester", lease_s=1.0)
    return LedgerProgress(ledger, ID, "token", heartbeat, stop)


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
    progress: LedgerProgress, stop: threading.Event
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
