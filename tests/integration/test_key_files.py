"""API keys outlive Redis: their files, what the sweep completes, what a rebuild brings back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from redis import Redis, RedisError
from starlette.testclient import TestClient

from service.erasure import MediaEraser
from service.key_files import KeyFiles
from service.key_recovery import KeyRecovery, RestoredKeys
from service.keys import KEYS_HASH, KeyStore
from service.sweep import Sweeper
from tests.integration.conftest import RedisServer, StartWorker, eventually
from tests.uploads import picture, tone
from worker.contract.artifact_folder import FolderStore
from worker.contract.artifacts import ArtifactStore, StorageFullError
from worker.contract.asset_registry import AssetRegistry
from worker.contract.ledger import Ledger
from worker.contract.media import MediaIndex
from worker.contract.recovery import Recovery


@pytest.fixture
def store(data_dir: Path) -> ArtifactStore:
    return FolderStore(data_dir)


@pytest.fixture
def keys(redis: Redis, store: ArtifactStore) -> KeyStore:
    return KeyStore(redis, store)


@pytest.fixture
def files(store: ArtifactStore) -> KeyFiles:
    return KeyFiles(store)


@pytest.fixture
def key_recovery(redis: Redis, store: ArtifactStore) -> KeyRecovery:
    return KeyRecovery(redis, store)


@pytest.fixture
def sweeper(
    redis: Redis, ledger: Ledger, store: ArtifactStore, key_recovery: KeyRecovery
) -> Sweeper:
    recovery = Recovery(redis)
    eraser = MediaEraser(store, ledger, MediaIndex(redis))
    return Sweeper(
        store,
        ledger,
        recovery,
        key_recovery,
        eraser,
        AssetRegistry(redis),
        orphan_after_s=0.0,
        record_kept_s=0.0,
    )


@pytest.fixture
def full_store(data_dir: Path) -> ArtifactStore:
    """On a volume that has no room, as far as the store knows."""
    return FolderStore(data_dir, min_free_bytes=2**63)


def change_record(redis: Redis, key_id: str, **fields: object) -> None:
    """What another version of the service may have written."""
    raw = redis.hget(KEYS_HASH, key_id)
    assert isinstance(raw, bytes)
    redis.hset(KEYS_HASH, key_id, json.dumps({**json.loads(raw), **fields}))


def rebuild(redis_server: RedisServer, data_dir: Path) -> str:
    """`talkface rebuild`; what it says."""
    environment = {**os.environ, "TALKFACE_REDIS_URL": redis_server.url}
    command = [sys.executable, "-m", "talkface", "rebuild", "--data-dir", str(data_dir)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


# --- the files ----------------------------------------------------------------------------------


def test_a_new_key_has_a_file_without_its_secret(
    keys: KeyStore, files: KeyFiles, data_dir: Path
) -> None:
    record, text = keys.create("the shop")

    path = data_dir / "artifacts" / "keys" / record.id / "key.json"
    assert path.read_text() == record.model_dump_json()
    assert text.rpartition("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert files.ids() == [record.id]
    assert files.revoked_at(record.id) is None


def test_a_key_that_cannot_be_written_to_a_file_is_none(
    redis: Redis, full_store: ArtifactStore
) -> None:
    with pytest.raises(StorageFullError):
        KeyStore(redis, full_store).create("the shop")

    assert redis.exists(KEYS_HASH) == 0


def test_a_key_that_redis_refuses_leaves_a_file_that_opens_nothing(
    redis_server: RedisServer, keys: KeyStore, files: KeyFiles
) -> None:
    redis_server.stop()

    with pytest.raises(RedisError):
        keys.create("the shop")

    assert len(files.ids()) == 1


def test_a_revocation_is_a_second_file(keys: KeyStore, files: KeyFiles) -> None:
    record, _ = keys.create("the shop")
    assert keys.revoke(record.id)
    ended_at = keys.all()[0].revoked_at

    assert files.record(record.id) == record.model_dump_json()
    assert files.revoked_at(record.id) == ended_at is not None
    assert keys.revoke(record.id)
    assert files.revoked_at(record.id) == ended_at


def test_a_full_volume_does_not_keep_a_key_alive(
    redis: Redis, keys: KeyStore, full_store: ArtifactStore, sweeper: Sweeper, files: KeyFiles
) -> None:
    record, text = keys.create("the shop")

    with pytest.raises(StorageFullError):
        KeyStore(redis, full_store).revoke(record.id)

    assert keys.authenticate(text) is None
    assert not files.is_revoked(record.id)
    sweeper.sweep()
    assert files.revoked_at(record.id) == keys.all()[0].revoked_at


@pytest.mark.parametrize("key_id", ["", "0" * 16, "../../secrets", "A" * 16])
def test_a_key_that_is_none_is_not_revoked(keys: KeyStore, files: KeyFiles, key_id: str) -> None:
    assert not keys.revoke(key_id)
    assert files.ids() == []


# --- the sweep ----------------------------------------------------------------------------------


def test_keys_of_an_older_version_get_their_files(
    redis: Redis, keys: KeyStore, sweeper: Sweeper, store: ArtifactStore, files: KeyFiles
) -> None:
    valid, _ = keys.create("valid")
    ended, _ = keys.create("ended")
    keys.revoke(ended.id)
    revoked_at = keys.all()[1].revoked_at
    store.delete_prefix("keys")

    sweeper.sweep()

    assert files.record(valid.id) == valid.model_dump_json()
    assert files.revoked_at(valid.id) is None
    assert files.revoked_at(ended.id) == revoked_at is not None


def test_a_revocation_that_did_not_reach_redis_does_at_the_next_sweep(
    keys: KeyStore, sweeper: Sweeper, files: KeyFiles
) -> None:
    record, text = keys.create("the shop")
    ended_at = datetime(2026, 1, 1, tzinfo=UTC)
    # As far as a process comes that is killed between the two.
    files.write_revocation(record.id, ended_at)
    assert keys.authenticate(text) is not None

    sweeper.sweep()

    assert keys.authenticate(text) is None
    assert keys.all()[0].revoked_at == ended_at


def test_the_sweep_believes_no_other_redis_and_erases_no_key(
    redis: Redis, keys: KeyStore, sweeper: Sweeper, files: KeyFiles
) -> None:
    record, _ = keys.create("ours")
    sweeper.sweep()
    redis.flushall()
    redis.hset(KEYS_HASH, "f" * 16, record.model_copy(update={"id": "f" * 16}).model_dump_json())

    sweeper.sweep()

    assert files.ids() == [record.id]
    assert files.record(record.id) == record.model_dump_json()


def test_an_unreadable_key_does_not_stop_the_sweep(
    redis: Redis, keys: KeyStore, sweeper: Sweeper, store: ArtifactStore, files: KeyFiles
) -> None:
    redis.hset(KEYS_HASH, "0" * 16, "{")
    redis.hset(KEYS_HASH, b"\xff", b"\xff")
    record, _ = KeyStore(redis, store).create("the shop")
    store.delete_prefix("keys")

    sweeper.sweep()

    assert files.ids() == [record.id]


# --- restored -----------------------------------------------------------------------------------


def test_keys_come_back_as_they_were(
    redis: Redis, keys: KeyStore, key_recovery: KeyRecovery
) -> None:
    _, valid = keys.create("valid", max_concurrent_jobs=3)
    ended, revoked = keys.create("revoked")
    _, expired = keys.create("expired", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    keys.revoke(ended.id)
    before = keys.all()
    redis.flushall()

    assert key_recovery.restore() == RestoredKeys(restored=3, revoked=1)

    assert keys.all() == before
    assert keys.authenticate(valid) is not None
    assert keys.authenticate(revoked) is keys.authenticate(expired) is None
    assert key_recovery.restore() == RestoredKeys(known=3, revoked=1)


def test_what_redis_has_stays_but_a_revocation_wins(
    redis: Redis, keys: KeyStore, key_recovery: KeyRecovery, files: KeyFiles
) -> None:
    kept, _ = keys.create("old name")
    ended, text = keys.create("ended")
    change_record(redis, kept.id, name="new name")
    files.write_revocation(ended.id, datetime.now(UTC))

    assert key_recovery.restore() == RestoredKeys(known=2, revoked=1)

    assert [key.name for key in keys.all()] == ["new name", "ended"]
    assert keys.authenticate(text) is None


def test_a_key_that_redis_has_lost_can_be_revoked(
    redis: Redis, keys: KeyStore, key_recovery: KeyRecovery
) -> None:
    record, text = keys.create("the shop")
    redis.flushall()

    assert keys.revoke(record.id)

    key_recovery.restore()
    assert keys.authenticate(text) is None


@pytest.mark.parametrize("text", ["", "{", '{"id": "0"}'])
def test_a_revocation_that_cannot_be_read_is_one(
    keys: KeyStore, key_recovery: KeyRecovery, data_dir: Path, text: str
) -> None:
    record, key = keys.create("the shop")
    (data_dir / "artifacts" / "keys" / record.id / "revoked.json").write_text(text)

    assert key_recovery.restore() == RestoredKeys(known=1, revoked=1)

    assert keys.authenticate(key) is None


def test_files_that_are_no_keys_are_counted(
    redis: Redis, key_recovery: KeyRecovery, keys: KeyStore, data_dir: Path
) -> None:
    other = keys.create("the shop")[0]
    folder = data_dir / "artifacts" / "keys"
    for key_id, text in (("1" * 16, "{"), ("2" * 16, other.model_dump_json())):
        (folder / key_id).mkdir()
        (folder / key_id / "key.json").write_text(text)
    (folder / ("3" * 16)).mkdir()
    (folder / "notes").mkdir()

    assert key_recovery.restore() == RestoredKeys(known=1, unreadable=3)
    assert [key.id for key in keys.all()] == [other.id]


def test_fields_of_a_newer_version_are_ignored_and_kept(
    redis: Redis, keys: KeyStore, sweeper: Sweeper, store: ArtifactStore, files: KeyFiles
) -> None:
    record, text = keys.create("the shop")
    change_record(redis, record.id, colour={"of": "tomorrow"})
    store.delete_prefix("keys")

    assert keys.authenticate(text) is not None
    sweeper.sweep()
    redis.flushall()
    KeyRecovery(redis, store).restore()
    keys.revoke(record.id)

    stored = json.loads(redis.hget(KEYS_HASH, record.id))  # type: ignore[arg-type]
    assert stored["colour"] == {"of": "tomorrow"}
    assert stored["revoked_at"] is not None
    assert json.loads(files.record(record.id) or "")["colour"] == {"of": "tomorrow"}


# --- the whole service --------------------------------------------------------------------------


def lose_everything(redis_server: RedisServer) -> None:
    with redis_server.operator() as redis:
        redis.flushall()


def start_with_an_empty_folder(redis_server: RedisServer) -> None:
    redis_server.stop()
    for path in redis_server.socket.parent.glob("appendonly*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    redis_server.start()


@pytest.mark.parametrize("lose", [lose_everything, start_with_an_empty_folder])
def test_after_a_rebuild_callers_have_their_jobs_again(
    redis_server: RedisServer,
    data_dir: Path,
    keys: KeyStore,
    make_app: Callable[..., FastAPI],
    start_worker: StartWorker,
    lose: Callable[[RedisServer], None],
) -> None:
    owner, mine = keys.create("mine")
    _, yours = keys.create("yours")
    _, like_mine = keys.create("like mine", principal=owner.principal)
    revoked_key, revoked = keys.create("revoked", principal=owner.principal)
    keys.revoke(revoked_key.id)
    with TestClient(make_app(require_keys=True)) as client:

        def get(path: str, key: str):  # type: ignore[no-untyped-def]
            return client.get(path, headers={"Authorization": f"Bearer {key}"})

        start_worker()
        job = client.post(
            "/v1/talking-face",
            files={"audio": ("a.wav", tone(0.4)), "image": ("i.jpg", picture())},
            headers={"Authorization": f"Bearer {mine}"},
        ).json()
        path = f"/v1/jobs/{job['id']}"
        eventually(lambda: get(path, mine).json()["state"] == "succeeded", "the job ends")
        video = get(f"{path}/content", mine).content
        lose(redis_server)
        assert get("/v1/jobs", mine).status_code == 401

        told = rebuild(redis_server, data_dir)

        assert "keys: 4 brought back, 0 known already, 0 without" in told
        assert "revoked among them: 1" in told
        assert "jobs: 1 with their video, 0 queued again" in told
        for key in (mine, like_mine):
            assert [each["id"] for each in get("/v1/jobs", key).json()["data"]] == [job["id"]]
            assert get(f"{path}/content", key).content == video
        assert get("/v1/jobs", yours).json()["data"] == []
        assert get(path, yours).status_code == get(f"{path}/content", yours).status_code == 404
        assert get("/v1/jobs", revoked).status_code == 401
