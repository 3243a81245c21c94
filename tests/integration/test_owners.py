"""Two callers with keys on one service: neither learns anything of the other's jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message

from service.keys import KeyStore, Scope
from tests.integration.conftest import MakeClient, StartWorker, eventually
from tests.uploads import picture, tone


class Caller:
    """A client with a key of its own."""

    def __init__(self, client: TestClient, keys: KeyStore, *scopes: Scope) -> None:
        self.record, text = keys.create("caller", scopes=scopes or (Scope.READ, Scope.WRITE))
        self._client = client
        self._headers = {"Authorization": f"Bearer {text}"}

    def ask(self, method: str, path: str, **more: object):  # type: ignore[no-untyped-def]
        headers = {**self._headers, **dict(more.pop("headers", {}))}  # type: ignore[call-overload]
        return self._client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]

    def post(self, **headers: str):  # type: ignore[no-untyped-def]
        files = {"audio": ("a.wav", tone(0.4)), "image": ("i.jpg", picture())}
        return self.ask("POST", "/v1/talking-face", files=files, headers=headers)


@pytest.fixture
def keyed(make_client: MakeClient) -> TestClient:
    return make_client(require_keys=True, max_concurrent_jobs=2)


@pytest.mark.parametrize(
    ("method", "end"),
    [
        ("GET", ""),
        ("GET", "?wait=1"),
        ("GET", "/content"),
        ("HEAD", "/content"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ],
)
def test_a_foreign_job_is_as_good_as_none(
    keyed: TestClient, keys: KeyStore, method: str, end: str
) -> None:
    mine, yours = Caller(keyed, keys), Caller(keyed, keys)
    job = mine.post().json()
    foreign, absent = f"/v1/jobs/{job['id']}", f"/v1/jobs/{'0' * 32}"

    to_foreign, to_absent = (yours.ask(method, job + end) for job in (foreign, absent))

    assert to_foreign.status_code == to_absent.status_code == 404
    if method != "HEAD":
        # Nothing but the request's own id differs.
        told = [{**answer.json(), "request_id": ""} for answer in (to_foreign, to_absent)]
        assert told[0] == told[1]
        assert told[0]["code"] == "job_not_found"
    assert mine.ask("GET", foreign).json()["state"] == "queued"
    assert mine.ask("GET", foreign).json()["cancel_requested_at"] is None


def test_everyone_lists_their_own_jobs(keyed: TestClient, keys: KeyStore) -> None:
    mine, yours = Caller(keyed, keys), Caller(keyed, keys)
    job = mine.post().json()

    assert [listed["id"] for listed in mine.ask("GET", "/v1/jobs").json()["data"]] == [job["id"]]
    assert yours.ask("GET", "/v1/jobs").json()["data"] == []


def test_an_admin_sees_every_job(keyed: TestClient, keys: KeyStore) -> None:
    job = Caller(keyed, keys).post().json()
    admin = Caller(keyed, keys, Scope.ADMIN)

    assert admin.ask("GET", f"/v1/jobs/{job['id']}").status_code == 200


def test_the_same_idempotency_key_means_another_job_to_another_caller(
    keyed: TestClient, keys: KeyStore
) -> None:
    mine, yours = Caller(keyed, keys), Caller(keyed, keys)
    header = {"Idempotency-Key": "order-1"}

    first, again, other = mine.post(**header), mine.post(**header), yours.post(**header)

    assert again.json()["id"] == first.json()["id"] != other.json()["id"]
    # What was replayed took no place: there is one left of two.
    assert mine.post().status_code == 202
    assert mine.post().status_code == 429


def test_a_key_without_write_changes_nothing(keyed: TestClient, keys: KeyStore) -> None:
    reader = Caller(keyed, keys, Scope.READ)

    assert reader.post().status_code == 403
    assert reader.ask("POST", f"/v1/jobs/{'0' * 32}/cancel").status_code == 403
    assert reader.ask("DELETE", f"/v1/jobs/{'0' * 32}").status_code == 403
    assert reader.ask("GET", "/metrics").status_code == 403


def test_without_a_key_only_the_probes_answer(keyed: TestClient) -> None:
    absent = f"/v1/jobs/{'0' * 32}"

    for path in ("/v1/jobs", absent, f"{absent}/content", f"{absent}/events", "/metrics"):
        assert keyed.get(path).status_code == 401, path
    for method, path in (("DELETE", absent), ("POST", f"{absent}/cancel")):
        assert keyed.request(method, path).status_code == 401, path
    # Before the body is read, so not 422.
    assert keyed.post("/v1/talking-face").status_code == 401
    assert keyed.get("/healthz").status_code == 200
    assert keyed.get("/readyz").status_code == 503  # no worker, which is another matter


@pytest.mark.parametrize("key", ["", "tf_live_" + "0" * 16 + "_" + "0" * 64])
def test_an_upload_without_a_key_is_refused_before_it_is_read(keyed: TestClient, key: str) -> None:
    sent: list[Message] = []
    num_read = 0

    async def receive() -> Message:
        nonlocal num_read
        num_read += 1
        return {"type": "http.request", "body": bytes(2**16), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/talking-face",
        "query_string": b"",
        "server": ("203.0.113.9", 80),
        "headers": [
            (b"content-type", b"multipart/form-data; boundary=b"),
            (b"authorization", f"Bearer {key}".encode()),
        ],
    }
    asyncio.run(keyed.app(scope, receive, send))  # type: ignore[arg-type]

    assert sent[0]["status"] == 401
    assert num_read == 0


def test_the_place_of_a_cancelled_job_is_free(keyed: TestClient, keys: KeyStore) -> None:
    mine = Caller(keyed, keys)
    first, _second = mine.post().json(), mine.post()
    full = mine.post()
    mine.ask("POST", f"/v1/jobs/{first['id']}/cancel")

    assert (full.status_code, full.json()["code"]) == (429, "concurrency_limited")
    assert int(full.headers["retry-after"]) > 0
    assert mine.post().status_code == 202


def test_a_link_shows_the_video_to_whoever_has_it(
    keyed: TestClient, keys: KeyStore, start_worker: StartWorker
) -> None:
    mine = Caller(keyed, keys)
    start_worker()
    job = mine.post().json()
    own = f"/v1/jobs/{job['id']}"
    eventually(lambda: mine.ask("GET", own).json()["state"] == "succeeded", "the job ends")

    done = mine.ask("GET", own).json()
    link = done["links"]["content"]

    assert link == done["result"]["url"]
    assert "signature=" in link
    assert keyed.get(link).content[4:8] == b"ftyp"
    assert keyed.get(link, headers={"Range": "bytes=0-99"}).status_code == 206
    assert keyed.head(link).status_code == 200
    assert keyed.get(f"{own}/content").status_code == 401
    assert keyed.get(link[:-1] + ("0" if link[-1] != "0" else "1")).status_code == 401
    assert keyed.get(own + "?" + link.partition("?")[2]).status_code == 401
    with keyed.stream("GET", done["links"]["events"]) as stream:
        assert stream.status_code == 200

    assert mine.ask("DELETE", own).status_code == 204
    assert keyed.get(link).status_code == 404


def test_strangers_of_one_network_share_a_quota_and_no_other(
    make_app: Callable[..., FastAPI],
) -> None:
    app = make_app(host="0.0.0.0", allow_anonymous=True, max_concurrent_jobs=1)

    def post(address: str) -> int:
        files = {"audio": ("a.wav", tone(0.4)), "image": ("i.jpg", picture())}
        stranger = TestClient(app, client=(address, 5000))
        return int(stranger.post("/v1/talking-face", files=files).status_code)

    assert [post("203.0.113.9"), post("203.0.113.9"), post("203.0.113.10")] == [202, 429, 202]
    # An IPv6 customer has a whole /64.
    assert [post("2001:db8::1"), post("2001:db8::2"), post("2001:db8:0:1::1")] == [202, 429, 202]
