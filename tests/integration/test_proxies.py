"""What a proxy says about a request, and who may say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import RedisServer
from tests.integration.live_server import LiveServer, live_server
from tests.uploads import picture, tone


def statuses(server: LiveServer, value: str, count: int = 4) -> list[int]:
    """Reads as one client who claims another address each time."""
    with server.client() as client:
        return [
            client.get("/v1/jobs/0", headers={"X-Forwarded-For": value.format(n)}).status_code
            for n in range(count)
        ]


@pytest.mark.parametrize(
    ("trusted", "value", "expected"),
    [
        # Nobody is believed: all of them are the same caller.
        ((), "203.0.113.{}", [404, 404, 429, 429]),
        (("127.0.0.1",), "203.0.113.{}", [404, 404, 404, 404]),
        (("127.0.0.0/8",), "203.0.113.{}", [404, 404, 404, 404]),
        (("192.0.2.1",), "203.0.113.{}", [404, 404, 429, 429]),
        # The proxy adds the address that it sees at the end; what a client wrote before is nothing.
        (("127.0.0.1",), "203.0.113.{}, 198.51.100.7", [404, 404, 429, 429]),
    ],
)
def test_a_forwarded_address_counts_only_from_a_known_proxy(
    redis_server: RedisServer,
    data_dir: Path,
    trusted: tuple[str, ...],
    value: str,
    expected: list[int],
) -> None:
    options = {"allow_anonymous": True, "read_rate": "2/hour", "forwarded_allow_ips": trusted}
    with live_server(redis_server.url, data_dir, **options) as server:
        assert statuses(server, value) == expected


def test_uvicorns_own_variable_makes_nobody_a_proxy(
    redis_server: RedisServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    options = {"allow_anonymous": True, "read_rate": "2/hour"}
    with live_server(redis_server.url, data_dir, **options) as server:
        assert statuses(server, "203.0.113.{}") == [404, 404, 429, 429]


@pytest.mark.parametrize(("trusted", "scheme"), [((), "http"), (("127.0.0.1",), "https")])
def test_a_forwarded_scheme_counts_only_from_a_known_proxy(
    redis_server: RedisServer, data_dir: Path, trusted: tuple[str, ...], scheme: str
) -> None:
    with (
        live_server(redis_server.url, data_dir, forwarded_allow_ips=trusted) as server,
        server.client() as client,
    ):
        # The framework redirects to the address without the slash, in the scheme that it believes.
        answer = client.get("/healthz/", headers={"X-Forwarded-Proto": "https"})

    assert answer.headers["location"].startswith(f"{scheme}://")


def test_links_begin_with_the_root_path(redis_server: RedisServer, data_dir: Path) -> None:
    files = {"audio": ("a.wav", tone(0.5)), "image": ("i.jpg", picture())}
    with (
        live_server(redis_server.url, data_dir, root_path="/faces") as server,
        server.client() as client,
    ):
        answer = client.post("/v1/talking-face", files=files)
        # The proxy takes the path off.
        taken_off = answer.headers["location"].removeprefix("/faces")
        assert client.get(taken_off).json()["links"]["self"] == answer.headers["location"]
        assert answer.headers["location"].startswith("/faces/v1/jobs/")
