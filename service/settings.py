"""Deployment settings of the service, read once from `TALKFACE_*` by the entry point."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from limits import parse
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from worker.contract.artifact_settings import StoreSettings
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sandbox import SandboxMode
from worker.contract.intake.uploads import MAX_REFERENCES
from worker.contract.logs import LogLevel
from worker.contract.shared_settings import (
    ContentCredentials,
    DecoderSocket,
    DefaultLabel,
    Sandbox,
    SignerSocket,
    Streams,
    WatermarkKeyFile,
)


class ServiceSettings(StoreSettings):
    """Settings of `python -m service`."""

    model_config = SettingsConfigDict(env_prefix="TALKFACE_", frozen=True)

    redis_url: Annotated[
        str, Field(description="Ledger and queue: redis://host:port/0 or unix:///path/to/socket.")
    ] = "redis://127.0.0.1:6379/0"
    log_level: Annotated[LogLevel, Field(description="Least level logged.")] = "INFO"
    decoder_socket: DecoderSocket = None
    sandbox: Sandbox = SandboxMode.WARN
    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port; 0 takes a free one.")] = 8000
    metrics_host: Annotated[str, Field(description="Address of the port for metrics.")] = (
        "127.0.0.1"
    )
    metrics_port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="Port that serves /metrics and nothing else, without a key, to whoever "
            "reaches it; N API processes take N ports from here on; none.",
        ),
    ] = None
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
    ] = 1920
    background: Annotated[
        str,
        Field(pattern="^#[0-9a-fA-F]{6}$", description="Colour behind transparent parts."),
    ] = "#ffffff"
    min_free_bytes: Annotated[
        int, Field(ge=0, description="Uploads are refused when less would stay free on the volume.")
    ] = 256 * 2**20
    parallel_decodes: Annotated[
        int, Field(ge=1, description="Uploads that are decoded at the same time.")
    ] = 4

    max_header_bytes: Annotated[
        int,
        Field(ge=1024, le=2**20, description="Request line and headers of a request, in bytes."),
    ] = 64 * 2**10
    header_timeout_s: Annotated[
        float,
        Field(gt=0, description="A connection is closed whose headers take longer, in seconds."),
    ] = 10.0
    keep_alive_s: Annotated[
        float,
        Field(ge=0, description="A connection is closed that is idle for longer, in seconds."),
    ] = 5.0
    body_stall_s: Annotated[
        float,
        Field(gt=0, description="A body of which nothing comes for longer is refused, in seconds."),
    ] = 30.0
    body_timeout_s: Annotated[
        float, Field(gt=0, description="A body that takes longer is refused, in seconds.")
    ] = 3600.0
    max_connections: Annotated[
        int,
        Field(ge=1, description="Connections of each API process; fewer if the system says so."),
    ] = 4096
    processes: Annotated[
        int, Field(ge=1, le=64, description="API processes that share the port.")
    ] = 1
    root_path: Annotated[
        str, Field(description="Path that a proxy takes off before it passes a request on, as /tf.")
    ] = ""
    forwarded_allow_ips: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="Proxies whose X-Forwarded-For and -Proto are believed: addresses and "
            "networks, separated by commas; `*`: everybody; none."
        ),
    ] = ()

    max_receiving_bytes: Annotated[
        int, Field(gt=0, description="Bodies of all unfinished requests of a process together.")
    ] = 4 * 2**30
    require_keys: Annotated[
        bool, Field(description="Every request needs an API key (`talkface keys create`).")
    ] = False
    allow_anonymous: Annotated[
        bool,
        Field(description="Serve anyone who reaches this machine, without keys; else refused."),
    ] = False
    loopback_published: Annotated[
        bool,
        Field(
            description="In a container whose port is published on the host's loopback alone: whoever "
            "reaches it is who sits there, as without a container."
        ),
    ] = False
    secret_file: Annotated[
        Path | None,
        Field(description="The installation's secret, mode 0600; unset: <data_dir>/secrets/."),
    ] = None
    link_ttl_s: Annotated[
        int, Field(ge=60, le=7 * 86_400, description="How long a signed link works, in seconds.")
    ] = 3600
    read_rate: Annotated[
        str, Field(description="Reads of one caller in each API process, such as 3000/minute.")
    ] = "3000/minute"
    write_rate: Annotated[
        str, Field(description="Other requests of one caller in each API process.")
    ] = "120/minute"
    max_concurrent_jobs: Annotated[
        int | None,
        Field(ge=1, description="Open jobs of one caller, unless the key says otherwise."),
    ] = 32
    max_jobs_a_day: Annotated[
        int | None,
        Field(ge=1, description="Jobs of one caller in a day, UTC, unless the key says otherwise."),
    ] = None
    max_stored_bytes: Annotated[
        int | None,
        Field(ge=1, description="Bytes of one caller's files, unless the key says otherwise."),
    ] = None
    max_media_s_a_day: Annotated[
        float | None,
        Field(gt=0, description="Seconds of sound of one caller in a day, UTC; or the key's."),
    ] = None
    max_open_media_s: Annotated[
        float | None,
        Field(gt=0, description="Seconds of sound of one caller's open jobs; or the key's."),
    ] = None
    cors_origins: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Sites whose pages may call the API, separated by commas; none."),
    ] = ()
    webhook_allow: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="Receivers of webhooks that need not be public, separated by commas: host "
            "names, and networks such as 10.0.0.0/8; none."
        ),
    ] = ()
    webhook_ca_file: Annotated[
        Path | None,
        Field(
            description="PEM file of authorities that receivers may be signed by, beside the public ones."
        ),
    ] = None
    tts_url: Annotated[
        str | None,
        Field(
            pattern="^https?://[^ @]+$",
            description="Voice server with OpenAI's POST /v1/audio/speech; unset: no `text`.",
        ),
    ] = None
    tts_model: Annotated[str, Field(description="Its model.")] = "tts-1"
    tts_voice: Annotated[str, Field(description="Its voice where a job names none.")] = "alloy"
    tts_api_key: Annotated[
        SecretStr | None, Field(description="Its key, sent as Authorization: Bearer.")
    ] = None
    tts_timeout_s: Annotated[
        float, Field(gt=0, le=240, description="Longest wait for a spoken text, in seconds.")
    ] = 120.0
    webhook_timeout_s: Annotated[
        float, Field(gt=0, le=60, description="Longest delivery of one webhook, in seconds.")
    ] = 10.0

    max_open_jobs: Annotated[
        int, Field(ge=1, description="Jobs of all callers that may wait or run; more are refused.")
    ] = 1000
    max_waiting_uploads: Annotated[
        int, Field(ge=0, description="Uploads that may wait to be decoded; more are refused.")
    ] = 64
    max_watchers: Annotated[
        int, Field(ge=0, description="Clients of each API process that may wait for a job.")
    ] = 1000
    max_watchers_per_caller: Annotated[
        int, Field(ge=0, description="Of these, clients of one caller.")
    ] = 200
    retention_s: Annotated[
        float, Field(ge=0, description="Results are erased so long after a job's end; 0: never.")
    ] = 7 * 86_400.0
    label: DefaultLabel = "always"
    label_fixed: Annotated[
        bool, Field(description="Callers may not choose another label than this one.")
    ] = False
    require_consent: Annotated[
        bool, Field(description="Refuse requests that do not say `consent=stated`.")
    ] = False
    refused_media: Annotated[
        Path | None,
        Field(description="A text file of SHA-256 digests, one a line: uploads that are refused."),
    ] = None
    audit_retention_s: Annotated[
        float,
        Field(ge=0, description="Who made and erased what is kept so long, in seconds; 0: ever."),
    ] = 365 * 86_400.0
    content_credentials: ContentCredentials = True
    signer_socket: SignerSocket = None
    watermark_key_file: WatermarkKeyFile = None
    stream: Streams = True
    require_worker: Annotated[
        bool,
        Field(
            description="Not ready while no worker is alive; `false` where workers come and go with "
            "the queue."
        ),
    ] = True
    require_durable_redis: Annotated[
        bool, Field(description="Not ready where Redis may forget a job: see /readyz.")
    ] = True

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(
                origin.strip().rstrip("/") for origin in value.split(",") if origin.strip()
            )
        return value

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str) -> str:
        if value and (not value.startswith("/") or value.endswith("/") or not value.isascii()):
            raise ValueError(
                "it begins with / and does not end with /, such as /talkface, or is empty"
            )
        return value

    @field_validator("forwarded_allow_ips", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(proxy.strip() for proxy in value.split(",") if proxy.strip())
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != ("*",):
            for proxy in value:
                # uvicorn would take a misspelt network for a name, and never find it.
                ip_network(proxy)  # raises ValueError, which becomes the setting's error
        return value

    @field_validator("webhook_allow", mode="before")
    @classmethod
    def _split_receivers(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(one.strip().lower() for one in value.split(",") if one.strip())
        return value

    @field_validator("webhook_allow")
    @classmethod
    def _check_receivers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for receiver in value:
            # A slash is a network's; ip_network raises ValueError, which becomes the setting's error.
            if "/" in receiver:
                ip_network(receiver)
            elif ":" in receiver.replace("::", "") and not receiver.startswith("["):
                raise ValueError(f"{receiver!r} has a port; name hosts without one")
        return value

    @field_validator("read_rate", "write_rate")
    @classmethod
    def _check_rate(cls, value: str) -> str:
        parse(value)  # raises ValueError, which becomes the setting's error
        return value

    @property
    def secret_path(self) -> Path:
        """The file of the installation's secret; never inside the artifact folder."""
        return self.secret_file or self.first_secret_path

    @property
    def first_secret_path(self) -> Path:
        """Where the secret is unless a setting says otherwise."""
        return self.data_dir / "secrets" / "install.key"

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
            background=self.background,
        )

    @property
    def max_body_bytes(self) -> int:
        """Largest request body: all files and some room for the form around them."""
        images_bytes = (1 + MAX_REFERENCES) * self.max_image_bytes
        return self.max_audio_bytes + images_bytes + self.max_video_bytes + 2**20
