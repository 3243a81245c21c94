"""Webhooks against a real TLS server, and against names that lead inside."""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpcore2
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.secret_file import InstallSecret
from service.webhook_targets import (
    AllowedTargets,
    check_callback_url,
    check_target,
    is_public,
)
from service.webhooks import (
    RETRY_AFTER_S,
    Outcome,
    WebhookSender,
    retry_delay_s,
    webhook_secret,
)
from tests.webhook_receiver import NAME, Receiver, respond
from worker.contract.outbox import OutboxEvent

PUBLIC = "8.8.8.8"


def event(url: str) -> OutboxEvent:
    return OutboxEvent.model_validate(
        {
            "id": "evt_1",
            "job_id": "5f0c3b7e9d1a4c62a8e47b90c1d2e3f4",
            "type": "job.succeeded",
            "occurred_at": datetime(2026, 11, 21, 10, 0, tzinfo=UTC),
            "callback_url": url,
            "attempts": 0,
            # Where the outbox tells the owner, the sender is still told by its caller.
            **({"principal": "me"} if "principal" in OutboxEvent.model_fields else {}),
        }
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def secret(tmp_path: Path) -> InstallSecret:
    return InstallSecret(tmp_path / "key")


class Names:
    """A resolver that gives one answer after the other, and counts the questions."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return answer


class RecordedNetwork(httpcore2.AsyncNetworkBackend):
    """Writes down where a connection was wanted, and makes none."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    async def connect_tcp(  # type: ignore[no-untyped-def]
        self, host: str, port: int, *_options, **_more
    ) -> httpcore2.AsyncNetworkStream:
        self.wanted.append(host)
        raise httpcore2.ConnectError("no network here")


def sender_to(receiver: Receiver, secret: InstallSecret, **options: object) -> WebhookSender:
    """A sender that may reach loopback, where the receiver has to be."""
    settings = {
        "resolve": Names(["127.0.0.1"]),
        "is_allowed": lambda _host, _address: True,
        "ssl_context": receiver.trust,
        **options,
    }
    return WebhookSender(secret, **settings)  # type: ignore[arg-type]


# --- delivered ----------------------------------------------------------------------------------


def test_an_event_arrives_signed_for_its_caller_alone(
    receiver: Receiver, secret: InstallSecret
) -> None:
    delivery = sender_to(receiver, secret).send(event(receiver.url), principal="me")

    assert (delivery.outcome, delivery.status) == (Outcome.DELIVERED, 204)
    ((headers, body),) = receiver.requests
    assert headers["Host"] == f"{NAME}:{receiver.port}"
    assert headers["webhook-id"] == "evt_1"
    assert json.loads(body) == {
        "type": "job.succeeded",
        "timestamp": "2026-11-21T10:00:00+00:00",
        "data": {"id": "5f0c3b7e9d1a4c62a8e47b90c1d2e3f4", "object": "job", "metadata": {}},
    }
    assert Webhook(webhook_secret(secret, "me")).verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook_secret(secret, "you")).verify(body, headers)


def test_every_try_has_the_same_id_and_body(receiver: Receiver, secret: InstallSecret) -> None:
    sender = sender_to(receiver, secret)
    again = event(receiver.url).model_copy(update={"attempts": 3})

    sender.send(event(receiver.url), principal="me")
    sender.send(again, principal="me")

    first, second = receiver.requests
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    assert first[1] == second[1]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (299, Outcome.DELIVERED),
        (304, Outcome.RETRY),
        (400, Outcome.RETRY),
        (410, Outcome.GIVE_UP),
        (500, Outcome.RETRY),
    ],
)
def test_only_2xx_counts(
    receiver: Receiver, secret: InstallSecret, status: int, outcome: Outcome
) -> None:
    receiver.answer = lambda handler: respond(handler, status)

    delivery = sender_to(receiver, secret).send(event(receiver.url), principal="me")

    assert (delivery.outcome, delivery.status) == (outcome, status)


def test_a_redirect_is_not_followed(receiver: Receiver, secret: InstallSecret) -> None:
    receiver.answer = lambda handler: respond(handler, 302, Location=receiver.url)

    delivery = sender_to(receiver, secret).send(event(receiver.url), principal="me")

    assert (delivery.outcome, delivery.status) == (Outcome.RETRY, 302)
    assert len(receiver.requests) == 1


def test_a_receiver_that_never_ends_its_answer_is_left(
    receiver: Receiver, secret: InstallSecret
) -> None:
    left = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not left.is_set():
                handler.wfile.write(b"x" * 65_536)
        except OSError:
            left.set()

    receiver.answer = endless

    delivery = sender_to(receiver, secret).send(event(receiver.url), principal="me")

    assert delivery.outcome is Outcome.DELIVERED
    assert left.wait(30)


def test_a_receiver_that_never_answers_is_left(receiver: Receiver, secret: InstallSecret) -> None:
    done = threading.Event()
    receiver.answer = lambda _handler: done.wait(30) and None

    sender = sender_to(receiver, secret, timeout_s=0.5)
    delivery = sender.send(event(receiver.url), principal="me")
    done.set()

    assert (delivery.outcome, delivery.reason) == (Outcome.RETRY, "timeout")


def test_a_certificate_of_another_name_is_refused(
    receiver: Receiver, secret: InstallSecret
) -> None:
    url = receiver.url.replace(NAME, "other.example")

    delivery = sender_to(receiver, secret).send(event(url), principal="me")

    assert (delivery.outcome, delivery.reason) == (Outcome.RETRY, "unreachable")
    assert receiver.requests == []


