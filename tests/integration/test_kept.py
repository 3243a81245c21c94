"""Avatars, files and faces: kept once and used often, the caller's own, erased as promised."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from model.face.remembered_faces import RememberedFaces
from service.keys import KeyStore
from service.reconciler import Reconciler, ReconcilerSettings
from tests.films import H264, ffmpeg
from tests.integration.conftest import MakeClient, RedisServer, StartWorker, eventually
from tests.uploads import picture, tone
from worker.contract.artifact_folder import FolderStore
from worker.contract.artifacts import ArtifactStore
from worker.contract.asset_registry import MAX_TRIES, AssetRegistry
from worker.contract.assets import Asset, AssetKind, AssetState
from worker.contract.messages import ImageInput
from worker.contract.rebuild import rebuild_assets
from worker.contract.stored_bytes import bytes_of

PORTRAIT = Path(__file__).resolve().parents[2] / "examples" / "portrait.jpg"


@pytest.fixture
def store(data_dir: Path) -> ArtifactStore:
    return FolderStore(data_dir)


@pytest.fixture
def registry(redis: Redis) -> AssetRegistry:
    return AssetRegistry(redis)


def make(client: TestClient, path: str, headers: dict[str, str] | None = None, **parts: Any) -> Any:
    form = {
        name: (name if isinstance(value, bytes) else None, value) for name, value in parts.items()
    }
    return client.post(path, files=form or {"": (None, "")}, headers=headers)


def record_of(registry: AssetRegistry, asset_id: str) -> Asset:
    asset = registry.get(asset_id)
    assert asset is not None
    return asset


def test_a_kept_voice_and_a_kept_portrait_become_a_job(
    client: TestClient, store: ArtifactStore
) -> None:
    voice, portrait = tone(0.4), picture()
    file = make(client, "/v1/files", audio=voice).json()
    avatar = make(client, "/v1/avatars", image=portrait).json()

    job = make(client, "/v1/talking-face", avatar_id=avatar["id"], audio_id=file["id"], seed="3")
    sent = make(client, "/v1/talking-face", image=portrait, audio=voice).json()

    assert job.status_code == 202, job.text
    told = job.json()["input"]
    assert (told["audio_id"], told["avatar_id"]) == (file["id"], avatar["id"])
    assert told["audio"] == file["audio"]
    assert told["image"] == avatar["image"]
    # Everything that is kept may go: the job has files of its own.
    for path in (f"/v1/files/{file['id']}", f"/v1/avatars/{avatar['id']}"):
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404
    assert not store.names("assets")
    # And they are those that uploads would have become.
    for name in ("input.png", "speech.flac", "sound.flac"):
        with (
            store.local_copy(f"inputs/{job.json()['id']}/{name}") as ours,
            store.local_copy(f"inputs/{sent['id']}/{name}") as theirs,
        ):
            assert ours.read_bytes() == theirs.read_bytes()


def test_a_moved_voice_is_made_from_the_upload(client: TestClient) -> None:
    file = make(client, "/v1/files", audio=tone(0.4)).json()

    job = make(
        client, "/v1/talking-face", image=picture(), audio_id=file["id"], audio_offset_ms="100"
    ).json()

    assert job["input"]["audio"]["seconds"] == pytest.approx(0.5, abs=0.01)


def test_what_is_kept_goes_with_no_other_source(make_client: MakeClient, film_bytes: bytes) -> None:
    client = make_client(tts_url="http://127.0.0.1:1/v1/audio/speech")
    ids = {"avatar_id": "0" * 32, "audio_id": "0" * 32}
    others = {
        "image": (picture(), "avatar_id"),
        "video": (film_bytes, "avatar_id"),
        "audio": (tone(0.4), "audio_id"),
        "text": ("Hello", "text"),
        "seconds": ("2", "audio_id"),
    }

    for name, (value, field) in others.items():
        answer = make(client, "/v1/talking-face", **ids, **{name: value})
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_what_cannot_be_kept_or_used_is_told(client: TestClient, store: ArtifactStore) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/avatars", {"image": b"GIF87a"}, "unsupported_media_type"),
        ("/v1/avatars", {}, "invalid_options"),
        ("/v1/avatars", {"image": picture(), "video": picture()}, "invalid_options"),
        ("/v1/avatars", {"image": picture(), "seed": "3"}, "invalid_options"),
        ("/v1/files", {"audio": tone(0.05)}, "audio_too_short"),
        ("/v1/files", {"audio": picture()}, "unsupported_media_type"),
        ("/v1/talking-face", {"avatar_id": "0" * 32, "audio": tone(0.4)}, "avatar_not_found"),
        ("/v1/talking-face", {"audio_id": "0" * 32, "image": picture()}, "file_not_found"),
        ("/v1/talking-face", {"audio_id": "nonsense", "image": picture()}, "invalid_options"),
    ]

    for path, parts, code in wrong:
        answer = make(client, path, **parts).json()
        assert answer["code"] == code
        assert answer["errors"][0]["field"] in ("image", "video", "body", *parts)
    assert not store.names("assets")
    assert not store.names("inputs")


def test_a_file_of_the_operators_list_is_neither_kept_nor_used(
    make_client: MakeClient, tmp_path: Path
) -> None:
    refused = tmp_path / "refused.txt"
    refused.write_text("")
    client = make_client(refused_media=refused)
    file = make(client, "/v1/files", audio=tone(0.4)).json()
    refused.write_text(file["audio"]["sha256"] + "\n")

    again = make(client, "/v1/files", audio=tone(0.4))
    job = make(client, "/v1/talking-face", image=picture(), audio_id=file["id"])

    assert [answer.json()["code"] for answer in (again, job)] == ["media_refused"] * 2


def test_what_is_kept_is_its_owners_alone(make_client: MakeClient, keys: KeyStore) -> None:
    client = make_client(require_keys=True)
    headers = []
    for name in ("one", "other"):
        _, secret = keys.create(name)
        headers.append({"Authorization": f"Bearer {secret}"})
    own, foreign = headers
    avatar = make(client, "/v1/avatars", own, image=picture()).json()
    path = f"/v1/avatars/{avatar['id']}"

    assert client.get(path, headers=foreign).status_code == 404
    assert client.delete(path, headers=foreign).status_code == 404
    assert client.get("/v1/avatars", headers=foreign).json()["data"] == []
    job = make(client, "/v1/talking-face", foreign, avatar_id=avatar["id"], audio=tone(0.4))
    assert job.json()["code"] == "avatar_not_found"
    listed = client.get("/v1/avatars", headers=own).json()
    assert [one["id"] for one in listed["data"]] == [avatar["id"]]
    assert client.get(f"/v1/files/{avatar['id']}", headers=own).json()["code"] == "file_not_found"


def test_a_list_has_pages(client: TestClient) -> None:
    made = [make(client, "/v1/files", audio=tone(0.3)).json()["id"] for _ in range(3)]

    first = client.get("/v1/files", params={"limit": 2}).json()
    rest = client.get("/v1/files", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [one["id"] for one in first["data"] + rest["data"]] == made[::-1]
    assert rest["next_cursor"] is None
    assert client.get("/v1/files", params={"cursor": "nonsense"}).status_code == 422


def test_the_same_request_sent_again_keeps_one_thing(client: TestClient) -> None:
    key = {"Idempotency-Key": "one"}
    first = make(client, "/v1/files", key, audio=tone(0.4))

    again = make(client, "/v1/files", key, audio=tone(0.4))
    other = make(client, "/v1/files", key, audio=tone(0.5))
    # The same word at another address is another word.
    job = make(client, "/v1/talking-face", key, audio=tone(0.4), image=picture())

    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert other.json()["code"] == "idempotency_conflict"
    assert job.status_code == 202


def test_bytes_are_counted_until_they_are_erased(
    make_client: MakeClient, keys: KeyStore, redis: Redis
) -> None:
    client = make_client(require_keys=True)
    _, secret = keys.create("one", max_stored_bytes=30_000)
    headers = {"Authorization": f"Bearer {secret}"}
    file = make(client, "/v1/files", headers, audio=tone(0.4)).json()
    (share,) = (raw.decode() for raw in redis.hkeys("tf:{j}:stored"))  # type: ignore[union-attr]
    assert bytes_of(redis, share) == file["bytes"] > 0

    refused = make(client, "/v1/files", headers, audio=tone(0.9))
    client.delete(f"/v1/files/{file['id']}", headers=headers)
    taken = make(client, "/v1/files", headers, audio=tone(0.9))

    assert refused.json()["code"] == "quota_exceeded"
    assert taken.status_code == 201, taken.text


def test_the_reconciler_erases_what_is_over_and_what_is_nobodys(
    client: TestClient,
    redis_server: RedisServer,
    redis: Redis,
    registry: AssetRegistry,
    store: ArtifactStore,
    data_dir: Path,
) -> None:
    kept = make(client, "/v1/files", audio=tone(0.4)).json()
    short = make(client, "/v1/files", audio=tone(0.4), retention_s="60").json()
    lost = make(client, "/v1/files", audio=tone(0.4)).json()
    redis.delete(f"tf:{{j}}:asset:{lost['id']}")
    redis.zadd("tf:{j}:asset-expire", {short["id"]: 1.0})
    settings = ReconcilerSettings(
        redis_url=redis_server.url, data_dir=data_dir, orphan_after_s=0.001
    )

    Reconciler(settings).round()

    assert list(store.names("assets")) == [kept["id"]]
    assert client.get(f"/v1/files/{short['id']}").status_code == 404
    expires_at = record_of(registry, kept["id"]).expires_at
    assert expires_at is not None
    assert expires_at > datetime.now(UTC) + timedelta(days=1)
    lines = [path.read_text() for path in (data_dir / "audit").iterdir()]
    told = [json.loads(line) for text in lines for line in text.splitlines()]
    assert ("expired", short["id"]) in [(line["event"], line["job"]) for line in told]


def test_a_lost_registry_is_written_anew(
    client: TestClient, redis: Redis, registry: AssetRegistry, store: ArtifactStore
) -> None:
    file = make(client, "/v1/files", audio=tone(0.4)).json()
    before = record_of(registry, file["id"])
    redis.flushdb()

    assert rebuild_assets(store, registry) == 1
    assert rebuild_assets(store, registry) == 0
    after = record_of(registry, file["id"])
    assert after.model_copy(update={"stored_bytes": 0}) == before.model_copy(
        update={"stored_bytes": 0}
    )


def test_a_task_whose_holders_die_comes_again_and_then_fails(registry: AssetRegistry) -> None:
    image = ImageInput(width=64, height=64, format="png", bytes=1, sha256="a")
    asset = Asset(
        id="a" * 32,
        kind=AssetKind.AVATAR,
        state=AssetState.PREPARING,
        created_at=datetime.now(UTC),
        image=image,
    )
    registry.add(asset)

    for _ in range(MAX_TRIES):
        taken = registry.take("inspect")
        assert taken is not None
        assert registry.take("inspect") is None
        registry.let_go("inspect", asset.id)

    assert registry.take("inspect") is None
    failed = record_of(registry, asset.id)
    assert failed.failure is not None
    assert (failed.state, failed.failure.code.value) == (AssetState.FAILED, "internal_error")


def test_avatars_are_prepared_and_faces_found(
    client: TestClient,
    start_worker: StartWorker,
    registry: AssetRegistry,
    store: ArtifactStore,
    tmp_path: Path,
) -> None:
    """One inspector and one validator for all of it: they take seconds to start."""
    nobody = make(client, "/v1/faces", image=PORTRAIT.read_bytes())
    assert (nobody.status_code, nobody.json()["code"]) == (503, "not_ready")
    inspector = start_worker("worker.inspection")
    validator = start_worker("worker.validation")
    inspector.wait_for("worker_listening")
    validator.wait_for("worker_listening")

    # 1. faces of a picture; nothing of it stays
    faces = make(client, "/v1/faces", image=PORTRAIT.read_bytes()).json()
    assert [(face["index"], face["refused"]) for face in faces["faces"]] == [(0, None)]
    left, top, right, bottom = faces["faces"][0]["box"]
    assert 0 < left < right < 1 and 0 < top < bottom < 1
    assert make(client, "/v1/faces", image=picture()).json()["faces"] == []
    assert not store.names("assets")

    # 2. a portrait: its faces are the same, and are remembered for its jobs
    wait = {"Prefer": "wait=60"}
    avatar = make(client, "/v1/avatars", wait, image=PORTRAIT.read_bytes()).json()
    assert (avatar["state"], avatar["faces"]) == ("ready", faces["faces"])
    with store.local_copy(f"assets/{avatar['id']}/faces.npz") as path:
        assert len(RememberedFaces.load(path)) >= 1
    job = make(client, "/v1/talking-face", avatar_id=avatar["id"], audio=tone(0.4)).json()
    assert job["input"]["has_faces"] is True

    # 3. nobody in it: told, and not used
    empty = make(client, "/v1/avatars", wait, image=picture()).json()
    assert (empty["state"], empty["error"]["code"]) == ("failed", "no_face_found")
    refused = make(client, "/v1/talking-face", avatar_id=empty["id"], audio=tone(0.4))
    assert refused.json()["code"] == "no_face_found"

    # 4. a film of the portrait: decoded once, every frame looked at
    path, still = tmp_path / "talk.mp4", ("-loop", "1", "-framerate", "25", "-i", PORTRAIT)
    ffmpeg(*still, "-t", "0.6", "-vf", "scale=320:-2", *H264, path)
    talking = make(client, "/v1/avatars", video=path.read_bytes()).json()
    assert talking["state"] == "preparing"
    eventually(
        lambda: client.get(f"/v1/avatars/{talking['id']}").json()["state"] == "ready",
        "the film is prepared",
    )
    asset = record_of(registry, talking["id"])
    assert asset.video is not None and asset.video.num_frames
    options = {"avatar_id": talking["id"], "audio": tone(0.4)}
    plain = make(client, "/v1/talking-face", **options).json()
    assert plain["input"]["video"]["num_frames"] == asset.video.num_frames
    assert plain["input"]["pending"] is None
    # What depends on the film's own sound, or another rate, is made of the film as it was sent.
    longer = make(client, "/v1/talking-face", **options, video_longer="keep").json()
    assert longer["input"]["pending"]["files"] == ["audio", "video"]
    assert longer["input"]["has_faces"] is True
