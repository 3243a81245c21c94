"""The whole road: a job is drawn, labelled and signed, and anybody can ask what a file is."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from redis import Redis
from starlette.testclient import TestClient

from model.media.label import Label
from model.media.video_reader import read_frames
from service.audit import AuditLog
from tests.films import ffmpeg
from tests.integration.conftest import MakeClient, StartWorker, WorkerProcess, eventually
from tests.signer import SignerProcess, shared_signer
from tests.uploads import picture, tone
from worker.contract.live_films import is_piece

PostJob = Callable[..., str]
PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.jpg"


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client(signer_socket=shared_signer().socket)


def video_of(client: TestClient, job_id: str) -> tuple[dict[str, Any], bytes]:
    """The job once it has succeeded, and its file."""
    job: dict[str, Any] = {}

    def has_ended() -> bool:
        job.update(client.get(f"/v1/jobs/{job_id}?wait=5").json())
        return job["state"] in ("succeeded", "failed")

    eventually(has_ended, "the job ends")
    assert job["state"] == "succeeded", job["error"]
    return job, client.get(f"/v1/jobs/{job_id}/content").content


def verify(client: TestClient, data: bytes) -> dict[str, Any]:
    response = client.post("/v1/verify", content=data)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_video_of_the_service_is_ours_until_a_byte_is_changed(
    client: TestClient, start_worker: StartWorker, post: PostJob, tmp_path: Path
) -> None:
    start_worker()
    job, data = video_of(client, post(consent="stated"))

    assert job["input"]["consent"] == "stated"
    assert job["result"]["label"] == "always"
    assert job["timings_s"]["signing"] > 0
    found = verify(client, data)
    assert (found["verdict"], found["consent"]) == ("ours", "stated")
    assert found["manifest"] == job["result"]["credentials"]["manifest"]
    assert found["watermark"] == "not_looked_for"
    # The test card is an algorithm without weights.
    assert found["source_types"] == ["algorithmicMedia"]

    changed = bytearray(data)
    changed[-100] ^= 1
    assert verify(client, bytes(changed))["verdict"] == "tampered"

    (tmp_path / "ours.mp4").write_bytes(data)
    described = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "ours.mp4"))
    assert described[0] == job["result"]["num_frames"]
    shown = next(iter(read_frames(tmp_path / "ours.mp4", fps=None)))
    label = Label(shown.shape[1], shown.shape[0])
    x0, y0, x1, y1 = label.box_xyxy
    assert shown[y0:y1, x0:x1].min() < 60 and shown[y0:y1, x0:x1].max() > 180


def test_a_label_can_be_left_out_and_be_in_another_language(
    client: TestClient, start_worker: StartWorker, post: PostJob, tmp_path: Path
) -> None:
    start_worker()
    frames = []
    for options in ({"label": "off"}, {"label_language": "de"}, {"label": "intro"}):
        job, data = video_of(client, post(0.4, **options))
        assert job["result"]["label"] == options.get("label", "always")
        (tmp_path / "film.mp4").write_bytes(data)
        frames.append(next(iter(read_frames(tmp_path / "film.mp4", fps=None))).astype(int))

    off, german, english = frames
    height = off.shape[0]
    assert np.abs(german - off).max() > 100 and np.abs(german - english).max() > 60
    # What the label does not cover is the same to within the encoder's loss.
    assert np.abs(german - off)[height // 2 :].mean() < 1


def _box(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), name) + payload


_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
HOSTILE = {
    "nothing of a film": b"\x00" * 4096,
    "text": b"<html>not a film</html>" * 50,
    "a box beyond the end": struct.pack(">I4s", 0xFFFFFFF0, b"ftyp") + b"isom" * 8,
    "boxes in boxes": _box(b"ftyp", b"isom\0\0\0\0isom") + b"\x00\x00\x00\x08moov" * 2000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_told_and_harms_nobody(client: TestClient, kind: str) -> None:
    response = client.post("/v1/verify", content=HOSTILE[kind])

    if response.status_code == 200:
        assert response.json()["verdict"] == "none"
    else:
        assert response.status_code == 422
        assert response.json()["code"] == "undecodable_media"
    assert client.get("/healthz").status_code == 200


def test_rubbish_in_the_place_of_credentials_is_tampering(client: TestClient) -> None:
    rubbish = _box(b"uuid", _C2PA + b"\0\0\0\0manifest\0" + b"\0" * 8 + b"\xff" * 5000)
    data = _box(b"ftyp", b"isom\0\0\0\0isom") + rubbish + _box(b"mdat", b"x" * 100)

    assert verify(client, data)["verdict"] == "tampered"


def test_an_empty_or_too_large_file_is_refused(make_client: MakeClient) -> None:
    client = make_client(signer_socket=shared_signer().socket, max_video_bytes=1000)

    empty, large = (client.post("/v1/verify", content=data) for data in (b"", b"x" * 1001))

    assert (empty.status_code, empty.json()["code"]) == (422, "undecodable_media")
    assert (large.status_code, large.json()["code"]) == (413, "file_too_large")


def test_without_a_signer_nobody_can_say_whose_a_file_is(make_client: MakeClient) -> None:
    response = make_client().post("/v1/verify", content=b"x")

    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert response.headers["retry-after"]


@pytest.fixture
def own_signer(tmp_path: Path) -> Iterator[SignerProcess]:
    # A path that is too long for the name of a unix socket.
    folder = tmp_path / ("long-" * 20)
    folder.mkdir()
    signer = SignerProcess(folder)
    yield signer
    signer.kill()


def test_a_signer_that_is_killed_loses_nothing(
    make_client: MakeClient, start_worker: StartWorker, own_signer: SignerProcess
) -> None:
    client = make_client(signer_socket=own_signer.socket)
    worker = start_worker(signer_socket=own_signer.socket, lease_s=1)
    files = {"audio": ("a.wav", tone(0.4)), "image": ("i.jpg", picture())}
    job_id = client.post("/v1/talking-face", files=files).json()["id"]
    worker.wait_for("signer_away")
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "running"

    own_signer.start()

    job, data = video_of(client, job_id)
    assert job["attempt"] == 1
    assert verify(client, data)["verdict"] == "ours"
    # Killed with its socket left behind, and started again: the same keys.
    own_signer.kill()
    again = client.post("/v1/talking-face", files=files).json()["id"]
    eventually(lambda: worker.log().count('"signer_away"') == 2, "the worker waits again")
    own_signer.start()
    assert video_of(client, again)[0]["attempt"] == 1
    assert verify(client, data)["verdict"] == "ours"


def test_a_signer_that_refuses_fails_the_job_and_publishes_nothing(
    make_client: MakeClient, start_worker: StartWorker, own_signer: SignerProcess, data_dir: Path
) -> None:
    own_signer.settings |= {"timestamp_url": "http://127.0.0.1:9", "timestamp_required": True}
    own_signer.start()
    client = make_client(signer_socket=own_signer.socket)
    start_worker(signer_socket=own_signer.socket)
    files = {"audio": ("a.wav", tone(0.4)), "image": ("i.jpg", picture())}

    job_id = client.post("/v1/talking-face", files=files).json()["id"]

    def has_failed() -> bool:
        return bool(client.get(f"/v1/jobs/{job_id}?wait=5").json()["state"] == "failed")

    eventually(has_failed, "the job fails")
    job = client.get(f"/v1/jobs/{job_id}").json()
    # A time stamp may be had a moment later, so it was tried twice.
    assert (job["error"]["code"], job["attempt"]) == ("signing_failed", 2)
    # Pieces that were watched are never signed; the reconciler, which does not run here, erases them.
    files = list(data_dir.glob("artifacts/results/**/*.mp4"))
    assert [path for path in files if not is_piece(path.name)] == []


def test_readiness_says_that_nobody_signs(
    make_client: MakeClient, start_worker: StartWorker, own_signer: SignerProcess
) -> None:
    client = make_client(signer_socket=own_signer.socket)
    start_worker("service.reconciler").wait_for("reconciler_started")
    start_worker(signer_socket=own_signer.socket).wait_for("worker_listening")
    own_signer.start()
    eventually(lambda: client.get("/readyz").status_code == 200, "all are there")
    assert client.get("/readyz").json()["signer"] is True

    own_signer.kill()

    refused = client.get("/readyz")
    assert (refused.status_code, refused.json()["params"]["signer"]) == (503, False)
    assert "no signer answers (cannot connect" in refused.json()["detail"]
    # Where videos are not signed, nobody is missed.
    unsigned = make_client(signer_socket=own_signer.socket, content_credentials=False)
    assert unsigned.get("/readyz").json()["signer"] is None
    # What is accepted meanwhile waits, and nothing unsigned is published.
    job_id = post_raw(client).json()["id"]
    eventually(
        lambda: client.get(f"/v1/jobs/{job_id}").json()["stage"] == "encoding", "it is drawn"
    )
    assert client.get(f"/v1/jobs/{job_id}/content").status_code == 409
    own_signer.start()
    _, data = video_of(client, job_id)
    assert verify(client, data)["verdict"] == "ours"


def test_a_watermark_is_found_after_the_signature_is_gone(
    make_client: MakeClient, start_worker: StartWorker, data_dir: Path, tmp_path: Path
) -> None:
    client = make_client(signer_socket=shared_signer().socket)
    files = {"image": ("i.jpg", PORTRAIT.read_bytes()), "audio": ("a.wav", tone(0.4))}

    def made(worker: WorkerProcess, name: str) -> tuple[dict[str, Any], Path]:
        worker.wait_for("worker_listening")
        job_id = client.post("/v1/talking-face", files=files).json()["id"]
        job, data = video_of(client, job_id)
        worker.kill()
        (tmp_path / name).write_bytes(data)
        return job, tmp_path / name

    job, plain = made(start_worker(), "plain.mp4")
    assert job["result"]["watermark"] is False
    assert verify(client, plain.read_bytes())["watermark"] == "not_looked_for"

    job, marked = made(start_worker(watermark="on"), "marked.mp4")
    key = data_dir / "secrets" / "watermark.key"
    assert job["result"]["watermark"] is True
    assert key.stat().st_mode & 0o077 == 0
    found = verify(client, marked.read_bytes())
    assert (found["verdict"], found["watermark"]) == ("ours", "found")
    assert found["watermark_job"] == job["id"][:12]
    assert verify(client, plain.read_bytes())["watermark"] == "not_found"

    again = tmp_path / "again.mkv"
    ffmpeg("-i", marked, "-c:v", "libx264", "-crf", "28", again)
    found = verify(client, again.read_bytes())
    assert (found["verdict"], found["watermark"]) == ("none", "found")
    assert found["watermark_job"] == job["id"][:12]
    assert "a hint and no proof" in found["summary"] and found["signer"] is None
    # Whoever has not the key finds nothing.
    key.unlink()
    assert verify(client, marked.read_bytes())["watermark"] == "not_looked_for"


def post_raw(client: TestClient, **options: str) -> Any:
    files = {"image": ("i.jpg", picture()), "audio": ("a.wav", tone(0.4))}
    return client.post("/v1/talking-face", files=files, data=options)


def test_a_deployment_can_require_consent(make_client: MakeClient) -> None:
    client = make_client(require_consent=True)

    refused, accepted = post_raw(client), post_raw(client, consent="stated")

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_options")
    assert refused.json()["errors"][0]["field"] == "consent"
    assert accepted.status_code == 202
    assert accepted.json()["input"]["consent"] == "stated"


def test_a_deployment_can_fix_its_label(make_client: MakeClient) -> None:
    client = make_client(label="intro", label_fixed=True)

    refused = post_raw(client, label="off")

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "label")
    assert post_raw(client, label="intro").status_code == 202
    assert post_raw(client).status_code == 202


def test_files_on_the_operators_list_are_refused(make_client: MakeClient, tmp_path: Path) -> None:
    refused = tmp_path / "refused.txt"
    refused.write_text("# pictures that people asked us not to use\n")
    client = make_client(refused_media=refused)
    assert post_raw(client).status_code == 202

    digest = hashlib.sha256(picture()).hexdigest()
    refused.write_text(f"# pictures\n{digest.upper()}  asked on Tuesday\n")

    response = post_raw(client)
    assert (response.status_code, response.json()["code"]) == (422, "media_refused")
    assert digest not in response.text
    # A list that is lost opens no door.
    refused.unlink()
    assert post_raw(client).status_code == 500


def test_who_made_and_erased_what_is_kept(client: TestClient, data_dir: Path) -> None:
    job_id = post_raw(client, callback_url="https://example.org/hook").json()["id"]
    client.delete(f"/v1/jobs/{job_id}")

    (log,) = (data_dir / "audit").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]

    assert [(line["event"], line["job"], line["by"]) for line in lines] == [
        ("made", job_id, "anonymous"),
        ("erased", job_id, "anonymous"),
    ]
    assert all(set(line) == {"at", "event", "job", "by", "request"} for line in lines)
    assert log.stat().st_mode & 0o077 == 0


def test_the_audit_log_ends_by_itself(data_dir: Path, redis: Redis) -> None:
    log = AuditLog(data_dir, retention_s=30 * 86_400)
    log.write("expired", "a" * 32)
    old = data_dir / "audit" / "2020-01-01.jsonl"
    old.write_text("{}\n")

    assert log.sweep() == 1
    assert not old.exists()
    assert len(list((data_dir / "audit").iterdir())) == 1
    assert AuditLog(data_dir).sweep() == 0
