"""The job of the baseline: as much file work as a test card of one second, and a note of its end."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import imageio_ffmpeg

FRAMES, FRAME_S, WIDTH, HEIGHT = 25, 0.02, 96, 80


def draw(job_id: str, folder: str) -> None:
    """Write `<folder>/<job_id>.mp4` and a line in `<folder>/finished.txt`."""
    target, partial = Path(folder, f"{job_id}.mp4"), Path(folder, f"{job_id}-{os.getpid()}.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "25", "-i", "-", str(partial)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for index in range(FRAMES):
            time.sleep(FRAME_S)
            encoder.stdin.write(bytes([index * 10]) * (WIDTH * HEIGHT * 3))
    partial.rename(target)
    with Path(folder, "finished.txt").open("a") as notes:
        notes.write(f"{job_id}\n")
