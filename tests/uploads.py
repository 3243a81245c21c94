"""The smallest uploads that make a job."""

from __future__ import annotations

import io
import math
import struct
import wave

from PIL import Image


def tone(seconds: float) -> bytes:
    """A WAV of 300 Hz, 16 kHz mono."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        samples = (
            round(9000 * math.sin(2 * math.pi * 300 * index / 16_000))
            for index in range(round(seconds * 16_000))
        )
        out.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return buffer.getvalue()


def picture(kind: str = "JPEG", size: tuple[int, int] = (96, 80)) -> bytes:
    """A grey gradient."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, format=kind)
    return buffer.getvalue()
