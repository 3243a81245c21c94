"""An MP4 that plays while it grows: frames and a sound into fragments, a moment after they came.

    FragmentWriter    uint8 (H, W, 3) ──raw RGB──▶ ffmpeg ──▶ head, fragment, fragment, ...

Fragments are cut at fixed times, begin with a key frame that nothing before is needed for, and carry
their own time. So a second writer of the same frames makes the same fragments, and a film may take
each of them from either.
"""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from model.errors import EncodingError
from model.media.ffmpeg import ChildStderr, end_child, ffmpeg_path, input_arguments
from model.media.mp4_arguments import metadata_arguments, picture_arguments, sound_arguments

FIRST_S: Final = 0.08
"""The first fragment is short, so that a picture is seen soon."""
FRAGMENT_S: Final = 0.48
"""Length of the others, in seconds."""
_EARLY_S: Final = 0.001
"""Times of frames are rounded."""
_CRF: Final = 23
_LARGEST_BOX_BYTES: Final = 2**30
_END_S: Final = 30.0
_log = logging.getLogger(__name__)

Take = Callable[[bytes | None], None]


class FragmentWriter:
    """Write frames as they come into a fragmented MP4, H.264 and AAC.

    The encoder looks ahead at no frame, which a finished file's does, so this is a second and much
    cheaper encoding beside it.

    Args:
        take: Gets the head (`ftyp`, `moov`), then each fragment (`moof`, `mdat`), then None if the film
            is complete; called in a thread of its own. What it raises ends the writing.
        width: Width in pixels, even.
        height: Height in pixels, even.
        fps: Frames per second.
        num_frames: How many will come; the sound has their length.
        sound: A file with a sound track, or None for a silent film.
        channels: Of the sound.
        tags: Metadata of the film, by ffmpeg's names.
        is_vital: Whether what goes wrong is raised; else the log says it and the film stays incomplete.

    Raises:
        EncodingError: ffmpeg or `take` failed, where the film is vital.
    """

    def __init__(
        self,
        take: Take,
        *,
        width: int,
        height: int,
        fps: float,
        num_frames: int,
        sound: Path | None,
        channels: int,
        tags: Mapping[str, str],
        is_vital: bool = False,
    ) -> None:
        self._take = take
        self._is_vital = is_vital
        self._left = num_frames
        self._refused: Exception | None = None
        self._is_over = False
        command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-loglevel", "error"]
        # Without the limit ffmpeg reads several frames to find out what it was told already.
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}"]
        command += ["-framerate", repr(float(fps)), "-probesize", "32", "-i", "pipe:0"]
        if sound is not None:
            command += [*input_arguments(sound), "-map", "0:v:0", "-map", "1:a:0"]
            command += sound_arguments(channels, num_frames / fps)
        command += [*picture_arguments(), *_encoder_arguments(), *metadata_arguments(tags)]
        flags = "+frag_keyframe+delay_moov+default_base_moof+skip_trailer"
        command += ["-movflags", flags, "-flush_packets", "1", "-f", "mp4", "pipe:1"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stderr = ChildStderr(self._process.stderr)
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="fragments", daemon=True
        )
        self._reader.start()

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame `(height, width, 3)`, uint8 RGB."""
        if self._is_over:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            self._give_up(error)
        else:
            self._left -= 1

    def close(self) -> None:
        """Finish the film: when this returns, `take` has got all of it, or never will."""
        if self._is_over:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._reader.join(_END_S)
        except OSError as error:
            self._give_up(error)
            return
        if self._reader.is_alive() or self._process.wait() != 0 or self._refused is not None:
            self._give_up(self._refused or TimeoutError(f"no end within {_END_S:g} s"))
            return
        self._is_over = True
        end_child(self._process)
        if self._left == 0:
            self._take(None)

    def abort(self) -> None:
        """Stop; what was taken stays, and nothing more comes. Harmless after `close`."""
        self._is_over = True
        # First of all, or the pipe that the thread reads could not be closed.
        self._process.kill()
        self._reader.join(_END_S)
        end_child(self._process)

    def _read(self, stream: IO[bytes]) -> None:
        try:
            for piece in read_pieces(stream):
                self._take(piece)
        except Exception as error:  # noqa: BLE001  whatever it is, the thread that writes is told
            self._refused = error
            # It finds its pipe broken.
            self._process.kill()

    def _give_up(self, error: Exception) -> None:
        self.abort()
        # A broken pipe says less than who broke it.
        why = f"{self._refused or self._stderr.last_words()} ({type(error).__name__})"
        if self._is_vital:
            raise EncodingError(f"the film could not be passed on while it is drawn: {why}")
        _log.warning("The film is not shown while it is drawn: %s", why)


def read_pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """The head of a fragmented MP4, then its fragments, each whole.

    Args:
        stream: Blocks while nothing comes.

    Raises:
        EncodingError: It ends within a box, or is no MP4.
    """
    piece = b""
    while header := stream.read(8):
        size, kind = struct.unpack(">I4s", header) if len(header) == 8 else (0, b"")
        if not 8 <= size <= _LARGEST_BOX_BYTES:
            raise EncodingError(f"expected a box of an MP4, got {header!r}")
        body = stream.read(size - 8)
        if len(body) < size - 8:
            raise EncodingError(f"a box {kind!r} of {size} bytes ends after {len(body) + 8}")
        piece += header + body
        # A head ends with moov, a fragment with mdat.
        if kind in (b"moov", b"mdat"):
            yield piece
            piece = b""


def _encoder_arguments() -> list[str]:
    # A key frame at 0, at FIRST_S, and then every FRAGMENT_S, wherever the frames may fall.
    later = f"gte(t,prev_forced_t+{FRAGMENT_S - _EARLY_S})"
    cut = f"expr:if(eq(n_forced,0),1,if(eq(n_forced,1),gte(t,{FIRST_S - _EARLY_S}),{later}))"
    arguments = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency"]
    # One thread: several would be of use to nobody but take turns with those that draw.
    arguments += ["-crf", str(_CRF), "-threads", "1", "-g", "100000", "-sc_threshold", "0"]
    return [*arguments, "-forced-idr", "1", "-force_key_frames", cut]


def write_all(descriptor: int) -> Take:
    """What writes a film to a descriptor such as standard output's."""

    def take(piece: bytes | None) -> None:
        left = memoryview(piece or b"")
        while left:
            left = left[os.write(descriptor, left) :]

    return take
