"""The operators' commands of the API's image at work, on a real Redis, with nothing of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.keys import KeyReader
from tests.image_folder import make_image_folder, run_in_image
from tests.integration.conftest import RedisServer
from worker.contract.environment import process_name
from worker.contract.presence import Presence, ProcessKind


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    make_image_folder("api", folder)
    return folder


def redis_finding(
    image: Path, url: str, status: int, data_dir: Path, **variables: str
) -> dict[str, Any]:
    variables = {"TALKFACE_REDIS_URL": url, "TALKFACE_DATA_DIR": str(data_dir), **variables}
    ended = run_in_image(image, "talkface.doctor", "--json", **variables)
    assert ended.returncode == status, ended.stdout + ended.stderr
    found: dict[str, Any] = {each["name"]: each for each in json.loads(ended.stdout)}["redis"]
    return found


def test_doctor_is_content_with_a_redis_that_keeps_everything(
    image: Path, redis_server: RedisServer, data_dir: Path
) -> None:
    assert redis_finding(image, redis_server.url, 0, data_dir)["state"] == "ok"


def test_doctor_tells_that_a_redis_may_forget(
    image: Path, redis_server: RedisServer, redis: Redis, data_dir: Path
) -> None:
    redis.config_set("appendonly", "no")

    found = redis_finding(image, redis_server.url, 5, data_dir)

    assert found["state"] == "missing"
    assert "appendonly is no, not yes" in found["found"]
    assert "TALKFACE_REQUIRE_DURABLE_REDIS" in found["remedy"]
    accepted = {"TALKFACE_REQUIRE_DURABLE_REDIS": "false"}
    found = redis_finding(image, redis_server.url, 0, data_dir, **accepted)
    assert found["state"] == "optional"


def test_keys_are_made_and_brought_back_in_the_image(
    image: Path, redis_server: RedisServer, redis: Redis, data_dir: Path
) -> None:
    variables = {"TALKFACE_REDIS_URL": redis_server.url, "TALKFACE_DATA_DIR": str(data_dir)}
    made = run_in_image(image, "talkface.keys", "create", "the shop", "--json", **variables)
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["key"]
    redis.flushall()

    rebuilt = run_in_image(image, "talkface.rebuild", **variables)

    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "keys: 1 brought back" in rebuilt.stdout
    assert KeyReader(redis).authenticate(key) is not None


def test_the_health_check_asks_for_the_sign_of_life_of_its_own_reconciler(
    image: Path, redis_server: RedisServer, redis: Redis
) -> None:
    def status() -> int:
        variables = {"TALKFACE_REDIS_URL": redis_server.url}
        return run_in_image(image, "service.reconciler_health", **variables).returncode

    presence = Presence(redis)
    presence.beat(ProcessKind.RECONCILER, "another-host-1-abc")
    assert status() == 1
    presence.beat(ProcessKind.RECONCILER, process_name())
    assert status() == 0
