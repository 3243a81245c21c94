"""What can be said of one file without decoding it: its size, its type by magic bytes, its digest.

The file's name and its declared type are never asked.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError

SNIFF_BYTES: Final = 64
IMAGE_TYPES: Final = "JPEG, PNG or WebP"
AUDIO_TYPES: Final = "WAV, MP3, M4A, FLAC, Ogg or WebM"
VIDEO_TYPES: Final = "MP4, MOV, WebM or Matroska"
# QuickTime files may begin with any of these boxes.
_MOV_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})


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


def head_of(source: Path) -> bytes:
    """The magic bytes: all that this process reads of an upload."""
    with source.open("rb") as stream:
        return stream.read(SNIFF_BYTES)


def image_type(head: bytes) -> str:
    """Pillow's name of the format, from the magic bytes.

    Raises:
        IntakeError: unsupported_media_type.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    raise IntakeError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        f"The picture is not {IMAGE_TYPES}. Send one of these; the name does not matter.",
    )


def audio_type(head: bytes) -> str:
    """The demuxer for the magic bytes; naming it takes the guess out of ffmpeg's hands.

    Raises:
        IntakeError: unsupported_media_type.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"fLaC"):
        return "flac"
    if head.startswith(b"OggS"):
        return "ogg"
    if head[4:8] == b"ftyp":
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"ID3"):
        return "mp3"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # The layer bits are 0 in an ADTS header and never in an MPEG audio header.
        return "aac" if head[1] & 0x06 == 0 else "mp3"
    raise IntakeError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        f"The audio is not {AUDIO_TYPES}. Send one of these; the name does not matter.",
    )


def video_type(head: bytes, what: str = "video") -> str:
    """The demuxer for the magic bytes; naming it takes the guess out of ffmpeg's hands.

    Raises:
        IntakeError: unsupported_media_type.
    """
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    raise IntakeError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        f"The {what} is not {VIDEO_TYPES}. Send one of these; the name does not matter.",
    )


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
