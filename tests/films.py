"""Small videos that tests make with ffmpeg: a test pattern whose every frame differs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import imageio_ffmpeg

H264: Final = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg; what it makes replaces an older file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y"]
    subprocess.run([*command, *map(str, arguments)], check=True)


def film(
    path: Path, *arguments: str, size: str = "160x90", fps: str = "25", seconds: float = 1.0
) -> Path:
    """Write a test pattern; the name's suffix chooses the container, H.264 is the codec."""
    pattern = f"testsrc2=size={size}:rate={fps}:duration={seconds}"
    ffmpeg("-f", "lavfi", "-i", pattern, *(arguments or H264), path)
    return path
