"""The artifact store in S3-compatible storage: nothing but this and Redis has to be shared by hosts.

    s3://<bucket>/inputs/<job>/input.png ... s3://<bucket>/results/<job>/<token>.mp4

A key is published by a conditional write (`If-None-Match: *`), so of two workers that finish the same
job's file under one key the second is refused by the storage itself. Objects are whole or absent by
nature; large ones go up in parts, which become an object with the last, conditional call.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker.contract.artifacts import (
    CHUNK_BYTES,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ArtifactStat,
    ArtifactStore,
    StorageAwayError,
    StorageFullError,
    check_key,
    full_volume,
)

_PART_BYTES: Final = 16 * 2**20
"""Larger files go up in parts of this size; S3 wants at least 5 MiB, and at most 10,000 of them."""
_PROBE: Final = "probe/written"
_PUT_ID: Final = "talkface-put"
_CONFLICT: Final = 409
_TRIES: Final = 4
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"})
# Newer checksums are not known to every server that speaks S3.
_CONFIG: Final = Config(
    signature_version="s3v4",
    retries={"mode": "standard", "max_attempts": 5},
    connect_timeout=5,
    read_timeout=60,
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_ONE_THREAD: Final = TransferConfig(use_threads=False)


class BucketStore(ArtifactStore):
    """A store in a bucket. Credentials come the way of all AWS programs: variables, files, roles.

    Args:
        data_dir: The process's own folder for work in progress.
        bucket: Its name; it exists, and keeps no old versions.
        endpoint_url: Address of the storage; None = AWS's.
        region: Its region, None = as the environment says.
        download_s: How long a link to a file works that clients fetch from the storage, in seconds;
            None = they fetch it from us.
        download_url: Address of the storage as clients reach it; None = as we do.
        part_bytes: Size of the parts of large files.
    """

    def __init__(
        self,
        data_dir: Path,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        download_s: int | None = None,
        download_url: str | None = None,
        part_bytes: int = _PART_BYTES,
    ) -> None:
        super().__init__(data_dir)
        self._bucket = bucket
        self._download_s = download_s
        self._part_bytes = part_bytes
        self._client = _client(endpoint_url, region)
        self._link_client = _client(download_url or endpoint_url, region)
        self._has_versions: bool | None = None

    def put(self, key: str, local_path: Path) -> None:
        """See `ArtifactStore.put`."""
        check_key(key)
        # Where the answer to a write is lost it is sent again and refused; then this says that the
        # object is ours all the same.
        put_id = secrets.token_hex(16)
        for number in range(1, _TRIES + 1):
            try:
                with _translated(key):
                    self._upload(key, local_path, put_id)
                break
            except ArtifactExistsError:
                if self._put_id(key) != put_id:
                    raise
                break
            except _ConflictError as error:
                # Two writes at the same moment: S3 refuses one without a word about the other.
                if number == _TRIES:
                    raise StorageAwayError(f"{key}: {error}") from error
        local_path.unlink()

    def _upload(self, key: str, path: Path, put_id: str) -> None:
        place: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        with path.open("rb") as stream:
            if path.stat().st_size <= self._part_bytes:
                told = {"Metadata": {_PUT_ID: put_id}}
                self._client.put_object(**place, **told, Body=stream, IfNoneMatch="*")
                return
            upload = self._client.create_multipart_upload(**place, Metadata={_PUT_ID: put_id})
            place["UploadId"] = upload["UploadId"]
            try:
                parts: list[dict[str, Any]] = []
                while piece := stream.read(self._part_bytes):
                    number = len(parts) + 1
                    sent = self._client.upload_part(**place, PartNumber=number, Body=piece)
                    parts.append({"PartNumber": number, "ETag": sent["ETag"]})
                self._client.complete_multipart_upload(
                    **place, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                )
            except (ClientError, BotoCoreError):
                # If this fails, too, the sweep finds the parts.
                with _ignored():
                    self._client.abort_multipart_upload(**place)
                raise

    def _put_id(self, key: str) -> str | None:
        with _translated(key):
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        found: str | None = head.get("Metadata", {}).get(_PUT_ID)
        return found

    @contextmanager
    def local_copy(self, key: str) -> Iterator[Path]:
        """See `ArtifactStore.local_copy`; fetched at the beginning, gone at the end."""
        check_key(key)
        with self.scratch() as folder:
            path = folder / key.rsplit("/", 1)[-1]
            with _translated(key), full_volume():
                self._client.download_file(self._bucket, key, str(path), Config=_ONE_THREAD)
            yield path

    def read_range(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """See `ArtifactStore.read_range`."""
        check_key(key)
        if stop <= start:
            # No range of S3's is empty.
            self.stat(key)
            return iter(())
        with _translated(key):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={start}-{stop - 1}"
            )
        return _pieces(key, answer["Body"])

    def stat(self, key: str) -> ArtifactStat:
        """See `ArtifactStore.stat`."""
        check_key(key)
        with _translated(key):
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        return ArtifactStat(bytes=int(head["ContentLength"]))

    def download_url(self, key: str, *, content_type: str, disposition: str) -> str | None:
        """See `ArtifactStore.download_url`; the link is for whoever has it, as long as it works."""
        check_key(key)
        if self._download_s is None:
            return None
        what = {
            "Bucket": self._bucket,
            "Key": key,
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
            "ResponseCacheControl": "private, no-cache",
        }
        url: str = self._link_client.generate_presigned_url(
            "get_object", Params=what, ExpiresIn=self._download_s
        )
        return url

    def delete(self, key: str) -> None:
        """See `ArtifactStore.delete`."""
        check_key(key)
        with _translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def names(self, prefix: str) -> dict[str, float]:
        """See `ArtifactStore.names`; a folder is as old as what came into it last."""
        check_key(prefix)
        changed_at: dict[str, datetime] = {}
        now: datetime | None = None
        for page in self._pages(prefix):
            # Both times are the storage's, so that its clock and ours may differ.
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for found in page.get("Contents", ()):
                name = found["Key"].removeprefix(f"{prefix}/").split("/")[0]
                at = found["LastModified"]
                changed_at[name] = max(at, changed_at.get(name, at))
        return {
            name: max(0.0, (now - at).total_seconds())
            for name, at in changed_at.items()
            if now is not None
        }

    def delete_prefix(self, prefix: str) -> None:
        """See `ArtifactStore.delete_prefix`."""
        check_key(prefix)
        for page in self._pages(prefix):
            # A page has at most a thousand keys, which is also what one call erases.
            found = [{"Key": one["Key"]} for one in page.get("Contents", ())]
            if not found:
                continue
            with _translated(prefix):
                told = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": found, "Quiet": True}
                )
            if errors := told.get("Errors"):
                raise StorageAwayError(f"{prefix}: {errors[0].get('Code')}")

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        paginator = self._client.get_paginator("list_objects_v2")
        with _translated(prefix):
            yield from paginator.paginate(Bucket=self._bucket, Prefix=f"{prefix}/")

    def _sweep_store(self, deadline: float) -> int:
        removed = 0
        with _translated("uploads"):
            paginator = self._client.get_paginator("list_multipart_uploads")
            for page in paginator.paginate(Bucket=self._bucket):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"].timestamp() < deadline:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    def check_writable(self) -> None:
        """See `ArtifactStore.check_writable`."""
        if self._has_versions is None:
            # Who may not ask, or whose server has no versions, is believed.
            with _ignored():
                told = self._client.get_bucket_versioning(Bucket=self._bucket)
                self._has_versions = told.get("Status") == "Enabled"
        if self._has_versions:
            raise StorageAwayError(
                f"the bucket {self._bucket} keeps old versions, so nothing would ever be erased; "
                "suspend its versioning"
            )
        with _translated(_PROBE):
            self._client.put_object(Bucket=self._bucket, Key=_PROBE, Body=b"")


class _ConflictError(Exception):
    """The storage was asked for the same key twice at a time."""


@lru_cache(maxsize=8)
def _client(endpoint_url: str | None, region: str | None) -> Any:
    # Making one reads megabytes of JSON, and a client may be used from several threads; boto3's default
    # session may not.
    session = boto3.session.Session()
    # Servers other than AWS's have no name for each bucket.
    style = Config(s3={"addressing_style": "auto" if endpoint_url is None else "path"})
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region or session.region_name or "us-east-1",
        config=_CONFIG.merge(style),
    )


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """What boto3 raises becomes what a store raises."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 404 and code != "NoSuchBucket":
            raise ArtifactNotFoundError(key) from None
        if status == 412:
            raise ArtifactExistsError(key) from None
        if status == 507 or code in _FULL:
            raise StorageFullError(code) from error
        if status == _CONFLICT:
            raise _ConflictError(code) from error
        raise StorageAwayError(f"{key}: {code}") from error
    except BotoCoreError as error:
        # Not its message, which has addresses and perhaps more.
        raise StorageAwayError(f"{key}: {type(error).__name__}") from error


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError):
        return


def _pieces(key: str, body: Any) -> Iterator[bytes]:
    with body, _translated(key):
        yield from body.iter_chunks(CHUNK_BYTES)
