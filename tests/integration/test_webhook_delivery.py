"""From the end of a job to its owner's server: ledger, reconciler, sender, TLS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from standardwebhooks import Webhook

from service.keys import KeyStore, Scope
from service.reconciler import Reconciler, ReconcilerSettings
from service.secret_file import InstallSecret
from service.webhooks import WebhookSender, webhook_secret
from tests.integration.conftest import MakeClient, RedisServer, eventually, new_record
from tests.integration.test_ledger import FAILURE
from tests.uploads import picture
from tests.webhook_receiver import NAME, Receiver, respond
from worker.contract.ledger import Ledger
from worker.contract.messages import JobRecord
from worker.contract.outbox import Outbox


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def settings(redis_server: RedisServer, data_dir: Path) -> ReconcilerSettings:
    return ReconcilerSettings(redis_url=redis_server.url, data_dir=data_dir)


@pytest.fixture
def reconciler(settings: ReconcilerSettings, receiver: Receiver) -> Reconciler:
    async def loopback(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    sender = WebhookSender(
        InstallSecret(settings.secret_path),
        resolve=loopback,
        is_allowed=lambda _host, _address: True,  # where the receiver has to be
        ssl_context=receiver.trust,
    )
    return Reconciler(settings, sender)


def ended(ledger: Ledger, url: str, principal: str = "me") -> JobRecord:
    """A job that has failed and wants to tell."""
    record = new_record().model_copy(
        update={
            "id": uuid4().hex,
            "callback_url": url,
            "principal": principal,
            "metadata": {"shot": "12"},
        }
    )
    record = ledger.accept(record)
    assert ledger.end_open(record.id, FAILURE)
    return record


def test_the_owner_is_told_once(
    ledger: Ledger,
    redis: Redis,
    receiver: Receiver,
    reconciler: Reconciler,
    settings: ReconcilerSettings,
) -> None:
    record = ended(ledger, receiver.url)

    reconciler.round()
    eventually(lambda: Outbox(redis).count() == 0, "the event is done")
    reconciler.round()

    ((headers, body),) = receiver.requests
    secret = webhook_secret(InstallSecret(settings.secret_path), "me")
    told = Webhook(secret).verify(body, headers)
    assert told["type"] == "job.failed"
    assert told["data"] == {"id": record.id, "object": "job", "metadata": {"shot": "12"}}
    assert headers["webhook-id"] == f"evt_{record.id}"


def test_a_receiver_that_is_down_is_told_later(
    ledger: Ledger, redis: Redis, receiver: Receiver, reconciler: Reconciler
) -> None:
    receiver.answer = lambda handler: respond(handler, 503)
    record = ended(ledger, receiver.url)
    outbox_entry = "tf:{j}:outbox"

    before = time.time()
    reconciler.round()
    eventually(lambda: len(receiver.requests) == 1, "the first try")
    # Hidden for 60 s while it is tried, then due 5 s after.
    eventually(
        lambda: 0 < (redis.zscore(outbox_entry, f"evt_{record.id}") or 0) - before < 40,
        "it is put off",
    )
    receiver.answer = lambda handler: respond(handler)
    redis.zadd(outbox_entry, {f"evt_{record.id}": time.time() - 1})
    reconciler.round()
    eventually(lambda: Outbox(redis).count() == 0, "the event is done")

    first, second = receiver.requests
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    assert json.loads(first[1]) == json.loads(second[1])


def test_an_inner_address_is_never_asked(
    ledger: Ledger, redis: Redis, receiver: Receiver, settings: ReconcilerSettings
) -> None:
    # The reconciler as it is deployed: the system's resolver, the rule of public addresses.
    ended(ledger, f"https://localhost:{receiver.port}/")

    Reconciler(settings).round()
    eventually(lambda: Outbox(redis).count() == 0, "the event is given up")

    assert receiver.requests == []


def test_a_deleted_job_tells_nobody(
    ledger: Ledger, redis: Redis, receiver: Receiver, reconciler: Reconciler
) -> None:
    record = ended(ledger, receiver.url)
    ledger.delete(record.id)

    reconciler.round()
    eventually(lambda: Outbox(redis).count() == 0, "nothing is left")

    assert receiver.requests == []


def test_an_inner_receiver_is_told_where_the_operator_allows_it(
    make_client: MakeClient,
    ledger: Ledger,
    redis: Redis,
    receiver: Receiver,
    settings: ReconcilerSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As deployed, but for the name server, which would not know our name.
    (tmp_path / "ca.pem").write_bytes(receiver.authority_pem)
    allowed = settings.model_copy(
        update={"webhook_allow": (NAME,), "webhook_ca_file": tmp_path / "ca.pem"}
    )

    async def loopback(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(
        WebhookSender.__init__,
        "__kwdefaults__",
        {
            **WebhookSender.__init__.__kwdefaults__,
            "resolve": loopback,
        },
    )
    record = ended(ledger, receiver.url, principal="anonymous")

    Reconciler(allowed).round()
    eventually(lambda: Outbox(redis).count() == 0, "the event is done")

    assert len(receiver.requests) == 1
    eventually(lambda: ledger.get(record.id).webhook is not None, "it is noted")  # type: ignore[union-attr]
    told = make_client().get(f"/v1/jobs/{record.id}").json()["webhook"]
    assert (told["state"], told["attempts"], told["status"]) == ("delivered", 1, 204)


def test_a_give_up_is_seen_and_sent_once_more(
    make_client: MakeClient,
    ledger: Ledger,
    redis: Redis,
    receiver: Receiver,
    reconciler: Reconciler,
) -> None:
    client = make_client()
    receiver.answer = lambda handler: respond(handler, 410)
    record = ended(ledger, receiver.url, principal="anonymous")
    path = f"/v1/jobs/{record.id}"
    assert client.get(path).json()["webhook"]["state"] == "waiting"

    reconciler.round()
    eventually(lambda: client.get(path).json()["webhook"]["state"] == "given_up", "it is told")
    told = client.get(path).json()["webhook"]
    assert (told["attempts"], told["status"], told["reason"]) == (1, 410, "gone")

    receiver.answer = lambda handler: respond(handler)
    again = client.post(f"{path}/webhook")
    assert (again.status_code, again.json()["webhook"]["state"]) == (202, "waiting")
    reconciler.round()
    eventually(lambda: client.get(path).json()["webhook"]["state"] == "delivered", "it is sent")

    first, second = receiver.requests
    assert first[0]["webhook-id"] == second[0]["webhook-id"]


def test_a_webhook_that_there_is_not_cannot_be_sent_again(
    make_client: MakeClient, ledger: Ledger
) -> None:
    client = make_client()
    waiting = ledger.accept(
        new_record().model_copy(
            update={"principal": "anonymous", "callback_url": "https://a.example"}
        )
    )

    answer = client.post(f"/v1/jobs/{waiting.id}/webhook")
    assert (answer.status_code, answer.json()["code"]) == (409, "webhook_not_available")
    assert "has ended" in answer.json()["detail"]
    assert client.post(f"/v1/jobs/{'0' * 32}/webhook").status_code == 404


def test_a_caller_reads_the_secret_of_its_webhooks(
    make_client: MakeClient, keys: KeyStore, settings: ReconcilerSettings
) -> None:
    record, text = keys.create("shop")
    _, reader = keys.create("reader", scopes=[Scope.READ])
    secret = InstallSecret(settings.secret_path)
    closed = make_client(require_keys=True)

    def ask(key: str) -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        return closed.get("/v1/webhook-secret", headers=headers)

    assert ask(text).json()["secret"] == webhook_secret(secret, record.id)
    assert ask(text).headers["cache-control"] == "no-store"
    assert ask(reader).status_code == 403
    assert make_client().get("/v1/webhook-secret").json()["secret"] == webhook_secret(
        secret, "anonymous"
    )
    assert make_client(allow_anonymous=True).get("/v1/webhook-secret").status_code == 403


def test_an_inner_number_is_refused_unless_it_is_allowed(make_client: MakeClient) -> None:
    form = {"callback_url": "https://10.1.2.3/hook", "seconds": "1"}
    files = {"image": ("i.jpg", picture())}

    refused = make_client().post("/v1/talking-face", data=form, files=files)
    accepted = make_client(webhook_allow="10.1.0.0/16").post(
        "/v1/talking-face", data=form, files=files
    )

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "callback_url")
    assert accepted.status_code == 202
