"""Whether a recording is all there: its header or table tells the true length, and a part may be missing."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.descriptions import Description
from worker.contract.intake.sniffing import Sniffed

_CUT_SHORT: Final = re.compile(r"partial file|File ended prematurely")
_WAV_HEAD: Final = re.compile(rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE", re.DOTALL)
_STREAMED_BYTES: Final = 0x7FFF_0000
"""From here on a WAV's length means that its writer did not know it: 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF."""
_MISSING_S: Final = 0.1
_MISSING_PART: Final = 0.01
"""Writers err by a block or two; only more than both of these counts as missing."""


def check_one_wav(source: Path, sniffed: Sniffed) -> None:
    """Refuse several WAV files in one: decoders stop after the first.

    Raises:
        IntakeError: undecodable_media.
    """
    if sniffed.reader != "wav":
        return
    with (
        source.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as all_,
    ):
        count = sum(1 for _ in _WAV_HEAD.finditer(all_))
    if count > 1:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The audio is {count} WAV files one behind the other, expected one; everything after the "
            "first would be lost. Join their sound (`ffmpeg -f concat`, `sox`) and resend it.",
            {"files": count},
        )


def check_whole(
    source: Path, sniffed: Sniffed, described: Description, decoded_s: float, complaints: str
) -> None:
    """Refuse a recording whose end is missing.

    Args:
        source: The bytes as they came.
        sniffed: What they are.
        described: What their head says.
        decoded_s: Length of the sound that came out, in seconds.
        complaints: What ffmpeg wrote while it decoded.

    Raises:
        IntakeError: undecodable_media.
    """
    told_s = _wav_seconds(source, sniffed.start) if sniffed.reader == "wav" else _told(described)
    is_short = told_s is not None and told_s - decoded_s > max(_MISSING_S, _MISSING_PART * told_s)
    if not is_short and not _CUT_SHORT.search(complaints):
        return
    length = f" after {decoded_s:.2f} s of {told_s:.2f} s" if is_short else ""
    raise IntakeError(
        ErrorCode.UNDECODABLE_MEDIA,
        f"The audio ends in the middle{length}; a part of the file is missing. Send the whole file.",
    )


def _told(described: Description) -> float | None:
    """The sound's length in seconds where the head tells it, and tells it of this sound alone."""
    is_alone = len(described.sounds) == 1 and described.pictures is None
    return described.seconds if is_alone and not described.is_guess else None


def _wav_seconds(source: Path, start: int) -> float | None:
    """The length that a WAV's header tells, or None where it does not know."""
    with source.open("rb") as stream:
        stream.seek(start)
        first = stream.read(12)
        order = ">" if first.startswith(b"RIFX") else "<"
        bytes_s, long_size = 0, None
        # The header of each chunk: name and size; chunks begin at even places.
        while len(head := stream.read(8)) == 8:
            name, size = head[:4], struct.unpack(f"{order}I", head[4:])[0]
            if name == b"data":
                size = long_size if long_size is not None and size == 0xFFFF_FFFF else size
                is_known = 0 < size < _STREAMED_BYTES and bytes_s > 0
                return size / bytes_s if is_known else None
            content = stream.read(min(size, 28))
            if name == b"fmt " and len(content) >= 16:
                bytes_s = struct.unpack(f"{order}I", content[8:12])[0]
            elif name == b"ds64" and len(content) >= 24:
                long_size = struct.unpack("<Q", content[8:16])[0]
            stream.seek(size + size % 2 - len(content), 1)
    return None
