"""What a file is, by its first bytes, or by those behind tags and padding.

    [ID3v2 tag | APEv2 tag | zeros]*  ──▶  [rest of a frame]  ──▶  the format's own beginning

The file's name and its declared type are never asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.contract.intake.formats import Format, Role, check_role, sniff

SNIFF_BYTES: Final = 4096
"""So much of a file, behind its tags, is looked at."""
_MAX_ZEROS: Final = 2**20
_MAX_TAGS: Final = 16


@dataclass(frozen=True)
class Sniffed:
    """What a file is.

    Args:
        format: Its kind.
        reader: Pillow's format or ffmpeg's demuxer for the role that it was sent in.
        start: Where it begins in the file, in bytes: behind tags, padding and the rest of a frame.
    """

    format: Format
    reader: str
    start: int


def sniff_file(source: Path, role: Role, what: str) -> Sniffed:
    """Say what a file is.

    Args:
        source: The bytes as they came.
        role: What it was sent as.
        what: How messages call it.

    Raises:
        IntakeError: unsupported_media_type.
    """
    behind = _behind_tags(source) if role == "audio" else 0
    with source.open("rb") as stream:
        stream.seek(behind)
        found = sniff(stream.read(SNIFF_BYTES))
    one = check_role(found and found[0], role, what)
    return Sniffed(one, one.reader(role), behind + (found[1] if found else 0))


def check_head(head: bytes, role: Role, what: str) -> None:
    """Refuse a file whose first `SNIFF_BYTES` are plainly something else, before the rest has come.

    What begins with a tag or zeros is judged when all of it is there.

    Raises:
        IntakeError: unsupported_media_type.
    """
    if role == "audio" and (_tag_bytes(head) or head.startswith(b"\0")) and not sniff(head):
        return
    found = sniff(head)
    check_role(found and found[0], role, what)


def _behind_tags(source: Path) -> int:
    """Where the tags and zeros at the start of a sound end, in bytes."""
    place = 0
    with source.open("rb") as stream:
        for _ in range(_MAX_TAGS):
            stream.seek(place)
            head = stream.read(SNIFF_BYTES)
            if skipped := _tag_bytes(head):
                place += skipped
            # An ISO base media file begins with the high bytes of a length, a cut frame with anything.
            elif head.startswith(b"\0") and sniff(head) is None:
                place += _num_zeros(head + stream.read(_MAX_ZEROS))
            else:
                break
    return place


def _tag_bytes(head: bytes) -> int:
    """Length of the tag that begins so; 0 where none does."""
    if head.startswith(b"ID3") and len(head) >= 10:
        # ID3v2.4 section 3.1: four times seven bits, without this header and a footer of its length.
        size = sum((head[6 + index] & 0x7F) << 7 * (3 - index) for index in range(4))
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head.startswith(b"APETAGEX") and len(head) >= 32:
        # APEv2: the size counts items and footer, and not the header of 32 bytes.
        return 32 + int.from_bytes(head[12:16], "little")
    return 0


def _num_zeros(content: bytes) -> int:
    return len(content) - len(content.lstrip(b"\0"))
