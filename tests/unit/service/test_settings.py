"""Settings of the connection, as they are read from the environment."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from pydantic import ValidationError

from service.connections import ConnectionLimits
from service.descriptors import connections_within, descriptor_limit
from service.server import ApiConfig
from service.settings import ServiceSettings


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ServiceSettings:
    for name, value in variables.items():
        monkeypatch.setenv(f"TALKFACE_{name.upper()}", value)
    return ServiceSettings()


@pytest.mark.parametrize(
    ("text", "proxies"),
    [
        ("", ()),
        ("127.0.0.1", ("127.0.0.1",)),
        ("10.0.0.0/8, ::1 ,", ("10.0.0.0/8", "::1")),
        ("*", ("*",)),
    ],
)
def test_proxies_are_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, text: str, proxies: tuple[str, ...]
) -> None:
    settings = read(monkeypatch, forwarded_allow_ips=text)

    assert settings.forwarded_allow_ips == proxies
    assert ApiConfig(settings).proxy_headers is bool(proxies)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forwarded_allow_ips", "proxy.example"),
        ("forwarded_allow_ips", "10.0.0.1/8"),
        ("forwarded_allow_ips", "*,127.0.0.1"),
        ("root_path", "faces"),
        ("root_path", "/faces/"),
        ("root_path", "/"),
        ("processes", "0"),
        ("max_connections", "0"),
        ("header_timeout_s", "0"),
        ("max_header_bytes", "10"),
    ],
)
def test_what_could_not_work_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ValidationError, match=name):
        read(monkeypatch, **{name: value})


def test_the_servers_own_variables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setenv("WEB_CONCURRENCY", "7")

    config = ApiConfig(read(monkeypatch, root_path="/faces", processes="2"))

    assert (config.proxy_headers, config.forwarded_allow_ips) == (False, [])
    assert (config.root_path, config.workers) == ("/faces", 2)


def test_there_are_no_more_connections_than_descriptors_allow() -> None:
    assert [connections_within(limit) for limit in (2, 100, 1024, 20_000)] == [2, 75, 768, 19_744]

    few = ConnectionLimits.of(ServiceSettings(max_connections=3))
    many = ConnectionLimits.of(ServiceSettings(max_connections=10**9))

    assert few.max_connections == 3
    assert many.max_connections == connections_within(descriptor_limit())


def test_the_descriptor_limit_is_raised_as_far_as_may_be() -> None:
    code = "from service.descriptors import raise_descriptor_limit as r; print(r(), r())"

    told = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()

    assert told == ["200", "200"]
