"""A small picture of a video, for lists."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from model.errors import EncodingError
from model.media.ffmpeg import SCALE_FLAGS, ffmpeg_path, input_arguments

THUMBNAIL_SIDE: Final = 320
"""Longest side in pixels; a smaller video keeps its size."""
_LIMIT_S: Final = 60.0


def write_thumbnail(video: Path, target: Path, *, at_s: float) -> None:
    """Write one frame as a JPEG.

    Args:
        video: A video of ours.
        target: The JPEG to write.
        at_s: When the frame is shown, in seconds; the one before it where none begins then.

    Raises:
        EncodingError: ffmpeg could not do it.
        MissingDependencyError: There is no ffmpeg.
    """
    side = THUMBNAIL_SIDE
    fit = f"scale='min({side},iw)':'min({side},ih)':force_original_aspect_ratio=decrease"
    command = [
        *(ffmpeg_path(), "-nostdin", "-v", "error", "-y", "-threads", "1"),
        # Before the input: ffmpeg jumps to the key frame before it and decodes from there.
        *("-ss", f"{at_s:.3f}", *input_arguments(video)),
        *("-frames:v", "1", "-vf", f"{fit}:flags={SCALE_FLAGS}", "-q:v", "4", "-f", "mjpeg"),
        str(target),
    ]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise EncodingError(f"no picture of the video within {_LIMIT_S:g} s") from error
    if ended.returncode or not target.exists() or target.stat().st_size == 0:
        words = ended.stderr.decode("utf-8", "replace").strip()
        raise EncodingError(f"no picture of the video: {words or 'it has no frame there'}")
