"""What a bucket does otherwise than a folder, against a real S3 server."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import httpx2
import pytest

from tests.s3_server import S3Server
from worker.contract.artifact_bucket import BucketStore
from worker.contract.artifact_folder import FolderStore
from worker.contract.artifact_settings import StoreSettings, open_store
from worker.contract.artifacts import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    StorageAwayError,
)
from worker.failures import is_storage_unusable

KEY = "results/0123abcd/token-1.mp4"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(11 * 2**20))
    return path


def test_a_large_file_goes_up_in_parts_and_once(
    bucket_store: BucketStore, s3: S3Server, bucket: str, large: Path
) -> None:
    content = large.read_bytes()

    bucket_store.put(KEY, large)

    with bucket_store.local_copy(KEY) as path:
        assert path.read_bytes() == content
    assert "-3" in s3.client().head_object(Bucket=bucket, Key=KEY)["ETag"], "three parts"
    large.write_bytes(content[::-1])
    with pytest.raises(ArtifactExistsError):
        bucket_store.put(KEY, large)
    assert b"".join(bucket_store.read_range(KEY, 0, 2**20)) == content[: 2**20]
    assert not s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_write_whose_answer_was_lost_is_not_refused_as_somebody_elses(
    bucket_store: BucketStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends it again, and the storage says that the key is taken: by ourselves."""
    whole = bucket_store._upload

    def twice(key: str, path: Path, put_id: str) -> None:
        whole(key, path, put_id)
        whole(key, path, put_id)

    monkeypatch.setattr(bucket_store, "_upload", twice)
    video = tmp_path / "video"
    video.write_bytes(b"video")

    bucket_store.put(KEY, video)

    assert not video.exists()
    assert bucket_store.stat(KEY).bytes == 5


def test_a_local_copy_is_gone_afterwards(bucket_store: BucketStore, tmp_path: Path) -> None:
    video = tmp_path / "video"
    video.write_bytes(b"video")
    bucket_store.put(KEY, video)

    with bucket_store.local_copy(KEY) as path:
        assert path.name == "token-1.mp4"
    assert not path.exists()
    assert list((tmp_path / "data" / "scratch").iterdir()) == []


def test_a_link_leads_to_the_file_and_to_nothing_else(
    bucket_store: BucketStore, tmp_path: Path
) -> None:
    video = tmp_path / "video"
    video.write_bytes(b"video")
    bucket_store.put(KEY, video)

    url = bucket_store.download_url(
        KEY, content_type="video/mp4", disposition='inline; filename="talkface-1.mp4"'
    )

    assert url is not None
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"video"
        assert answer.headers["Content-Type"] == "video/mp4"
        assert "talkface-1.mp4" in answer.headers["Content-Disposition"]
    query = httpx2.URL(url).params
    assert query["X-Amz-Expires"] == "60"
    assert "X-Amz-Signature" in query


def test_parts_that_nobody_completed_are_swept(
    bucket_store: BucketStore, s3: S3Server, bucket: str
) -> None:
    client = s3.client()
    # moto says that every upload began in 2010.
    client.create_multipart_upload(Bucket=bucket, Key=KEY)

    assert bucket_store.sweep(older_than_s=1e9) == 0
    assert bucket_store.sweep(older_than_s=3600) == 1
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


@pytest.mark.long
def test_more_than_a_page_is_listed_and_erased(
    bucket_store: BucketStore, s3: S3Server, bucket: str
) -> None:
    client = s3.client()
    for number in range(1003):
        client.put_object(Bucket=bucket, Key=f"inputs/{number}/job.json", Body=b"")

    assert len(bucket_store.names("inputs")) == 1003

    bucket_store.delete_prefix("inputs")

    assert bucket_store.names("inputs") == {}


def test_a_bucket_that_keeps_versions_is_refused(
    bucket_store: BucketStore, s3: S3Server, bucket: str
) -> None:
    enabled = {"Status": "Enabled"}
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration=enabled)

    with pytest.raises(StorageAwayError, match="keeps old versions"):
        bucket_store.check_writable()


def test_a_bucket_or_a_server_that_is_not_there_is_no_missing_file(
    s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    nowhere = BucketStore(tmp_path, "no-such-bucket", endpoint_url=s3.url)
    silent = BucketStore(tmp_path, bucket, endpoint_url="http://127.0.0.1:1")

    for store in (nowhere, silent):
        with pytest.raises(StorageAwayError) as raised, store.local_copy(KEY):
            pass
        assert is_storage_unusable(raised.value)
        assert not isinstance(raised.value, ArtifactNotFoundError)


def test_a_setting_chooses(tmp_path: Path, bucket: str, s3: S3Server) -> None:
    folder = open_store(StoreSettings(data_dir=tmp_path))
    stored = open_store(StoreSettings(data_dir=tmp_path, s3_bucket=bucket, s3_endpoint_url=s3.url))

    assert isinstance(folder, FolderStore)
    assert isinstance(stored, BucketStore)
    assert stored.download_url(KEY, content_type="video/mp4", disposition="inline") is None
