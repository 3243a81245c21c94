"""How a format is proven by a file's first bytes: small tests that can also say in words what they test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

_MPEG_KBIT_S: Final = {
    # ISO/IEC 11172-3 and 13818-3: by (is MPEG-1, layer), index 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG1_RATES_HZ: Final = (44_100, 48_000, 32_000)
_CHAIN: Final = 3
"""So many frames in a row prove a stream whose first frame was cut."""


class Proof(Protocol):
    """One way to prove a format."""

    @property
    def words(self) -> str:
        """What is tested, for the documentation."""
        ...

    def start(self, head: bytes) -> int | None:
        """Where in `head` the format begins, or None where this is another format."""
        ...


@dataclass(frozen=True)
class Magic:
    """Bytes at the very start, and perhaps others at a further place."""

    first: bytes
    place: int = 0
    second: bytes = b""

    @property
    def words(self) -> str:
        """`RIFF`, `WAVE` at 8."""
        return _text(self.first) + (f", {_text(self.second)} at {self.place}" if self.place else "")

    def start(self, head: bytes) -> int | None:
        """Zero, or None."""
        if not head.startswith(self.first):
            return None
        return 0 if head[self.place :].startswith(self.second) else None


@dataclass(frozen=True)
class Boxes:
    """An ISO base media file (ISO/IEC 14496-12) or QuickTime film: the name of its first box."""

    names: tuple[bytes, ...]

    @property
    def words(self) -> str:
        """`ftyp`, `moov`, ... at 4."""
        return f"{', '.join(map(_text, self.names))} at 4"

    def start(self, head: bytes) -> int | None:
        """Zero, or None."""
        return 0 if head[4:8] in self.names else None


@dataclass(frozen=True)
class Brands:
    """An ISO base media file of one of these brands, or of a general one that names them as compatible."""

    names: tuple[bytes, ...]
    general: tuple[bytes, ...] = (b"mif1", b"msf1")

    @property
    def words(self) -> str:
        """`ftyp` at 4 with brand `avif`, ..."""
        general = " or ".join(map(_text, self.general))
        return (
            f"`ftyp` at 4 with brand {', '.join(map(_text, self.names))}, or {general} beside one"
        )

    def start(self, head: bytes) -> int | None:
        """Zero, or None."""
        if head[4:8] != b"ftyp":
            return None
        end = min(int.from_bytes(head[:4], "big"), len(head))
        compatible = {head[place : place + 4] for place in range(16, end - 3, 4)}
        major = head[8:12]
        is_ours = major in self.names or (major in self.general and compatible & set(self.names))
        return 0 if is_ours else None


class MpegAudioFrames:
    """Frames of MPEG audio, layer 1 to 3: each says where the next one begins."""

    words: Final = "a frame header, or three in a row where the first frame was cut"

    def start(self, head: bytes) -> int | None:
        """Place of the first whole frame."""
        if head.startswith(b"\xff") and _is_free_format(head):
            return 0
        return _first_chain(head, _mpeg_frame_bytes)


class AdtsFrames:
    """AAC in ADTS frames: each says where the next one begins."""

    words: Final = MpegAudioFrames.words

    def start(self, head: bytes) -> int | None:
        """Place of the first whole frame."""
        return _first_chain(head, _adts_frame_bytes)


class TransportPackets:
    """An MPEG transport stream: packets of 188 bytes, or of 192 with a clock before each."""

    words: Final = "`G` every 188 or 192 bytes, five times; the first packet may be cut"

    def start(self, head: bytes) -> int | None:
        """Place of the first whole packet."""
        for size, before in ((188, 0), (192, 4)):
            for first in range(size):
                places = range(first + before, first + before + 5 * size, size)
                if all(head[place : place + 1] == b"G" for place in places):
                    return first
        return None


class AnimatedWebp:
    """A WebP file with the animation flag of its extended header."""

    words: Final = "`RIFF`, `WEBPVP8X` at 8, bit 1 of byte 20"

    def start(self, head: bytes) -> int | None:
        """Zero, or None."""
        is_extended = head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X"
        return 0 if is_extended and len(head) > 20 and head[20] & 0b10 else None


def _first_chain(head: bytes, frame_bytes: Callable[[bytes], int]) -> int | None:
    """Where frames begin: at once with one header, later with `_CHAIN` headers in a row."""
    place = head.find(b"\xff")
    while place >= 0:
        at, links = place, 0
        while links < _CHAIN and (size := frame_bytes(head[at : at + 7])):
            at, links = at + size, links + 1
            if at + 7 > len(head):
                # The rest was not read: what was seen of the chain must do.
                break
        if links == _CHAIN or (place == 0 and links and at + 7 > len(head)):
            return place
        place = head.find(b"\xff", place + 1)
    return None


def _mpeg_frame_bytes(header: bytes) -> int:
    """Length of the frame that begins so; 0 where none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or bit_rate in (0, 15):
        return 0
    rate_hz = _MPEG1_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits_s = 1000 * _MPEG_KBIT_S[version == 3, layer][bit_rate - 1]
    if layer == 1:
        return 4 * (12 * bits_s // rate_hz + padding)
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits_s // rate_hz + padding


def _is_free_format(head: bytes) -> bool:
    """A header of MPEG audio whose bit rate, and so its length, is not said."""
    is_header = len(head) > 3 and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0
    return is_header and head[1] >> 3 & 3 != 1 and head[2] >> 4 == 0 and head[2] >> 2 & 3 != 3


def _adts_frame_bytes(header: bytes) -> int:
    """Length of the ADTS frame that begins so; 0 where none does."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    is_rate = header[2] >> 2 & 15 < 13
    return length if is_rate and length > 7 else 0


def _text(value: bytes) -> str:
    """Bytes as they stand in the documentation."""
    if value.isalnum() or value in (b"AVI ", b"#!AMR"):
        return f"`{value.decode('ascii')}`"
    return f"`{value.hex(' ').upper()}`"
