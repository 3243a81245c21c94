"""A bucket of its own for each test that asks, on one S3 server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import CREDENTIALS, S3Server, s3_server
from worker.contract.artifact_bucket import BucketStore

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3.bucket(f"faces-{next(_numbers)}")


@pytest.fixture
def bucket_store(s3: S3Server, bucket: str, tmp_path: Path) -> BucketStore:
    # Parts as small as S3 allows, so that a test's file has two.
    return BucketStore(
        tmp_path / "data", bucket, endpoint_url=s3.url, part_bytes=5 * 2**20, download_s=60
    )
