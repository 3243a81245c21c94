"""The API and a worker that share Redis and a bucket, and no folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from talkface_client import Client
from tests.integration.conftest import MakeClient, RedisServer, StartWorker, eventually
from tests.integration.live_server import live_server
from tests.s3_server import CREDENTIALS, S3Server, s3_server
from tests.uploads import picture, tone


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        server.bucket("faces")
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def test_a_video_is_made_and_handed_out_though_no_folder_is_shared(
    redis_server: RedisServer, start_worker: StartWorker, s3: S3Server, tmp_path: Path
) -> None:
    bucket = {"s3_bucket": "faces", "s3_endpoint_url": s3.url}
    start_worker(**bucket)
    with (
        live_server(redis_server.url, tmp_path / "api's", **bucket, s3_download_s=600) as server,
        Client(server.url) as client,
        server.client() as http,
    ):
        job = client.submit(picture(), tone(1.0))
        video = client.download(client.wait(job.id), tmp_path / "video.mp4")

        path = f"/v1/jobs/{job.id}/content"
        answer = http.get(path)
        assert answer.status_code == 307
        link = httpx2.URL(answer.headers["location"])
        assert (f"{link.scheme}://{link.netloc.decode()}", link.path.split("/")[1]) == (
            s3.url,
            "faces",
        )
        # What a link would not answer, the service does.
        assert http.head(path).headers["content-length"] == str(video.stat().st_size)
        etag = http.head(path).headers["etag"]
        assert http.get(path, headers={"If-None-Match": etag}).status_code == 304
        assert s3.url in http.get("/").headers["content-security-policy"]

        kept = {one["Key"] for one in s3.client().list_objects_v2(Bucket="faces")["Contents"]}
        assert {key.split("/")[0] for key in kept if job.id in key} == {"inputs", "results"}
        assert http.delete(f"/v1/jobs/{job.id}").status_code == 204
    left = s3.client().list_objects_v2(Bucket="faces").get("Contents", ())
    assert not [one["Key"] for one in left if job.id in one["Key"]]
    assert not list((tmp_path / "api's").rglob("*.mp4"))


def test_ranges_go_through_the_service_where_no_links_are_given(
    make_client: MakeClient, start_worker: StartWorker, s3: S3Server, tmp_path: Path
) -> None:
    bucket = {"s3_bucket": "faces", "s3_endpoint_url": s3.url}
    start_worker(**bucket)
    client = make_client(**bucket, data_dir=tmp_path / "api's")
    files = {"audio": ("a.wav", tone(1.0)), "image": ("i.jpg", picture())}
    job_id = client.post("/v1/talking-face", files=files).json()["id"]
    path = f"/v1/jobs/{job_id}"
    eventually(lambda: client.get(path).json()["state"] == "succeeded", "the job ends")

    whole = client.get(f"{path}/content").content
    part = client.get(f"{path}/content", headers={"Range": "bytes=100-299"})

    assert part.status_code == 206
    assert part.content == whole[100:300]
    assert client.get(f"{path}/thumbnail").headers["content-type"] == "image/jpeg"


def test_a_storage_that_is_away_is_said_to_be_and_keeps_the_service_from_being_ready(
    make_client: MakeClient,
) -> None:
    client = make_client(s3_bucket="faces", s3_endpoint_url="http://127.0.0.1:1")
    files = {"audio": ("a.wav", tone(1.0)), "image": ("i.jpg", picture())}

    refused = client.post("/v1/talking-face", files=files)

    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert client.get("/v1/jobs").json()["data"] == []
    assert "the storage cannot be written" in client.get("/readyz").json()["detail"]


def test_the_api_is_ready_without_a_worker_where_workers_come_and_go(
    make_client: MakeClient,
) -> None:
    strict = make_client().get("/readyz").json()["detail"]
    lenient = make_client(require_worker=False).get("/readyz").json()["detail"]

    assert "no worker is alive" in strict
    assert "no worker is alive" not in lenient
