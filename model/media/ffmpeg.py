"""The ffmpeg binary that imageio-ffmpeg carries: where it is, how it is started, what it says, how it ends.

Pictures and sound go through its pipes; `probe`, `video_reader` and `video_writer` say how.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import deque
from pathlib import Path
from typing import IO, Final

import imageio_ffmpeg

from model.errors import MissingDependencyError

# Full chroma interpolation and accurate rounding: swscale's fast paths cost about 1 dB and tint greys.
SCALE_FLAGS: Final = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_ERROR_LINES: Final = 12
_DESCRIPTION_LINES: Final = 400


def ffmpeg_path() -> str:
    """Path of the ffmpeg binary (imageio-ffmpeg's own, or the one that `IMAGEIO_FFMPEG_EXE` names).

    Raises:
        MissingDependencyError: The installed imageio-ffmpeg carries no binary for this platform.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MissingDependencyError(
            "no ffmpeg binary: imageio-ffmpeg carries none for this platform; install ffmpeg and "
            "set IMAGEIO_FFMPEG_EXE to its path"
        ) from error


def input_arguments(path: Path) -> list[str]:
    """The part of a command that opens one file, and nothing that the file points at."""
    # "file:" keeps ffmpeg from taking a name such as "concat:a" for something else than a file.
    return ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]


class ChildStderr:
    """What a child says on stderr: its first and last lines.

    A thread drains the pipe, so that a talkative child never blocks, and keeps little, so that
    memory stays flat.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_ERROR_LINES)
        self._thread = threading.Thread(target=self._drain, args=(stream,), daemon=True)
        self._thread.start()

    def _drain(self, stream: IO[bytes]) -> None:
        with stream:
            # readline with a limit: a line without an end must not grow in memory.
            for raw in iter(lambda: stream.readline(4096), b""):
                line = raw.decode("utf-8", "replace").rstrip()
                if line and len(self._head) < _DESCRIPTION_LINES:
                    self._head.append(line)
                if line:
                    self._tail.append(line)

    def description(self) -> str:
        """What ffmpeg told about its input; call it after the child has ended."""
        self._thread.join(timeout=5.0)
        return "\n".join(self._head)

    def last_words(self) -> str:
        """Why ffmpeg gave up; call it after the child has ended."""
        self._thread.join(timeout=5.0)
        return "\n".join(self._tail) or "(ffmpeg said nothing)"


def end_child(process: subprocess.Popen[bytes]) -> None:
    """End a child for certain and collect it."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    if process.poll() is None:
        process.kill()
    process.wait()
