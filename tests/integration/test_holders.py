"""A job whose holder died is delivered again by who saw it go, not when its lease is over."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from redis import Redis

from service.reconciler import Reconciler, ReconcilerSettings
from tests.integration.conftest import RedisServer, eventually, new_record
from worker.contract.holders import Holders
from worker.contract.ledger import Ledger
from worker.contract.messages import JobState
from worker.contract.queues import connect
from worker.contract.recovery import LostJob, Recovered, Recovery
from worker.contract.segments import ALL_TAKEN, SegmentPlan, Segments


@pytest.fixture
def held(ledger: Ledger) -> str:
    """A running job whose lease has half an hour to go."""
    record = ledger.accept(new_record())
    name = f"{socket.gethostname()}-4711-abcd"
    assert ledger.claim(record.id, 1, "token", worker=name, lease_s=1800.0)
    return record.id


def test_a_supervisor_that_saw_a_worker_die_sets_its_job_going_again(
    redis: Redis, ledger: Ledger, held: str
) -> None:
    holders = Holders(redis)

    assert holders.of_process(471) == []
    assert holders.of_process(4711) == [LostJob(held, 1)]
    assert Recovery(redis).recover(LostJob(held, 1)) is Recovered.REDELIVERED

    record = ledger.get(held)
    assert record is not None
    assert (record.state, record.attempt, record.deaths) == (JobState.QUEUED, 2, 1)
    assert not ledger.renew(held, "token", lease_s=30.0)


def test_a_holder_whose_connection_is_gone_loses_its_job(
    redis: Redis, redis_server: RedisServer, ledger: Ledger, held: str
) -> None:
    name = f"{socket.gethostname()}-4711-abcd"
    holders = Holders(redis, gone_after_s=1.0)
    # Never seen: another release does not name its connections.
    assert holders.disconnected() == []
    worker = connect(redis_server.url, name=name)
    worker.ping()
    assert holders.disconnected() == []
    worker.close()
    freed: list[LostJob] = []
    until = time.monotonic() + 30
    while not freed and time.monotonic() < until:
        freed = holders.disconnected()
        time.sleep(0.05)

    assert freed == [LostJob(held, 1)]
    # One that was only cut off takes its job up again.
    assert ledger.renew(held, "token", lease_s=30.0)
    assert Recovery(redis).recover(LostJob(held, 1)) is Recovered.CHANGED


def test_segments_of_a_helper_that_died_are_free_at_once(
    redis: Redis, ledger: Ledger, held: str
) -> None:
    segments = Segments(redis, held, lease_s=1800.0)
    plan = SegmentPlan(num_frames=24, segment_frames=8, renderer="one")
    segments.begin(plan)
    dead, living = f"{socket.gethostname()}-815-ab", f"{socket.gethostname()}-816-cd"
    assert [segments.claim(f"{dead}:a", plan), segments.claim(f"{living}:b", plan)] == [0, 1]
    assert segments.claim(f"{dead}:c", plan) == 2

    # The job's own holder lives, so no job is freed.
    assert Holders(redis).of_process(815) == []

    assert [segments.claim(f"{living}:{n}", plan) for n in "de"] == [0, 2]
    assert segments.claim(f"{living}:f", plan) == ALL_TAKEN
    assert not segments.finish(0, f"{dead}:a", "late")


def test_a_redis_that_does_not_tell_its_clients_leaves_it_to_the_lease(
    redis_server: RedisServer, held: str
) -> None:
    name = f"{socket.gethostname()}-4711-abcd"
    with redis_server.operator() as operator, connect(redis_server.url, name=name) as worker:
        worker.ping()
        operator.acl_setuser("default", enabled=True, commands=["-client|list"])
        with redis_server.client() as limited:
            assert Holders(limited, gone_after_s=0.0).disconnected() == []


def test_nobody_is_gone_because_redis_was(
    redis: Redis, redis_server: RedisServer, ledger: Ledger, held: str
) -> None:
    name = f"{socket.gethostname()}-4711-abcd"
    holders = Holders(redis, gone_after_s=0.1)
    with connect(redis_server.url, name=name) as worker:
        worker.ping()
        holders.disconnected()
    redis_server.stop()
    redis_server.start()

    # The first look after an outage, however long that was, blames nobody.
    assert holders.disconnected() == []
    assert ledger.renew(held, "token", lease_s=30.0)


def test_a_long_round_keeps_no_dead_holders_job_waiting(
    redis: Redis,
    redis_server: RedisServer,
    ledger: Ledger,
    held: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, is_hanging = threading.Event(), threading.Event()
    looks: list[bool] = []
    look = Holders.disconnected

    def counted(holders: Holders) -> list[LostJob]:
        looks.append(True)
        return look(holders)

    monkeypatch.setattr(Holders, "disconnected", counted)

    def hang(_reconciler: Reconciler) -> None:
        is_hanging.set()
        stop.wait(60)

    monkeypatch.setattr(Reconciler, "round", hang)
    settings = ReconcilerSettings(redis_url=redis_server.url, data_dir=data_dir)
    running = threading.Thread(target=Reconciler(settings).run, args=(stop,))
    running.start()
    try:
        assert is_hanging.wait(30)
        with connect(redis_server.url, name=f"{socket.gethostname()}-4711-abcd") as worker:
            worker.ping()
            before = len(looks)
            eventually(lambda: len(looks) > before + 1, "it is seen")
        eventually(
            lambda: (record := ledger.get(held)) is not None and record.attempt == 2,
            "it is delivered again",
        )
    finally:
        stop.set()
        running.join()
