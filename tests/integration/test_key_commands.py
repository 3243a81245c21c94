"""`talkface keys` on a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.keys import KeyStore, Scope
from tests.integration.conftest import RedisServer


def talkface_keys(
    redis_server: RedisServer, data_dir: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "TALKFACE" not in name}
    environment |= {
        "TALKFACE_REDIS_URL": redis_server.url,
        "TALKFACE_DATA_DIR": str(data_dir),
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, "-m", "talkface.keys", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_keys_are_made_listed_and_revoked(
    redis_server: RedisServer, keys: KeyStore, data_dir: Path
) -> None:
    made = talkface_keys(
        redis_server,
        data_dir,
        *("create", "the shop", "--scope", "read", "--days", "3", "--json"),
        *("--max-stored-bytes", "1000000", "--retention-s", "3600"),
        *("--max-media-s-a-day", "600", "--max-open-media-s", "60.5"),
    )
    told = json.loads(made.stdout)
    record = keys.authenticate(told["key"])

    assert record is not None
    assert record.scopes == {Scope.READ}
    assert record.expires_at is not None
    assert (record.max_stored_bytes, record.retention_s) == (1_000_000, 3600.0)
    assert (record.max_media_s_a_day, record.max_open_media_s) == (600.0, 60.5)
    assert told["webhook_secret"].startswith("whsec_")
    assert "sha256" not in told

    listed = talkface_keys(redis_server, data_dir, "list")
    assert record.id in listed.stdout and "the shop" in listed.stdout and "valid" in listed.stdout
    assert told["key"] not in listed.stdout

    assert talkface_keys(redis_server, data_dir, "revoke", record.id).returncode == 0
    assert keys.authenticate(told["key"]) is None
    (shown,) = json.loads(talkface_keys(redis_server, data_dir, "list", "--json").stdout)
    assert shown["revoked_at"] is not None


def test_a_key_like_another_shares_its_jobs_and_its_webhook_secret(
    redis_server: RedisServer, keys: KeyStore, data_dir: Path
) -> None:
    old = json.loads(talkface_keys(redis_server, data_dir, "create", "old", "--json").stdout)
    new = json.loads(
        talkface_keys(redis_server, data_dir, "create", "new", "--like", old["id"], "--json").stdout
    )

    assert new["principal"] == old["principal"] == old["id"] != new["id"]
    assert new["webhook_secret"] == old["webhook_secret"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("create", "x", "--env", "NO"), 2),
        (("create", "x", "--like", "0" * 16), 2),
        (("create", "x", "--scope", "all"), 2),
        (("revoke", "0" * 16), 2),
    ],
)
def test_a_wrong_word_is_told(
    redis_server: RedisServer, data_dir: Path, arguments: tuple[str, ...], status: int
) -> None:
    answer = talkface_keys(redis_server, data_dir, *arguments)

    assert answer.returncode == status
    assert answer.stderr and "Traceback" not in answer.stderr


def test_without_redis_the_command_says_so(redis_server: RedisServer, data_dir: Path) -> None:
    redis_server.stop()

    answer = talkface_keys(redis_server, data_dir, "list")

    assert answer.returncode == 40
    assert "Redis cannot be reached" in answer.stderr
