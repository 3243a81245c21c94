"""A process and its surroundings: its name, and the `TALKFACE_*` variables of all processes.

A misspelt variable shall be noticed, and pydantic-settings ignores unknown ones. Each process knows
only its own settings, and all of them may share one environment file, hence this list; a test holds
it equal to the settings.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Final

PREFIX: Final = "TALKFACE_"

SETTING_NAMES: Final = frozenset(
    {
        # every process
        "redis_url",
        "data_dir",
        "s3_bucket",
        "s3_endpoint_url",
        "s3_region",
        "s3_download_s",
        "s3_download_url",
        "log_level",
        "sandbox",
        "decoder_socket",
        "stream",
        # service
        "host",
        "port",
        "public_url",
        "metrics_host",
        "metrics_port",
        "max_audio_bytes",
        "max_image_bytes",
        "max_video_bytes",
        "max_audio_s",
        "max_video_s",
        "max_side",
        "background",
        "min_free_bytes",
        "parallel_decodes",
        "max_header_bytes",
        "header_timeout_s",
        "keep_alive_s",
        "body_stall_s",
        "body_timeout_s",
        "max_connections",
        "processes",
        "root_path",
        "forwarded_allow_ips",
        "max_receiving_bytes",
        "require_keys",
        "allow_anonymous",
        "loopback_published",
        "secret_file",
        "link_ttl_s",
        "read_rate",
        "write_rate",
        "max_concurrent_jobs",
        "max_jobs_a_day",
        "max_stored_bytes",
        "max_media_s_a_day",
        "max_open_media_s",
        "cors_origins",
        "webhook_allow",
        "webhook_ca_file",
        "webhook_timeout_s",
        "tts_url",
        "tts_model",
        "tts_voice",
        "tts_api_key",
        "tts_timeout_s",
        "max_open_jobs",
        "max_waiting_uploads",
        "max_watchers",
        "max_watchers_per_caller",
        "retention_s",
        "require_durable_redis",
        "require_worker",
        # reconciler
        "reconcile_every_s",
        "lost_after_s",
        "max_deliveries",
        "sweep_every_s",
        "orphan_after_s",
        "record_retention_s",
        # worker
        "renderer",
        "weights_dir",
        "device",
        "dtype",
        "detector",
        "face_alignment_dir",
        "batch_size",
        "video_encoder",
        "segment_s",
        "lease_s",
        "stall_s",
        "grace_s",
        "deadline_base_s",
        "deadline_per_audio_s",
        "test_card_frame_ms",
        # the label, by service and worker
        "label",
        "label_language",
        "label_fixed",
        # content credentials
        "content_credentials",
        "signer_socket",
        # the watermark, by service and worker
        "watermark",
        "watermark_key_file",
        "signing_dir",
        "signing_certificates",
        "signing_key",
        "timestamp_url",
        "timestamp_required",
        "timestamp_authorities",
        # consent and audit, by service and reconciler
        "require_consent",
        "refused_media",
        "audit_retention_s",
    }
)

CLIENT_NAMES: Final = frozenset({"url", "api_key"})
"""Read by the commands that talk to a service, and by talkface_client."""


def process_name() -> str:
    """A name that no other process has or had; it begins with the host's."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names that begin like ours and that no process reads, sorted."""
    return sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX)
        and name.upper().removeprefix(PREFIX).lower() not in SETTING_NAMES | CLIENT_NAMES
    )
