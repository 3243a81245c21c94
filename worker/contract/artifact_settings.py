"""Where a deployment keeps its files: a folder that all processes share, or a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.contract.artifact_folder import FolderStore
from worker.contract.artifacts import ArtifactStore
from worker.contract.start import StartError

_ADDRESS = "^https?://[^ @]+$"


class StoreSettings(BaseSettings):
    """What every process that touches files reads."""

    model_config = SettingsConfigDict(env_prefix="TALKFACE_", frozen=True)

    data_dir: Annotated[
        Path,
        Field(
            description="Folder of uploads and results, shared by all processes; with "
            "TALKFACE_S3_BUCKET each host's own, for work in progress."
        ),
    ] = Path("talkface-data")
    s3_bucket: Annotated[
        str | None,
        Field(description="Bucket that uploads and results are kept in; unset: the data folder."),
    ] = None
    s3_endpoint_url: Annotated[
        str | None,
        Field(pattern=_ADDRESS, description="Address of S3-compatible storage; unset: AWS's."),
    ] = None
    s3_region: Annotated[
        str | None, Field(description="Its region; unset: AWS_DEFAULT_REGION, else us-east-1.")
    ] = None
    s3_download_s: Annotated[
        int | None,
        Field(
            ge=60,
            le=7 * 86_400,
            description="Videos are fetched from the bucket, by links that work for so long, in "
            "seconds; unset: from the service.",
        ),
    ] = None
    s3_download_url: Annotated[
        str | None,
        Field(pattern=_ADDRESS, description="Address of the storage for clients; unset: ours."),
    ] = None


def open_store(settings: StoreSettings, *, min_free_bytes: int = 0) -> ArtifactStore:
    """The store that the settings name; nothing is written or asked yet.

    Args:
        settings: The deployment's.
        min_free_bytes: What must stay free on the volume of a folder.

    Raises:
        StartError: There is a bucket but no boto3.
    """
    if settings.s3_bucket is None:
        return FolderStore(settings.data_dir, min_free_bytes=min_free_bytes)
    try:
        # Late: the extra `s3` is for those who have a bucket.
        from worker.contract.artifact_bucket import BucketStore
    except ModuleNotFoundError as error:
        raise StartError(
            f"TALKFACE_S3_BUCKET is set, but {error.name} is not installed. Install the extra s3 "
            "(pip install 'talkface[s3]'), or unset the variable"
        ) from None
    return BucketStore(
        settings.data_dir,
        settings.s3_bucket,
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        download_s=settings.s3_download_s,
        download_url=settings.s3_download_url,
    )
