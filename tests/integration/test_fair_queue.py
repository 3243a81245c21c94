"""Fair shares on a real Redis: who is next when several callers wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from redis import Redis

from tests.integration.conftest import new_record
from tests.integration.test_ledger import RESULT
from worker.contract.fair_queue import tags_key, time_key
from worker.contract.ledger import Ledger
from worker.contract.messages import JobRecord
from worker.contract.presence import ProcessKind
from worker.contract.queues import open_queue
from worker.contract.recovery import Recovery

QUEUE = "rq:queue:render"
Accept = Callable[..., JobRecord]


@pytest.fixture
def accept(ledger: Ledger) -> Accept:
    def accept_job(share: str, seconds: float = 1.0, preset: str = "balanced") -> JobRecord:
        record = new_record()
        audio = record.input.audio.model_copy(update={"seconds": seconds})
        options = record.input.options.model_copy(update={"preset": preset})
        job_input = record.input.model_copy(update={"audio": audio, "options": options})
        record = record.model_copy(update={"id": uuid4().hex, "input": job_input})
        return ledger.accept(record, share=share)

    return accept_job


def waiting(redis: Redis) -> list[str]:
    """Ids of the jobs in the order in which they are taken."""
    return [name.decode().split("_")[0] for name in redis.lrange(QUEUE, 0, -1)]


def take(redis: Redis) -> str:
    """As a worker of any release: from the left."""
    taken = redis.lpop(QUEUE)
    assert taken is not None
    return taken.decode().split("_")[0]


def ids(*records: JobRecord) -> list[str]:
    return [record.id for record in records]


def test_a_short_job_is_next_behind_thirty_two_long_ones(redis: Redis, accept: Accept) -> None:
    long = [accept("a", 600.0) for _ in range(32)]
    take(redis)

    short = accept("b", 5.0)

    assert waiting(redis) == ids(short, *long[1:])


def test_callers_with_equal_jobs_take_turns(redis: Redis, accept: Accept) -> None:
    a = [accept("a") for _ in range(3)]
    b = [accept("b") for _ in range(3)]

    assert waiting(redis) == ids(a[0], b[0], a[1], b[1], a[2], b[2])


def test_one_caller_is_served_in_order(redis: Redis, accept: Accept) -> None:
    records = [accept("a", seconds) for seconds in (9.0, 1.0, 5.0, 0.2, 7.0)]

    assert waiting(redis) == ids(*records)


def test_who_was_idle_gets_no_credit_for_it(redis: Redis, accept: Accept) -> None:
    a = [accept("a") for _ in range(20)]
    for _ in range(10):
        take(redis)

    b = [accept("b") for _ in range(10)]

    assert waiting(redis)[:4] == ids(a[10], b[0], a[11], b[1])
    assert waiting(redis)[-2:] == ids(a[19], b[9])


def test_cost_is_sound_times_the_measured_speed_of_the_preset(redis: Redis, accept: Accept) -> None:
    redis.hset("tf:{j}:speed", mapping={"quality": "10", "preview": "0.1"})
    slow = [accept("a", 2.0, "quality") for _ in range(2)]
    quick = [accept("b", 100.0, "preview") for _ in range(2)]

    assert waiting(redis) == ids(quick[0], slow[0], quick[1], slow[1])


def test_a_list_that_has_run_empty_is_forgotten(redis: Redis, accept: Accept) -> None:
    for _ in range(40):
        accept("a", 600.0)
    while redis.llen(QUEUE):
        take(redis)

    first = accept("a")
    second = accept("b")

    assert waiting(redis) == ids(first, second)
    assert redis.zcard(tags_key("render")) == 2
    assert redis.get(time_key("render")) == b"0"


def test_a_withdrawn_job_costs_its_caller_nothing(
    redis: Redis, ledger: Ledger, accept: Accept
) -> None:
    withdrawn = [accept("a", 600.0) for _ in range(32)]
    b = [accept("b", 10.0) for _ in range(2)]
    for record in withdrawn:
        ledger.request_cancel(record.id)

    a = accept("a", 10.0)

    assert waiting(redis) == ids(b[0], a, b[1])
    for record in (a, *b):
        ledger.request_cancel(record.id)
    assert redis.keys("tf:{j}:fair*") == []


def test_what_another_release_pushes_or_removes_does_no_harm(
    redis: Redis, ledger: Ledger, accept: Accept
) -> None:
    a = [accept("a", 600.0) for _ in range(3)]
    redis.rpush(QUEUE, "old_1")
    redis.lrem(QUEUE, 0, f"{a[1].id}_1")

    b = accept("b", 5.0)
    again = accept("a", 600.0)

    assert waiting(redis) == [b.id, a[0].id, a[2].id, "old", again.id]


def test_a_job_without_a_share_counts_for_its_principal(redis: Redis, ledger: Ledger) -> None:
    def accept(principal: str) -> JobRecord:
        changes = {"id": uuid4().hex, "principal": principal}
        return ledger.accept(new_record().model_copy(update=changes))

    a = [accept("a") for _ in range(2)]
    b = accept("b")
    redis.hdel(f"tf:{{j}}:job:{b.id}", "preset")

    assert waiting(redis) == ids(a[0], b, a[1])


def test_what_is_handed_back_goes_to_the_front_and_what_is_passed_on_to_the_end(
    redis: Redis, ledger: Ledger, accept: Accept
) -> None:
    a = [accept("a", 600.0) for _ in range(4)]
    for _ in a[:2]:
        take(redis)
    assert ledger.claim(a[0].id, 1, "token", worker="w", lease_s=30)

    assert ledger.hand_back(a[0].id, "token")
    assert ledger.pass_on(a[1].id, 1)
    b = accept("b", 5.0)

    assert waiting(redis) == ids(a[0], b, a[2], a[3], a[1])


def test_inspected_jobs_are_placed_among_the_renders(
    redis: Redis, ledger: Ledger, accept: Accept
) -> None:
    a = [accept("a", 600.0) for _ in range(3)]
    ledger.presence.beat(ProcessKind.INSPECTOR, "i")
    first, second = accept("b", 5.0), accept("c", 5.0)
    assert ledger.queue_position(first) == 0, "no render stands before it"
    assert ledger.queue_position(a[0]) == 0

    open_queue(redis, "inspect").pop_job_id()
    assert ledger.claim_waiting(first.id, 1, "i", lease_s=30)
    assert ledger.pass_inspection(first.id, "i", None)
    ledger.presence.sign_off(ProcessKind.INSPECTOR, "i")
    assert Recovery(redis).unattended() == 1

    assert waiting(redis) == ids(first, second, *a)
    seen = [ledger.get(record.id) for record in (first, second, *a)]
    assert [record and ledger.queue_position(record) for record in seen] == [0, 1, 2, 3, 4]


def test_an_estimate_follows_the_fair_order(redis: Redis, ledger: Ledger, accept: Accept) -> None:
    ledger.presence.beat(ProcessKind.WORKER, "w")
    measured = accept("a")
    take(redis)
    ledger.claim(measured.id, 1, "t", worker="w", lease_s=30)
    ledger.succeed(measured.id, "t", RESULT, {"generating": 2.0})
    long = [accept("a", 100.0) for _ in range(8)]
    short = accept("b")

    found = [ledger.get(record.id) for record in (short, long[-1])]
    assert found[0] is not None and found[1] is not None
    first, last = ledger.eta_s(found[0]), ledger.eta_s(found[1])
    assert first is not None and last is not None and first < last
    assert open_queue(redis, "render").count == 9


@dataclass
class Model:
    """The same scheme in plain Python."""

    list: list[str] = field(default_factory=list)
    tags: dict[str, tuple[float, str]] = field(default_factory=dict)
    now: float = 0.0

    def push(self, name: str, share: str, cost: float) -> None:
        if not self.list:
            self.tags, self.now = {}, 0.0
        own = [tag for other, (tag, owner) in self.tags.items() if owner == share]
        finish = max([self.now, *own]) + cost
        place = next((i for i, n in enumerate(self.list) if self.tags[n][0] > finish), None)
        self.list.insert(len(self.list) if place is None else place, name)
        self.tags[name] = (finish, share)

    def pop(self) -> str:
        name = self.list.pop(0)
        self.now = max(self.now, self.tags.pop(name)[0])
        return name

    def withdraw(self, name: str) -> None:
        self.list.remove(name)
        del self.tags[name]


def test_many_random_steps_agree_with_the_model(
    redis: Redis, ledger: Ledger, accept: Accept
) -> None:
    chance, model = random.Random(7), Model()
    for _ in range(400):
        step = chance.random()
        if step < 0.5 or not model.list:
            share, seconds = chance.choice("abcd"), chance.choice([0.25, 1.0, 3.5, 60.0, 600.0])
            model.push(accept(share, seconds).id, share, seconds)
        elif step < 0.9:
            assert take(redis) == model.pop()
        else:
            name = chance.choice(model.list)
            model.withdraw(name)
            ledger.request_cancel(name)
        assert waiting(redis) == model.list
    tags = [redis.zscore(tags_key("render"), f"{n}_1 {model.tags[n][1]}") for n in model.list]
    assert tags == sorted(tags, key=lambda tag: tag or 0.0)
    assert tags == [model.tags[name][0] for name in model.list]
