"""Whether a recording is all there: its header or table tells the true length, and a part may be missing."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.sniffing import Sniffed

_CUT_SHORT: Final = re.compile(r"partial file|File ended prematurely")
_WAV_HEAD: Final = re.compile(rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE", re.DOTALL)
_STREAMED_BYTES: Final = 0x7FFF_0000
"""From here on a WAV's length means that its writer did not know it: 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF."""


@dataclass(frozen=True)
class _Layout:
    """How a file is divided into chunks: name, size, content.

    Args:
        first: Where the first one begins.
        name_bytes: Length of a name.
        size_bytes: Length of a size.
        align: A content is followed by so many bytes that the next chunk begins at a multiple.
        is_big: Sizes have their highest byte first.
        counts_head: A size counts name and size too.
    """

    first: int
    name_bytes: int
    size_bytes: int
    align: int
    is_big: bool = False
    counts_head: bool = False


_LAYOUTS: Final = {
    "wav": _Layout(first=12, name_bytes=4, size_bytes=4, align=2),
    "w64": _Layout(first=40, name_bytes=16, size_bytes=8, align=8, counts_head=True),
    "caf": _Layout(first=8, name_bytes=4, size_bytes=8, align=1, is_big=True),
}

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
    source: Path, sniffed: Sniffed, told_s: float | None, decoded_s: float, complaints: str
) -> None:
    """Refuse a recording whose end is missing.

    Args:
        source: The bytes as they came.
        sniffed: What they are.
        told_s: Its length in seconds as its head tells it; None where it does not.
        decoded_s: Length of the sound that came out, in seconds.
        complaints: What ffmpeg wrote while it decoded.

    Raises:
        IntakeError: undecodable_media.
    """
    if layout := _LAYOUTS.get(sniffed.reader):
        told_s = decoded_s * _told_of_present(source, sniffed.start, layout)
    is_short = told_s is not None and told_s - decoded_s > max(_MISSING_S, _MISSING_PART * told_s)
    if not is_short and not _CUT_SHORT.search(complaints):
        return
    length = f" after {decoded_s:.2f} s of {told_s:.2f} s" if is_short else ""
    raise IntakeError(
        ErrorCode.UNDECODABLE_MEDIA,
        f"The audio ends in the middle{length}; a part of the file is missing. Send the whole file.",
    )


def _told_of_present(source: Path, start: int, layout: _Layout) -> float:
    """How many times the samples that are there the header tells of; 1 where it does not know."""
    file_bytes = source.stat().st_size
    with source.open("rb") as stream:
        stream.seek(start)
        order: Literal["big", "little"] = (
            "big" if layout.is_big or stream.read(4) == b"RIFX" else "little"
        )
        place, long_bytes = start + layout.first, None
        while place < file_bytes:
            stream.seek(place)
            head = stream.read(layout.name_bytes + layout.size_bytes)
            size = int.from_bytes(head[layout.name_bytes :], order)
            size -= len(head) if layout.counts_head else 0
            place += len(head)
            if head.startswith(b"data"):
                told = size if long_bytes is None or size != 0xFFFF_FFFF else long_bytes
                is_known = 0 < told < _STREAMED_BYTES and place < file_bytes
                return max(1.0, told / (file_bytes - place)) if is_known else 1.0
            if head.startswith(b"ds64"):
                long_bytes = int.from_bytes(stream.read(16)[8:], "little")
            # A length of nothing at all would not lead anywhere.
            place += max(0, -(-size // layout.align) * layout.align)
    return 1.0
