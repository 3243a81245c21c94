"""Who waits for a job over HTTP: long polls and streams of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis

from service.keys import KeyStore
from service.routers import events as events_router
from service.watch import JobWatch, WatchFullError
from tests.integration.conftest import RedisServer, StartWorker, eventually, new_record
from tests.integration.live_server import LiveServer, live_server
from tests.uploads import picture, tone
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.messages import FrameCount, JobFailure, Stage

TOKEN = "token"
FAILURE = JobFailure(code=ErrorCode.NO_FACE_FOUND, detail="No face.")


@pytest.fixture
def server(redis_server: RedisServer, data_dir: Path) -> Iterator[LiveServer]:
    with live_server(redis_server.url, data_dir) as server:
        yield server


@pytest.fixture
def client(server: LiveServer) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def job_id(client: httpx2.Client) -> str:
    return post(client)


def post(client: httpx2.Client, seconds: float = 0.5) -> str:
    files = {"audio": ("a.wav", tone(seconds)), "image": ("i.jpg", picture())}
    response = client.post("/v1/talking-face", files=files)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def claim(ledger: Ledger, job_id: str) -> None:
    assert ledger.claim(job_id, 1, TOKEN, worker="w", lease_s=60) is not None


class Stream:
    """A stream of events as a client reads it."""

    def __init__(self, response: httpx2.Response) -> None:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        self._lines = response.iter_lines()

    def next(self) -> dict[str, Any]:
        """The next event with a name."""
        event: dict[str, Any] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if not line and "event" in event:
                return event
            if name in ("id", "event"):
                event[name] = value
            elif name == "data":
                event["data"] = json.loads(value)
        return {"event": "end of stream"}

    def rest(self) -> list[dict[str, Any]]:
        """All events to the end."""
        return list(iter(self.next, {"event": "end of stream"}))


def watch(client: httpx2.Client, job_id: str, last_event_id: str | None = None) -> Any:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers)


def test_a_long_poll_answers_when_the_job_ends(
    server: LiveServer, client: httpx2.Client, ledger: Ledger, job_id: str
) -> None:
    def poll() -> httpx2.Response:
        with server.client() as own:
            return own.get(f"/v1/jobs/{job_id}", params={"wait": 60})

    # More than there are threads for requests: who waits holds none.
    with ThreadPoolExecutor(60) as pool:
        polls = [pool.submit(poll) for _ in range(60)]
        eventually(lambda: metric(client, "tf_watchers") == 60, "all of them wait")
        assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"
        claim(ledger, job_id)
        ledger.fail(job_id, TOKEN, FAILURE)

        states = {poll.result().json()["state"] for poll in polls}

    assert states == {"failed"}
    assert metric(client, "tf_watchers") == 0


def metric(client: httpx2.Client, name: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def test_a_long_poll_ends_with_its_time(client: httpx2.Client, job_id: str) -> None:
    response = client.get(f"/v1/jobs/{job_id}", params={"wait": 0.2})

    assert (response.status_code, response.json()["state"]) == (200, "queued")
    assert response.headers["retry-after"].isdecimal()


def test_a_long_poll_for_a_job_that_has_ended_does_not_wait(
    client: httpx2.Client, ledger: Ledger, job_id: str
) -> None:
    claim(ledger, job_id)
    ledger.fail(job_id, TOKEN, FAILURE)

    # The client's own patience is longer than this wait, so it proves nothing by itself; a wait
    # would show in the number of those who wait.
    assert client.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json()["state"] == "failed"


@pytest.mark.parametrize("wait", ["-1", "61", "soon"])
def test_a_wait_out_of_bounds_is_refused(client: httpx2.Client, job_id: str, wait: str) -> None:
    response = client.get(f"/v1/jobs/{job_id}", params={"wait": wait})

    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "wait")


def test_the_stream_tells_everything_and_ends_with_the_job(
    client: httpx2.Client, start_worker: StartWorker, job_id: str
) -> None:
    with watch(client, job_id) as response:
        stream = Stream(response)
        first = stream.next()
        start_worker(test_card_frame_ms=20)
        told = [first, *stream.rest()]

    assert [event["event"] for event in told[:2]] == ["state", "state"]
    assert [event["data"]["state"] for event in told[:2]] == ["queued", "running"]
    assert {event["event"] for event in told[2:-1]} == {"progress"}
    done = [event["data"]["frames"]["done"] for event in told if event["data"].get("frames")]
    assert done == sorted(done)
    assert done[-1] == 13
    assert told[-1]["event"] == "job"
    assert told[-1]["data"] == client.get(f"/v1/jobs/{job_id}").json()
    assert told[-1]["data"]["state"] == "succeeded"
    ids = [tuple(map(int, event["id"].split("-"))) for event in told]
    assert ids == sorted(set(ids))


def test_a_stream_is_resumed_behind_the_last_event(
    client: httpx2.Client, ledger: Ledger, job_id: str
) -> None:
    claim(ledger, job_id)
    for done in (1, 2, 3):
        frames = FrameCount(done=done, total=3)
        ledger.report(job_id, TOKEN, stage=Stage.GENERATING, frames=frames)
    with watch(client, job_id) as response:
        stream = Stream(response)
        seen = [stream.next() for _ in range(3)]

    with watch(client, job_id, seen[-1]["id"]) as response:
        stream = Stream(response)
        missed = [stream.next() for _ in range(2)]
        ledger.fail(job_id, TOKEN, FAILURE)
        last = stream.rest()

    assert [event["data"]["frames"]["done"] for event in [seen[-1], *missed]] == [1, 2, 3]
    assert [event["event"] for event in last] == ["job"]
    assert last[0]["data"]["error"]["code"] == "no_face_found"
    again = client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last[0]["id"]})
    assert (again.status_code, again.content) == (204, b"")


@pytest.mark.parametrize("known", ["", "nonsense", "0", "999999999999999999-0", "9" * 40 + "-0"])
def test_an_id_that_is_none_of_the_stream_starts_it_again(
    client: httpx2.Client, ledger: Ledger, job_id: str, known: str
) -> None:
    claim(ledger, job_id)
    ledger.fail(job_id, TOKEN, FAILURE)

    with watch(client, job_id, known) as response:
        told = Stream(response).rest()

    assert [event["event"] for event in told] == ["state", "state", "job"]


def test_a_job_whose_events_are_gone_is_told_all_the_same(
    client: httpx2.Client, ledger: Ledger, redis: Redis, job_id: str
) -> None:
    claim(ledger, job_id)
    ledger.fail(job_id, TOKEN, FAILURE)
    redis.delete(f"tf:{{j}}:events:{job_id}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_router, "_SILENCE_S", 0.1)

        with watch(client, job_id) as response:
            told = Stream(response).rest()

    assert [event["event"] for event in told] == ["job"]


def test_a_stream_survives_a_restart_of_redis(
    client: httpx2.Client, ledger: Ledger, redis_server: RedisServer, job_id: str
) -> None:
    with watch(client, job_id) as response:
        stream = Stream(response)
        assert stream.next()["data"]["state"] == "queued"
        redis_server.stop()
        redis_server.start()
        claim(ledger, job_id)
        ledger.fail(job_id, TOKEN, FAILURE)
        told = stream.rest()

    assert [event["event"] for event in told] == ["state", "job"]


def test_who_waits_for_a_job_that_is_deleted_is_told(
    server: LiveServer, client: httpx2.Client, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_router, "_SILENCE_S", 0.1)
    with server.client() as other, watch(other, job_id) as response:
        stream = Stream(response)
        stream.next()
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 204

        assert [event["event"] for event in stream.rest()] == ["deleted"]


def test_two_streams_of_one_job_tell_the_same(
    server: LiveServer, client: httpx2.Client, ledger: Ledger, job_id: str
) -> None:
    with server.client() as other, watch(client, job_id) as one, watch(other, job_id) as two:
        first, second = Stream(one), Stream(two)
        beginnings = [first.next(), second.next()]
        claim(ledger, job_id)
        ledger.fail(job_id, TOKEN, FAILURE)

        assert beginnings[0] == beginnings[1]
        assert first.rest() == second.rest()


def test_more_clients_than_connections_to_redis_may_follow_a_job(
    server: LiveServer, client: httpx2.Client, ledger: Ledger, job_id: str
) -> None:
    def follow() -> str:
        with server.client() as own, watch(own, job_id) as response:
            return str(Stream(response).rest()[-1]["event"])

    # More than a client of Redis opens connections by default.
    with ThreadPoolExecutor(120) as pool:
        followers = [pool.submit(follow) for _ in range(120)]
        eventually(lambda: metric(client, "tf_watchers") == 120, "all of them wait")
        claim(ledger, job_id)
        ledger.fail(job_id, TOKEN, FAILURE)

        assert {follower.result() for follower in followers} == {"job"}


def test_a_server_that_stops_lets_its_waiting_clients_go(
    server: LiveServer, client: httpx2.Client, job_id: str
) -> None:
    with server.client() as other, watch(client, job_id) as response:
        stream = Stream(response)
        stream.next()
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(other.get, f"/v1/jobs/{job_id}", params={"wait": 60})
            # A request that has only just connected is refused, not answered.
            eventually(lambda: metric(client, "tf_watchers") == 2, "both of them wait")
            server.stop()

            assert stream.rest() == []
            assert poll.result().json()["state"] == "queued"


def test_too_many_who_wait_are_sent_away(redis_server: RedisServer, data_dir: Path) -> None:
    with (
        live_server(redis_server.url, data_dir, max_watchers=1) as server,
        server.client() as client,
    ):
        job_id = post(client)
        with watch(client, job_id) as response:
            stream = Stream(response)
            stream.next()
            refused = client.get(f"/v1/jobs/{job_id}/events")
            polled = client.get(f"/v1/jobs/{job_id}", params={"wait": 60})

        assert (refused.status_code, refused.json()["code"]) == (429, "concurrency_limited")
        assert refused.headers["retry-after"].isdecimal()
        # A long poll that cannot wait is a short one.
        assert polled.json()["state"] == "queued"


def test_one_key_with_all_its_waiting_places_taken_locks_nobody_out(
    redis_server: RedisServer, data_dir: Path, keys: KeyStore, ledger: Ledger
) -> None:
    (mine, my_key), (yours, your_key) = keys.create("me"), keys.create("you")
    record = new_record().model_copy(update={"principal": mine.principal})
    other = new_record().model_copy(update={"id": "f" * 32, "principal": yours.principal})
    ledger.accept(record)
    ledger.accept(other)
    limits = {"require_keys": True, "max_watchers": 10, "max_watchers_per_caller": 3}
    with (
        live_server(redis_server.url, data_dir, **limits) as server,
        server.client(headers={"Authorization": f"Bearer {my_key}"}) as me,
        server.client(headers={"Authorization": f"Bearer {your_key}"}) as you,
        server.client() as link_holder,
        ExitStack() as streams,
    ):
        opened: list[Stream] = []
        link = me.get(f"/v1/jobs/{record.id}").json()["links"]["events"]
        for address in (f"/v1/jobs/{record.id}/events", f"/v1/jobs/{record.id}/events", link):
            opened_by = link_holder if address is link else me
            # Kept, because a stream that nobody holds is closed.
            opened.append(Stream(streams.enter_context(opened_by.stream("GET", address))))
            opened[-1].next()

        refused = [
            me.get(f"/v1/jobs/{record.id}/events"),
            link_holder.get(link),
        ]
        polled = me.get(f"/v1/jobs/{record.id}", params={"wait": 60})
        with you.stream("GET", f"/v1/jobs/{other.id}/events") as response:
            yours_first = Stream(response).next()

        assert [answer.status_code for answer in refused] == [429, 429]
        assert refused[0].json()["code"] == "concurrency_limited"
        assert refused[0].headers["retry-after"].isdecimal()
        assert polled.json()["state"] == "queued"
        assert yours_first["event"] == "state"
        streams.close()
        ledger.end_open(record.id, None)
        eventually(
            lambda: me.get(f"/v1/jobs/{record.id}/events").status_code == 200,
            "a place is free again",
        )


def test_places_are_not_given_twice_to_many_who_come_at_once(
    redis_server: RedisServer,
) -> None:
    async def come(watch: JobWatch, stay: asyncio.Event) -> bool:
        try:
            async with watch.subscribe("a" * 32, caller="me"):
                await stay.wait()
        except WatchFullError:
            return False
        return True

    async def all_at_once() -> list[bool]:
        watch = JobWatch(redis_server.url, max_waiting=100, max_waiting_per_caller=3)
        stay = asyncio.Event()
        tasks = [asyncio.create_task(come(watch, stay)) for _ in range(20)]
        await asyncio.sleep(0)
        assert watch.is_full("me") and not watch.is_full("you") and not watch.is_full(None)
        stay.set()
        came = await asyncio.gather(*tasks)
        assert not watch.is_full("me")
        await watch.aclose()
        return came

    assert sum(asyncio.run(all_at_once())) == 3
