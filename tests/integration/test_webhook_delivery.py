"""From the end of a job to its owner's server: ledger, reconciler, sender, TLS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis
from standardwebhooks import Webhook

from service.reconciler import Reconciler, ReconcilerSettings
from service.secret_file import InstallSecret
from service.webhooks import WebhookSender, webhook_secret
from tests.integration.conftest import RedisServer, eventually, new_record
from tests.integration.test_ledger import FAILURE
from tests.webhook_receiver import Receiver, respond
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
        is_allowed=lambda _address: True,  # where the receiver has to be
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
