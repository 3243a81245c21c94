"""What can be said of one file without looking at what it is: its size, its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from worker.contract.errors import ErrorCode, IntakeError


def check_size(source: Path, what: str, limit_bytes: int) -> int:
    """Size of an upload in bytes.

    Raises:
        IntakeError: undecodable_media, it is empty; file_too_large.
    """
    num_bytes = source.stat().st_size
    if num_bytes == 0:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} file is empty. Check the file and send it again.",
        )
    if num_bytes > limit_bytes:
        raise IntakeError(
            ErrorCode.FILE_TOO_LARGE,
            f"The {what} has {num_bytes} bytes; the limit is {limit_bytes}. Send a smaller file.",
            {"bytes": num_bytes, "limit_bytes": limit_bytes},
        )
    return num_bytes


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
