"""Frames of a video file, streamed.

    read_frames(path)     ffmpeg ──PPM pictures over a pipe──▶ uint8 (H, W, 3)
    read_stretch(path)    the same for a part of the file

Nothing here holds more than a few frames, whatever the length of the video.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from model.errors import UnsupportedMediaError
from model.media.ffmpeg import SCALE_FLAGS, ChildStderr, end_child, ffmpeg_path, input_arguments

Frame = NDArray[np.uint8]


def read_frames(path: str | os.PathLike[str], *, fps: float | None = 25.0) -> Iterator[Frame]:
    """Decode a video frame by frame.

    Args:
        path: A video file of ours or one that intake has accepted.
        fps: Rate in frames per second to which frames are dropped or repeated; None keeps the
            file's own frames.

    Yields:
        Frames `(H, W, 3)`, uint8 RGB, upright (a rotation tag is applied). The arrays are the
        caller's to keep.

    Raises:
        FileNotFoundError: There is no such file.
        UnsupportedMediaError: ffmpeg cannot decode it, or it has no picture track.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"no such video: {source}")
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be positive or None, got {fps}")
    # The filter counts better than "-r", which repeats the last frame once or twice.
    return _decode(source, [] if fps is None else ["-vf", f"fps={fps!r}"])


def read_stretch(path: Path, begin_s: float, num_frames: int) -> Iterator[Frame]:
    """Decode a part of a video: its own frames, none repeated or dropped.

    Args:
        path: A video file of ours or one that intake has accepted.
        begin_s: Frames with a time stamp before this one are left out; 0 or less leaves out none.
        num_frames: Most frames to decode.

    Yields:
        Frames `(H, W, 3)`, uint8 RGB, upright; fewer when the file ends.

    Raises:
        UnsupportedMediaError: ffmpeg cannot decode the file there.
    """
    # By time stamps and not from the start of the file: a sound track may begin earlier.
    seek = ["-seek_timestamp", "1", "-ss", f"{begin_s:.6f}"] if begin_s > 0 else []
    return _decode(path, ["-frames:v", str(num_frames)], seek)


def _decode(source: Path, output: list[str], seek: Sequence[str] = ()) -> Iterator[Frame]:
    command = [
        ffmpeg_path(),
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "error",
        *seek,
        *input_arguments(source),
    ]
    command += ["-map", "0:V:0", *output, "-fps_mode", "passthrough", "-sws_flags", SCALE_FLAGS]
    # PPM carries its own size, so neither a rotation tag nor an odd file can shift the rows.
    command += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    stderr = ChildStderr(process.stderr)
    count = 0
    try:
        while (frame := _read_ppm(process.stdout)) is not None:
            count += 1
            yield frame
        if process.wait() != 0 or count == 0:
            raise UnsupportedMediaError(
                f"cannot decode {source.name} as video (after {count} frames): "
                f"{stderr.last_words()}"
            )
    finally:
        end_child(process)


def _read_ppm(stream: IO[bytes]) -> Frame | None:
    """Read one binary PPM picture `(H, W, 3)` uint8, or None at the end (also one cut short)."""
    magic = stream.readline(16)
    size = stream.readline(32).split()
    depth = stream.readline(16)
    if magic != b"P6\n" or len(size) != 2 or depth != b"255\n":
        return None
    width, height = int(size[0]), int(size[1])
    pixels = bytearray(width * height * 3)
    view = memoryview(pixels)
    filled = 0
    while filled < len(pixels):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)
