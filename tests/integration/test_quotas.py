"""Quotas of bytes and of sound on a real Redis: exact, and nothing is lost with a killed process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis
from starlette.testclient import TestClient

from service.keys import KeyStore, Scope
from service.problems import ProblemError
from service.quotas import Quotas
from service.reconciler import Reconciler, ReconcilerSettings
from service.security import Principal
from tests.integration.conftest import MakeClient, RedisServer, new_record
from tests.integration.test_ledger import FAILURE, RESULT
from tests.uploads import picture, tone
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.stored_bytes import bytes_of

DAY = 86_400.0
NOON = 100 * DAY + DAY / 2


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(redis: Redis, clock: Clock) -> Quotas:
    return Quotas(redis, clock, longest_upload_s=100.0)


@pytest.fixture
def accept(ledger: Ledger, quotas: Quotas) -> Callable[..., str]:
    """Accept a job as the route does; its id."""

    def accept_job(
        principal: Principal, media_s: float = 0.0, *, upload: int = 0, stored: int = 0
    ) -> str:
        record = new_record().model_copy(update={"id": uuid4().hex, "principal": principal.id})
        with quotas.place(principal, record.id, upload) as place:
            place.charge(media_s)
            ledger.accept(record, share=principal.quota_id, stored_bytes=stored)
        return record.id

    return accept_job


def caller(name: str = "me", **limits: float) -> Principal:
    return Principal(id=name, scopes=frozenset({Scope.WRITE}), **limits)  # type: ignore[arg-type]


def refused(call: Callable[[], object]) -> ProblemError:
    with pytest.raises(ProblemError) as error:
        call()
    assert error.value.code is ErrorCode.QUOTA_EXCEEDED
    return error.value


# --- seconds of sound ---------------------------------------------------------------------------


def test_a_day_has_so_much_sound_and_the_next_as_much(
    accept: Callable[..., str], clock: Clock
) -> None:
    me = caller(max_media_s_a_day=100.0)
    accept(me, 60.0)
    accept(me, 40.0)

    error = refused(lambda: accept(me, 0.5))

    assert error.detail.startswith("Today's jobs have 100.0 of 100 seconds of sound")
    assert error.params == {"media_s_today": 100.0, "media_s": 0.5, "max_media_s_a_day": 100.0}
    assert error.headers["Retry-After"] == str(int(DAY / 2) + 1)
    accept(caller("you", max_media_s_a_day=100.0), 60.0)
    clock.now += DAY / 2
    accept(me, 100.0)


def test_sound_of_open_jobs_falls_when_a_job_ends(
    accept: Callable[..., str], ledger: Ledger
) -> None:
    me = caller(max_open_media_s=100.0)
    first = accept(me, 60.0)

    error = refused(lambda: accept(me, 41.0))
    assert error.params == {"open_media_s": 60.0, "media_s": 41.0, "max_open_media_s": 100.0}
    accept(me, 40.0)

    ledger.end_open(first, FAILURE)

    accept(me, 60.0)


def test_what_is_refused_uses_up_nothing(accept: Callable[..., str], quotas: Quotas) -> None:
    me = caller(max_media_s_a_day=100.0, max_open_media_s=90.0, max_jobs_a_day=2)

    def fail_after_charge() -> None:
        with quotas.place(me, "a") as place:
            place.charge(80.0)
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail_after_charge()
        refused(lambda: accept(me, 91.0))
        refused(lambda: accept(me, 101.0))

    accept(me, 90.0)


def test_charging_again_replaces_the_first_charge(quotas: Quotas, redis: Redis) -> None:
    me = caller(max_open_media_s=100.0, max_media_s_a_day=100.0)
    with quotas.place(me, "a") as place:
        place.charge(90.0)
        place.charge(100.0)
        refused(lambda: place.charge(101.0))
        assert redis.hget("tf:{j}:media-open:me", "a") == b"100.000000"


def test_a_killed_process_gives_everything_back(
    accept: Callable[..., str], quotas: Quotas, clock: Clock
) -> None:
    limits = {"max_open_media_s": 100.0, "max_media_s_a_day": 100.0, "max_jobs_a_day": 1}
    me = caller(max_stored_bytes=1000, **limits)
    clock.now = NOON + DAY / 2 - 1  # shortly before midnight
    killed = quotas.place(me, "a", 800)
    killed.__enter__().charge(80.0)  # and no exit: the process is gone

    with pytest.raises(ProblemError):
        accept(me, 30.0)
    clock.now += 100 + 1799
    refused(lambda: accept(me, 30.0))
    clock.now += 3
    accept(me, 100.0, upload=1000)
    clock.now = NOON  # the day of the killed one has its figures back
    accept(caller(**limits | {"max_open_media_s": 1000.0}), 100.0)


def test_places_that_another_release_freed_are_not_counted(
    accept: Callable[..., str], redis: Redis, ledger: Ledger
) -> None:
    me = caller(max_open_media_s=100.0)
    job_id = accept(me, 100.0)
    ledger.end_open(job_id, None)
    redis.zrem("tf:{j}:places:me", job_id)  # as 0.2.1 does, and nothing else

    accept(me, 100.0)


def test_sound_is_not_given_twice_to_many_at_once(accept: Callable[..., str]) -> None:
    me = caller(max_open_media_s=100.0)

    def try_once(_number: int) -> bool:
        try:
            accept(me, 25.0)
        except ProblemError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_once, range(32))) == 4


# --- bytes --------------------------------------------------------------------------------------


def test_files_and_uploads_on_their_way_fill_the_bytes(
    accept: Callable[..., str], quotas: Quotas, redis: Redis, ledger: Ledger
) -> None:
    me = caller(max_stored_bytes=1000)
    job_id = accept(me, upload=100, stored=600)

    error = refused(lambda: accept(me, upload=401))
    assert error.params == {"stored_bytes": 600, "upload_bytes": 401, "max_stored_bytes": 1000}
    assert int(error.headers["Retry-After"]) > 0
    with quotas.place(me, "a", 400):
        refused(lambda: accept(me, upload=1))
        accept(caller("you", max_stored_bytes=1000), upload=1000)

    ledger.set_stored_bytes(job_id, 1000)
    refused(lambda: accept(me))
    ledger.delete(job_id)
    assert bytes_of(redis, "me") == 0
    accept(me, upload=1000)


def test_bytes_follow_a_job_to_its_end_and_its_expiry(
    redis: Redis, ledger: Ledger, redis_server: RedisServer, data_dir: Path
) -> None:
    record = new_record().model_copy(update={"principal": "me", "retention_s": 1e6})
    ledger.accept(record, share="net-1", stored_bytes=5000)
    assert ledger.claim(record.id, 1, "t", worker="w", lease_s=30)
    ledger.succeed(record.id, "t", RESULT, {})
    settings = ReconcilerSettings(redis_url=redis_server.url, data_dir=data_dir)
    one = Reconciler(settings)

    one.round()
    assert bytes_of(redis, "net-1") == RESULT.bytes

    redis.zadd("tf:{j}:expire", {record.id: 1.0})
    one.round()
    assert bytes_of(redis, "net-1") == 0
    ledger.set_stored_bytes("f" * 32, 10)
    assert redis.exists("tf:{j}:stored", "tf:{j}:stored-jobs") == 0, "a job that is unknown"


# --- over HTTP ----------------------------------------------------------------------------------


@pytest.fixture
def keyed(make_client: MakeClient) -> TestClient:
    return make_client(require_keys=True, max_open_media_s=1.5, retention_s=1000.0)


def post(client: TestClient, key: str, **form: str) -> tuple[int, dict[str, object]]:
    answer = client.post(
        "/v1/talking-face",
        files={"audio": ("a.wav", tone(1.0)), "image": ("i.jpg", picture())},
        data=form,
        headers={"Authorization": f"Bearer {key}"},
    )
    return answer.status_code, answer.json()


def test_a_caller_is_told_which_quota_is_used_up(
    keyed: TestClient, keys: KeyStore, redis: Redis
) -> None:
    usual, generous = keys.create("a"), keys.create("b", max_open_media_s=60.0)
    small = keys.create("c", max_stored_bytes=1000, max_media_s_a_day=7.0)

    assert [post(keyed, usual[1])[0] for _ in range(2)] == [202, 429]
    status, told = post(keyed, usual[1])
    assert (status, told["code"]) == (429, "quota_exceeded")
    assert [post(keyed, generous[1])[0] for _ in range(2)] == [202, 202]
    assert post(keyed, small[1])[1]["code"] == "quota_exceeded"
    assert bytes_of(redis, usual[0].principal) > 1000


def test_a_job_may_be_kept_for_less_and_not_for_longer(
    keyed: TestClient, keys: KeyStore, ledger: Ledger
) -> None:
    _, key = keys.create("a", retention_s=60.0, max_open_media_s=60.0)

    kept = [post(keyed, key)[1], post(keyed, key, retention_s="7")[1]]
    status, told = post(keyed, key, retention_s="61")

    found = [ledger.get(str(job["id"])) for job in kept]
    assert [record.retention_s for record in found if record is not None] == [60.0, 7.0]
    assert (status, told["code"]) == (422, "invalid_options")
    assert "at most 60 s with this key" in str(told["detail"])
    assert "retention_s" not in str(kept[0]["input"]), "no option of the video"


def test_the_same_request_with_another_retention_is_another_request(client: TestClient) -> None:
    def send(**form: str) -> tuple[int, str]:
        answer = client.post(
            "/v1/talking-face",
            files={"audio": ("a.wav", tone(1.0)), "image": ("i.jpg", picture())},
            data=form,
            headers={"Idempotency-Key": "k"},
        )
        return answer.status_code, str(answer.json().get("code"))

    assert send(retention_s="60")[0] == 202
    assert send(retention_s="60")[0] == 202
    assert send(retention_s="61") == (422, "idempotency_conflict")
    assert send() == (422, "idempotency_conflict")
