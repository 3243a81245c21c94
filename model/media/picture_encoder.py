"""Raw frames into an H.264 film without a sound, by one ffmpeg.

    PictureEncoder    uint8 (H, W, 3) ──raw RGB──▶ ffmpeg ──▶ H.264 in an MP4

One encodes a whole film, or one segment of it.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import EncodingError
from model.media.ffmpeg import ChildStderr, end_child, ffmpeg_path
from model.media.mp4_arguments import mp4_arguments, picture_arguments

_SEGMENT_THREADS: Final = 3
"""Of x264 where a film is encoded in segments: what it encodes depends on how many they are, and hosts differ."""


@dataclass(frozen=True)
class PictureFormat:
    """How pictures are encoded; see `VideoWriter`."""

    width: int
    height: int
    fps: float
    encoding: Sequence[str]
    tags: Mapping[str, str]
    in_segments: bool = False


class PictureEncoder:
    """Encode frames as they come.

    Args:
        path: The film; an existing file is replaced.
        form: What comes, and how it is encoded.

    Raises:
        OSError: The place cannot be written.
        EncodingError: ffmpeg fails, later on; its last lines.
    """

    def __init__(self, path: Path, form: PictureFormat) -> None:
        self.path = path
        self.num_frames = 0
        path.open("wb").close()
        try:
            self._process = subprocess.Popen(
                _command(path, form),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        assert self._process.stderr is not None
        self._stderr = ChildStderr(self._process.stderr)

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame `(height, width, 3)`, uint8 RGB; waits while ffmpeg has enough to do."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._failure() from error
        self.num_frames += 1

    def end(self) -> None:
        """No frame will come; what came is encoded meanwhile, which `wait` waits for."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError as error:
            raise self._failure() from error

    def wait(self) -> None:
        """Return when the film is whole."""
        if self._process.wait() != 0:
            raise self._failure()

    def abort(self) -> None:
        """Stop; the film stays as far as it came. Harmless after `wait`."""
        end_child(self._process)

    def _failure(self) -> EncodingError:
        """Why ffmpeg gave up."""
        # A broken pipe comes before the end of the child, which still has to say why.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        self.abort()
        return EncodingError(self._stderr.last_words())


def _command(path: Path, form: PictureFormat) -> list[str]:
    command = [ffmpeg_path(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{form.width}x{form.height}"]
    command += ["-framerate", repr(float(form.fps)), "-i", "pipe:0", *picture_arguments()]
    command += form.encoding
    if form.in_segments:
        command += ["-threads", str(_SEGMENT_THREADS)]
    return [*command, *mp4_arguments(form.tags), f"file:{path}"]
