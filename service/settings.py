"""Deployment settings of the service, read once from `TALKFACE_*` by the entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.contract.inputs import MAX_REFERENCES
from worker.contract.intake import IntakeLimits


class ServiceSettings(BaseSettings):
    """Settings of `python -m service`."""

    model_config = SettingsConfigDict(env_prefix="TALKFACE_", frozen=True)

    redis_url: Annotated[
        str, Field(description="Ledger and queue: redis://host:port/0 or unix:///path/to/socket.")
    ] = "redis://127.0.0.1:6379/0"
    data_dir: Annotated[
        Path, Field(description="Folder of uploads and results, shared with the workers.")
    ] = Path("talkface-data")
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="Least level logged.")
    ] = "INFO"
    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port; 0 takes a free one.")] = 8000
    public_url: Annotated[
        str | None,
        Field(description="Where clients reach the service; unset, links are relative."),
    ] = None
    max_audio_bytes: Annotated[int, Field(gt=0, description="Largest audio file.")] = 50 * 2**20
    max_image_bytes: Annotated[int, Field(gt=0, description="Largest picture file.")] = 20 * 2**20
    max_video_bytes: Annotated[int, Field(gt=0, description="Largest video file.")] = 200 * 2**20
    max_audio_s: Annotated[float, Field(gt=0, description="Longest audio, in seconds.")] = 600.0
    max_video_s: Annotated[
        float, Field(gt=0, description="Longest video to dub or to drive by, in seconds.")
    ] = 600.0
    max_side: Annotated[
        int,
        Field(ge=256, le=2160, description="Longest side of a video; larger pictures shrink."),
    ] = 1280
    min_free_bytes: Annotated[
        int, Field(ge=0, description="Uploads are refused when less would stay free on the volume.")
    ] = 256 * 2**20
    parallel_decodes: Annotated[
        int, Field(ge=1, description="Uploads that are decoded at the same time.")
    ] = 4

    @property
    def intake_limits(self) -> IntakeLimits:
        """What the intake tolerates."""
        return IntakeLimits(
            max_image_bytes=self.max_image_bytes,
            max_audio_bytes=self.max_audio_bytes,
            max_video_bytes=self.max_video_bytes,
            max_audio_s=self.max_audio_s,
            max_video_s=self.max_video_s,
            max_side=self.max_side,
        )

    @property
    def max_body_bytes(self) -> int:
        """Largest request body: all files and some room for the form around them."""
        images_bytes = (1 + MAX_REFERENCES) * self.max_image_bytes
        return self.max_audio_bytes + images_bytes + self.max_video_bytes + 2**20
