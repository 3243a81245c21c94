"""PNGs taken apart and put together otherwise."""

from __future__ import annotations

import struct
import zlib


def png_chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        chunks.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def png_of(first: list[tuple[bytes, bytes]], rest: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG with other first chunks in place of the header."""
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in [*first, *rest[1:]]:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        content += struct.pack(">I", len(data)) + name + data + checksum
    return content


def with_png_size(png: bytes, size: bytes) -> bytes:
    """The same PNG that says another width and height."""
    chunks = png_chunks(png)
    return png_of([(b"IHDR", size + chunks[0][1][8:])], chunks)


def reinterlaced(png: bytes) -> bytes:
    """Says that it is interlaced, and is not."""
    chunks = png_chunks(png)
    return png_of([(b"IHDR", chunks[0][1][:12] + b"\x01")], chunks)


def png_bomb(side: int) -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return png_of([(b"IHDR", header)], [(b"", b""), (b"IDAT", pixels), (b"IEND", b"")])
