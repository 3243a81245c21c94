"""API keys on a real Redis: who is let in, what they may do, how many jobs they may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from fastapi import FastAPI
from redis import Redis
from starlette.testclient import TestClient

from service.dependencies import AdminDep, PrincipalDep, WriterDep
from service.keys import KEYS_HASH, KeyStore, Scope
from service.problems import ProblemError
from service.quotas import Quotas
from service.security import Principal
from tests.integration.conftest import RedisServer
from worker.contract.errors import ErrorCode

OPEN = "tf:{j}:open"


@pytest.fixture
def keyed(make_app: Callable[..., FastAPI]) -> Iterator[TestClient]:
    """The application where keys are needed, with a route for each scope."""
    app = make_app(require_keys=True, max_concurrent_jobs=5, write_rate="3/hour")

    @app.get("/as/reader")
    def reader(principal: PrincipalDep) -> dict[str, object]:
        return {"id": principal.id, "most": principal.max_concurrent_jobs}

    @app.post("/as/writer")
    def writer(principal: WriterDep) -> str:
        return principal.id

    @app.get("/as/admin")
    def admin(principal: AdminDep) -> str:
        return principal.id

    with TestClient(app) as client:
        yield client


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


# --- keys ---------------------------------------------------------------------------------------


def test_a_key_is_known_again_and_its_secret_is_nowhere(redis: Redis, keys: KeyStore) -> None:
    record, text = keys.create("the shop", env="test")

    assert re.fullmatch(r"tf_test_[0-9a-f]{16}_[0-9a-f]{64}", text)
    assert keys.authenticate(text) == record
    assert record.principal == record.id
    secret = text.rpartition("_")[2]
    stored = redis.hgetall(KEYS_HASH)
    assert secret.encode() not in b"".join([*stored.keys(), *stored.values()])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
        lambda text: text.replace("tf_live_", "tf_test_"),
        lambda text: text.upper(),
        lambda text: text.rpartition("_")[0] + "_" + "0" * 64,
        lambda text: "tf_live_" + "0" * 16 + "_" + text.rpartition("_")[2],
        lambda text: text + "\n",
    ],
)
def test_what_is_not_the_key_is_not_let_in(keys: KeyStore, spoil: Callable[[str], str]) -> None:
    _, text = keys.create("the shop")

    assert keys.authenticate(spoil(text)) is None


def test_a_key_ends_when_it_is_revoked_or_expires(keys: KeyStore) -> None:
    record, revoked = keys.create("revoked")
    _, expired = keys.create("expired", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    _, valid = keys.create("valid", expires_at=datetime.now(UTC) + timedelta(days=1))

    assert keys.authenticate(revoked) is not None
    assert keys.revoke(record.id)

    assert keys.authenticate(revoked) is None
    assert keys.authenticate(expired) is None
    assert keys.authenticate(valid) is not None
    assert [key.name for key in keys.all()] == ["revoked", "expired", "valid"]
    ended_at = keys.all()[0].revoked_at
    assert keys.revoke(record.id) and keys.all()[0].revoked_at == ended_at
    assert not keys.revoke("0" * 16)


@pytest.mark.parametrize("wrong", [{"env": "Live"}, {"env": ""}, {"principal": "a:b"}])
def test_a_key_with_a_word_that_is_none_is_refused(keys: KeyStore, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        keys.create("the shop", **wrong)  # type: ignore[arg-type]

    assert keys.all() == []


# --- let in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nonsense", "Basic dGY6dGY="])
def test_without_a_key_nothing_is_served(keyed: TestClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}

    for answer in (
        keyed.get("/as/reader", headers=headers),
        keyed.post("/as/writer", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_key_may_do_what_its_scopes_say(keyed: TestClient, keys: KeyStore) -> None:
    def statuses(*scopes: Scope) -> list[int]:
        headers = bearer(keys.create("x", scopes=scopes)[1])
        return [
            keyed.get("/as/reader", headers=headers).status_code,
            keyed.post("/as/writer", headers=headers).status_code,
            keyed.get("/as/admin", headers=headers).status_code,
        ]

    assert statuses(Scope.READ) == [200, 403, 403]
    assert statuses(Scope.WRITE) == [403, 200, 403]
    assert statuses(Scope.READ, Scope.WRITE) == [200, 200, 403]
    assert statuses(Scope.ADMIN) == [200, 200, 200]


def test_a_revoked_key_is_out_at_once(keyed: TestClient, keys: KeyStore) -> None:
    record, text = keys.create("x")
    before = keyed.get("/as/reader", headers=bearer(text))
    keys.revoke(record.id)
    after = keyed.get("/as/reader", headers=bearer(text))

    assert (before.status_code, after.status_code) == (200, 401)


def test_a_key_that_replaces_another_has_its_jobs_and_its_own_quota(
    keyed: TestClient, keys: KeyStore
) -> None:
    old, _ = keys.create("old")
    _, text = keys.create("new", principal=old.principal, max_concurrent_jobs=2)

    assert keyed.get("/as/reader", headers=bearer(text)).json() == {"id": old.id, "most": 2}


def test_rates_are_counted_for_each_caller(keyed: TestClient, keys: KeyStore) -> None:
    mine, yours = bearer(keys.create("a")[1]), bearer(keys.create("b")[1])

    answers = [keyed.post("/as/writer", headers=mine).status_code for _ in range(4)]

    assert answers == [200, 200, 200, 429]
    assert keyed.post("/as/writer", headers=yours).status_code == 200
    assert keyed.get("/as/reader", headers=mine).status_code == 200


def test_without_redis_nobody_is_let_in(
    keyed: TestClient, keys: KeyStore, redis_server: RedisServer
) -> None:
    _, text = keys.create("x")
    redis_server.stop()

    answer = keyed.get("/as/reader", headers=bearer(text))

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


# --- quotas -------------------------------------------------------------------------------------


def caller(concurrent: int | None = None, a_day: int | None = None, name: str = "me") -> Principal:
    return Principal(
        id=name,
        scopes=frozenset({Scope.WRITE}),
        max_concurrent_jobs=concurrent,
        max_jobs_a_day=a_day,
    )


def accept(redis: Redis, quotas: Quotas, principal: Principal) -> str:
    """Take a place as a route does, with a job that the ledger then has open."""
    job_id = uuid4().hex
    with quotas.place(principal, job_id):
        redis.zadd(OPEN, {job_id: 1.0})
    return job_id


def test_a_place_is_free_again_when_its_job_ends(redis: Redis) -> None:
    quotas, me = Quotas(redis), caller(concurrent=2)
    first = accept(redis, quotas, me)
    accept(redis, quotas, me)

    with pytest.raises(ProblemError) as refused:
        accept(redis, quotas, me)
    assert refused.value.code is ErrorCode.CONCURRENCY_LIMITED
    assert refused.value.params == {"max_concurrent_jobs": 2}
    assert int(refused.value.headers["Retry-After"]) > 0
    accept(redis, quotas, caller(concurrent=2, name="you"))

    redis.zrem(OPEN, first)

    accept(redis, quotas, me)


def test_a_place_is_free_again_when_its_job_never_came(redis: Redis) -> None:
    quotas, me = Quotas(redis), caller(concurrent=1, a_day=2)

    def refuse() -> None:
        with quotas.place(me, "a"):
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            refuse()

    accept(redis, quotas, me)


def test_a_job_that_was_accepted_in_spite_of_an_error_keeps_its_place(redis: Redis) -> None:
    quotas, me = Quotas(redis), caller(concurrent=1)

    def answer_lost() -> None:
        with quotas.place(me, "a"):
            redis.zadd(OPEN, {"a": 1.0})
            raise ConnectionError

    with pytest.raises(ConnectionError):
        answer_lost()

    with pytest.raises(ProblemError):
        accept(redis, quotas, me)


def test_a_place_whose_process_was_killed_is_free_after_a_while(redis: Redis) -> None:
    now = [1_000_000.0]
    quotas, me = Quotas(redis, clock=lambda: now[0]), caller(concurrent=1)
    killed = quotas.place(me, "a")
    killed.__enter__()  # and no exit: the process is gone

    with pytest.raises(ProblemError):
        accept(redis, quotas, me)
    now[0] += 3600 + 1801

    accept(redis, quotas, me)


def test_a_day_has_so_many_jobs_and_the_next_as_many(redis: Redis) -> None:
    now = [100 * 86_400.0 + 80_000]
    quotas, me = Quotas(redis, clock=lambda: now[0]), caller(a_day=2)
    accept(redis, quotas, me)
    accept(redis, quotas, me)

    with pytest.raises(ProblemError) as refused:
        accept(redis, quotas, me)
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert refused.value.headers["Retry-After"] == "6401"
    now[0] += 6401

    accept(redis, quotas, me)


def test_places_are_not_given_twice_to_many_at_once(redis: Redis) -> None:
    quotas, me = Quotas(redis), caller(concurrent=4)

    def try_once(_number: int) -> bool:
        try:
            accept(redis, quotas, me)
        except ProblemError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(try_once, range(32)))

    assert sum(taken) == 4


def test_who_has_no_quota_leaves_no_trace(redis: Redis) -> None:
    accept(redis, Quotas(redis), caller())

    assert redis.keys("tf:{j}:places:*") == redis.keys("tf:{j}:day:*") == []
