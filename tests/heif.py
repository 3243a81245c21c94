"""HEIC pictures that tests make: one HEVC frame of ffmpeg's in the boxes of ISO/IEC 23008-12."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image

from tests.films import ffmpeg

_BT601_LIMITED = b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0)


def box(name: bytes, *contents: bytes) -> bytes:
    """A box: length, name, content."""
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + name + content


def full_box(name: bytes, version: int, *contents: bytes) -> bytes:
    """A box with a version and no flags."""
    return box(name, struct.pack(">I", version << 24), *contents)


def write_heic(
    path: Path,
    picture: Image.Image,
    *,
    quarter_turns: int = 0,
    brand: bytes = b"heic",
    more: bytes = b"",
) -> Path:
    """Write a picture with even sides.

    Args:
        path: The file.
        picture: RGB.
        quarter_turns: Which the reader has to turn it, against the clock.
        brand: The major one.
        more: A compatible brand.
    """
    raw = path.with_suffix(".png")
    picture.save(raw)
    film = path.with_suffix(".mp4")
    quiet = "log-level=error:crf=4:keyint=1"
    ffmpeg(
        *("-i", raw, "-frames:v", "1", "-pix_fmt", "yuv420p", "-c:v", "libx265"),
        *("-x265-params", quiet, "-tag:v", "hvc1", film),
    )
    content = film.read_bytes()
    frame = _box_content(content, b"mdat")
    properties = [
        box(b"hvcC", _box_content(content, b"hvcC")),
        full_box(b"ispe", 0, struct.pack(">II", *picture.size)),
        box(b"colr", _BT601_LIMITED),
    ]
    if quarter_turns:
        properties.append(box(b"irot", bytes((quarter_turns,))))
    # Every property belongs to item 1; the decoder's configuration is essential.
    numbers = bytes(
        number | (0x80 if number in (1, 4) else 0) for number in range(1, len(properties) + 1)
    )
    association = full_box(b"ipma", 0, struct.pack(">IHB", 1, 1, len(properties)), numbers)

    def meta(place: int) -> bytes:
        # item 1, in this file, one extent: its place and length
        extent = struct.pack(">HHHII", 1, 0, 1, place, len(frame))
        item = full_box(b"infe", 2, struct.pack(">HH", 1, 0), b"hvc1\0")
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, b"\x44\x00", struct.pack(">H", 1), extent),
            full_box(b"iinf", 0, struct.pack(">H", 1), item),
            box(b"iprp", box(b"ipco", *properties), association),
        )

    head = box(b"ftyp", brand, bytes(4), b"mif1", more or brand)
    place = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(place) + box(b"mdat", frame))
    return path


def _box_content(content: bytes, name: bytes) -> bytes:
    """What is in the first box of this name, wherever it lies."""
    place = content.index(name)
    (length,) = struct.unpack(">I", content[place - 4 : place])
    return content[place + 4 : place - 4 + length]
