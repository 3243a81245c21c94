"""What the watermark of this installation says, and where its key lies (`model.watermark` draws it).

payload, 8 bytes:  [installation, 2: from the key][job, 6: the first twelve digits of its id]
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final, Literal

WatermarkMode = Literal["off", "on"]
JOB_DIGITS: Final = 12
_INSTALL_BYTES: Final = 2


def watermark_key_path(data_dir: Path, chosen: Path | None) -> Path:
    """Where the key of a deployment lies; never inside the artifact folder."""
    return chosen or data_dir / "secrets" / "watermark.key"


def payload_of(key: bytes, job_id: str) -> bytes:
    """What the mark of a job's video says.

    Args:
        key: The watermark's.
        job_id: Hexadecimal digits, twelve or more.
    """
    return _install(key) + bytes.fromhex(job_id[:JOB_DIGITS])


def job_digits(key: bytes, payload: bytes) -> str | None:
    """The first twelve digits of the job's id; None: it is no payload of this installation."""
    if payload[:_INSTALL_BYTES] != _install(key):
        return None
    return payload[_INSTALL_BYTES:].hex()


def _install(key: bytes) -> bytes:
    return hmac.new(key, b"installation", hashlib.sha256).digest()[:_INSTALL_BYTES]
