"""Deployment settings of the workers, read once from `TALKFACE_*` by the entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from worker.contract.artifact_settings import StoreSettings
from worker.contract.intake.sandbox import SandboxMode
from worker.contract.logs import LogLevel
from worker.contract.messages import LabelLanguage
from worker.contract.shared_settings import (
    ContentCredentials,
    DecoderSocket,
    DefaultLabel,
    Sandbox,
    SignerSocket,
    Streams,
    WatermarkKeyFile,
)
from worker.contract.watermark import WatermarkMode


class WorkerSettings(StoreSettings):
    """Settings of `python -m worker` and `python -m worker.inspection`."""

    model_config = SettingsConfigDict(env_prefix="TALKFACE_", frozen=True)

    redis_url: Annotated[
        str,
        Field(description="Ledger and queue: redis://host:port/0 or unix:///path/to/socket."),
    ] = "redis://127.0.0.1:6379/0"
    log_level: Annotated[
        LogLevel,
        Field(description="Least level that is logged."),
    ] = "INFO"
    decoder_socket: DecoderSocket = None
    sandbox: Sandbox = SandboxMode.WARN
    renderer: Annotated[
        Literal["pipeline", "test-card"],
        Field(description="What draws: the model, or moving bars for tests of the queue."),
    ] = "pipeline"
    weights_dir: Annotated[
        Path | None, Field(description="Checkpoint folder; unset means the one that ships.")
    ] = None
    device: Annotated[str, Field(description="auto, cpu, cuda or cuda:N.")] = "auto"
    dtype: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], Field(description="Arithmetic of the networks.")
    ] = "auto"
    detector: Annotated[
        Literal["mediapipe", "face-alignment"],
        Field(description="What finds faces; face-alignment needs its weights (talkface doctor)."),
    ] = "mediapipe"
    face_alignment_dir: Annotated[
        Path | None,
        Field(description="Folder of face-alignment's weights; unset means its own cache."),
    ] = None
    batch_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=256,
            description="Frames that the networks draw at once; unset: 8 on a CPU, 32 on a GPU. Halved "
            "where memory is short.",
        ),
    ] = None
    video_encoder: Annotated[
        Literal["libx264", "h264_nvenc", "auto"],
        Field(
            description="What makes H.264: the CPU, an NVIDIA card, or the card where it works. Parts of a "
            "video that several workers draw are always the CPU's."
        ),
    ] = "libx264"
    segment_s: Annotated[
        float | None,
        Field(
            gt=0,
            description="Videos of two and more times so many seconds are drawn by all workers that "
            "have no other job; unset: by one.",
        ),
    ] = None
    lease_s: Annotated[
        float,
        Field(ge=1, description="A job whose worker is silent for so long counts as abandoned."),
    ] = 30.0
    stall_s: Annotated[
        float,
        Field(ge=1, description="A render without progress for so long ends its process (70)."),
    ] = 600.0
    grace_s: Annotated[
        float,
        Field(ge=0, description="After SIGTERM a render that can end in so long is finished."),
    ] = 10.0
    deadline_base_s: Annotated[
        float, Field(ge=1, description="A job fails when its first start is so long ago, ...")
    ] = 600.0
    deadline_per_audio_s: Annotated[
        float | None,
        Field(ge=0, description="... plus this times the sound; unset: 60 on a CPU, 10 on a GPU."),
    ] = None
    label: DefaultLabel = "always"
    label_language: Annotated[
        LabelLanguage, Field(description="Its language, such as en, de or fr.")
    ] = "en"
    content_credentials: ContentCredentials = True
    signer_socket: SignerSocket = None
    watermark: Annotated[
        WatermarkMode,
        Field(
            description="`on`: a faint pattern that outlives re-encoding is put into the pictures."
        ),
    ] = "off"
    watermark_key_file: WatermarkKeyFile = None
    stream: Streams = True
    test_card_frame_ms: Annotated[
        float,
        Field(ge=0, description="What one frame of the test card costs, to imitate a render."),
    ] = 0.0