def test_a_certificate_of_nobody_is_refused(receiver: Receiver, secret: InstallSecret) -> None:
    sender = sender_to(receiver, secret, ssl_context=None)

    assert sender.send(event(receiver.url), principal="me").reason == "unreachable"
    assert receiver.requests == []


def test_nobody_listens(receiver: Receiver, secret: InstallSecret) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://{NAME}:{unused.getsockname()[1]}/"

        delivery = sender_to(receiver, secret).send(event(url), principal="me")

    assert (delivery.outcome, delivery.reason) == (Outcome.RETRY, "unreachable")


def test_a_name_that_nobody_knows(receiver: Receiver, secret: InstallSecret) -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    delivery = sender_to(receiver, secret, resolve=unknown).send(
        event(receiver.url), principal="me"
    )

    assert (delivery.outcome, delivery.reason) == (Outcome.RETRY, "unresolved")


# --- names that lead inside ---------------------------------------------------------------------


def test_a_name_that_turns_inside_after_the_check_gains_nothing(secret: InstallSecret) -> None:
    """Rebinding: public for the check, inner for the connection."""
    names, network = Names([PUBLIC], ["127.0.0.1"]), RecordedNetwork()
    sender = WebhookSender(secret, resolve=names, network=network)

    delivery = sender.send(event(f"https://{NAME}/"), principal="me")

    assert names.asked == 1
    assert network.wanted == [PUBLIC]
    assert delivery.outcome is Outcome.RETRY


def test_a_name_that_turns_inside_between_two_tries_is_given_up(
    receiver: Receiver, secret: InstallSecret
) -> None:
    names, network = Names([PUBLIC], ["127.0.0.1"]), RecordedNetwork()
    sender = WebhookSender(secret, resolve=names, network=network, ssl_context=receiver.trust)

    sender.send(event(receiver.url), principal="me")
    second = sender.send(event(receiver.url), principal="me")

    assert (second.outcome, second.reason) == (Outcome.GIVE_UP, "forbidden_address")
    assert network.wanted == [PUBLIC]
    assert receiver.requests == []


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        [PUBLIC, "10.0.0.1"],
        ["10.0.0.1", PUBLIC],
        ["::ffff:169.254.169.254"],
        [],
    ],
)
def test_a_name_with_any_inner_address_is_given_up(
    secret: InstallSecret, answers: list[str]
) -> None:
    network = RecordedNetwork()
    sender = WebhookSender(secret, resolve=Names(answers), network=network)

    delivery = sender.send(event(f"https://{NAME}/"), principal="me")

    assert (delivery.outcome, delivery.reason) == (Outcome.GIVE_UP, "forbidden_address")
    assert network.wanted == []


def test_the_next_address_is_tried_when_one_does_not_answer(secret: InstallSecret) -> None:
    network = RecordedNetwork()
    answers = [PUBLIC, "1.1.1.1", "9.9.9.9", "8.8.4.4"]
    sender = WebhookSender(secret, resolve=Names(answers), network=network)

    sender.send(event(f"https://{NAME}/"), principal="me")

    assert network.wanted == answers[:3]


@pytest.mark.parametrize("url", [f"http://{NAME}/", "https://[::1", "nonsense"])
def test_an_address_that_was_stored_by_an_older_check_is_checked_again(
    secret: InstallSecret, url: str
) -> None:
    names = Names([PUBLIC])
    sender = WebhookSender(secret, resolve=names, network=RecordedNetwork())

    delivery = sender.send(event(url), principal="me")

    assert (delivery.outcome, delivery.reason) == (Outcome.GIVE_UP, "forbidden_url")
    assert names.asked == 0


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.255", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
        *("192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "192.0.2.1"),
        *("198.18.0.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1"),
        *("ff02::1", "fec0::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1"),
        *("::127.0.0.1", "100::1", "2606:4700::1111%eth0"),
    ],
)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_an_address_that_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "//hooks.example/",
        "hooks.example",
        "",
        "https://",
        "https:///path",
        "https://user:word@hooks.example/",
        "https://hooks.example@127.0.0.1/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://[hooks.example]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://hooks.example:0/",
        "https://hooks.example:65536/",
        "https://hooks.example:x/",
        "https://hooks.example/a b",
        "https://hooks.example/\r\nX-Evil: 1",
        "https://hooks.example\\@127.0.0.1/",
        "https://hooks.example/#part",
        "https://hoöks.example/",
        "https://-.example/",
        "https://hooks.example/" + "x" * 2048,
    ],
)
def test_an_address_that_no_webhook_goes_to(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|port|Port|URL"):
        check_target(check_callback_url(url), AllowedTargets())


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example",
        "https://hooks.example/a/b?c=d%20e&f=[1]",
        "HTTPS://Hooks.Example:8443/",
        "https://8.8.8.8/hook",
        "https://[2606:4700::1111]:443/hook",
        "https://xn--hoks-5qa.example/",
    ],
)
def test_an_address_that_a_webhook_may_go_to(url: str) -> None:
    assert check_callback_url(url) == url


def test_there_are_seven_tries_in_some_18_hours() -> None:
    delays = [retry_delay_s(attempts) for attempts in range(7)]

    assert delays == [*RETRY_AFTER_S, None]
    assert 17 * 3600 < sum(RETRY_AFTER_S) < 19 * 3600
