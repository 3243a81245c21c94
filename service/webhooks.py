"""Webhooks: tell a caller's server that a job has ended, and reach nothing else by it.

    address ──▶ https, no user, no port of ours        when the job is accepted (`webhook_targets`)
            ──▶ resolved once, every answer allowed    at each try (`_CheckedNetwork`)
            ──▶ connected to the checked answer, TLS for the name, no redirects, no proxy

A name that answers with a public address first and with an inner one later (rebinding) gains
nothing: what was checked is what is connected to. Signed after Standard Webhooks, with a secret
that each caller has alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpcore2
from standardwebhooks import Webhook

from service.secret_file import InstallSecret
from service.webhook_targets import AllowedTargets, IpAddress, check_callback_url
from worker.contract.logs import get_logger
from worker.contract.outbox import OutboxEvent

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# Seconds from a failed try to the next: with the first, at once, seven tries in about 18 hours.
RETRY_AFTER_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
_MAX_ANSWER_BYTES: Final = 4096
_MAX_ADDRESSES: Final = 3
_PUBLIC: Final = AllowedTargets()
_log = get_logger(__name__)


class Outcome(StrEnum):
    """What became of one try."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give_up"


@dataclass(frozen=True)
class Delivery:
    """One try: its outcome, the receiver's status if there was one, and a word about it."""

    outcome: Outcome
    status: int | None
    reason: str


class ForbiddenAddressError(Exception):
    """A name leads to an address that is neither public nor allowed."""


def retry_delay_s(attempts: int) -> float | None:
    """Seconds until the next try.

    Args:
        attempts: Tries before the one that just failed.

    Returns:
        None when there were enough.
    """
    return RETRY_AFTER_S[attempts] if attempts < len(RETRY_AFTER_S) else None


def trusted_authorities(ca_file: Path | None) -> ssl.SSLContext:
    """The public authorities, and those of a file.

    Raises:
        OSError: The file cannot be read, or has no certificate.
    """
    context = httpcore2.default_ssl_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


def webhook_secret(secret: InstallSecret, principal: str) -> str:
    """What a caller verifies signatures with, `whsec_...`; blocks on the disk the first time."""
    return "whsec_" + base64.b64encode(_webhook_key(secret, principal)).decode()


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, by the system's resolver."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class WebhookSender:
    """Sends events; used by the reconciler only, from as many threads as it likes.

    Args:
        secret: The installation's secret.
        timeout_s: Longest try, from the name's resolution to the last byte, in seconds.
        resolve: Asks for the addresses of a name.
        is_allowed: Which of them may be connected to, by host and address.
        network: What connects to an address.
        ssl_context: Whom to trust; by default the public authorities.
    """

    def __init__(
        self,
        secret: InstallSecret,
        *,
        timeout_s: float = 10.0,
        resolve: Resolve = resolve,
        is_allowed: Callable[[str, IpAddress], bool] = _PUBLIC.allow,
        network: httpcore2.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._secret = secret
        self._timeout_s = timeout_s
        self._network = _CheckedNetwork(resolve, is_allowed, network or httpcore2.AnyIOBackend())
        self._ssl_context = ssl_context or httpcore2.default_ssl_context()
        self._agent = f"talkface/{version('talkface')}"

    def send(
        self, event: OutboxEvent, *, principal: str, metadata: Mapping[str, str] | None = None
    ) -> Delivery:
        """Try once to deliver an event; never raises for what the receiver does.

        Args:
            event: The event. Its id and its body are the same in every try.
            principal: Owner of the job, whose secret signs.
            metadata: The caller's words for the job.

        Raises:
            SecretFileError: The installation's secret cannot be trusted.
            OSError: It cannot be read.
        """
        delivery = asyncio.run(self._try(event, *self._signed(event, principal, metadata or {})))
        _log.info(
            "webhook_tried",
            event_id=event.id,
            job_id=event.job_id,
            # Not the whole address: what follows the host is often a secret of the receiver.
            host=_host_of(event.callback_url),
            attempt=event.attempts + 1,
            outcome=delivery.outcome.value,
            status=delivery.status,
            reason=delivery.reason,
        )
        return delivery

    async def _try(self, event: OutboxEvent, body: bytes, headers: dict[str, str]) -> Delivery:
        try:
            url = check_callback_url(event.callback_url)
        except ValueError:
            return Delivery(Outcome.GIVE_UP, None, "forbidden_url")
        try:
            async with asyncio.timeout(self._timeout_s):
                return _judge(await self._post(url, body, headers))
        except TimeoutError:
            return Delivery(Outcome.RETRY, None, "timeout")
        except ForbiddenAddressError:
            return Delivery(Outcome.GIVE_UP, None, "forbidden_address")
        except socket.gaierror:
            return Delivery(Outcome.RETRY, None, "unresolved")
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
            return Delivery(Outcome.RETRY, None, "unreachable")
        except (OSError, UnicodeError):
            # A certificate that is not valid for the name is an OSError too.
            return Delivery(Outcome.RETRY, None, "unreachable")

    def _signed(
        self, event: OutboxEvent, principal: str, metadata: Mapping[str, str]
    ) -> tuple[bytes, dict[str, str]]:
        body = json.dumps(
            {
                "type": event.type,
                "timestamp": event.occurred_at.isoformat(),
                "data": {"id": event.job_id, "object": "job", "metadata": dict(metadata)},
            },
            separators=(",", ":"),
        )
        now = datetime.now(UTC)
        webhook = Webhook(_webhook_key(self._secret, principal))
        return body.encode(), {
            "Content-Type": "application/json",
            "User-Agent": self._agent,
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": webhook.sign(event.id, now, body),
        }

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer; of its body at most 4 kB are read."""
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=self._ssl_context, network_backend=self._network, retries=0
            ) as pool,
            pool.stream(
                "POST",
                url,
                headers=[*headers.items()],
                content=body,
            ) as response,
        ):
            num_bytes = 0
            async with contextlib.aclosing(response.aiter_stream()) as pieces:
                async for piece in pieces:
                    num_bytes += len(piece)
                    if num_bytes >= _MAX_ANSWER_BYTES:
                        break
            return int(response.status)


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, checks every answer, and connects to one of those very answers."""

    def __init__(
        self,
        resolve: Resolve,
        is_allowed: Callable[[str, IpAddress], bool],
        network: httpcore2.AsyncNetworkBackend,
    ) -> None:
        self._resolve = resolve
        self._is_allowed = is_allowed
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109, the library's word
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to an address of a host that may be told.

        Raises:
            ForbiddenAddressError: One of its addresses is neither public nor allowed.
        """
        answers = await self._resolve(host, port)
        addresses = [ipaddress.ip_address(answer) for answer in dict.fromkeys(answers)]
        # One inner address among public ones is a trick, not an accident.
        if not addresses or not all(self._is_allowed(host, address) for address in addresses):
            raise ForbiddenAddressError(host)
        failure: httpcore2.NetworkError | None = None
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except httpcore2.NetworkError as error:
                failure = error
        raise failure or httpcore2.ConnectError(host)


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _judge(status: int) -> Delivery:
    if 200 <= status < 300:
        return Delivery(Outcome.DELIVERED, status, "delivered")
    if status == 410:
        # Gone: how Standard Webhooks lets a receiver unsubscribe.
        return Delivery(Outcome.GIVE_UP, status, "gone")
    # Redirects too: where they lead was not checked.
    return Delivery(Outcome.RETRY, status, "refused")


def _webhook_key(secret: InstallSecret, principal: str) -> bytes:
    return secret.key_for(f"webhook:{principal}")
