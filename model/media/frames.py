"""Frames by number: what dubbing reads, whatever holds them.

    VideoFrames(path)                  a file of constant rate, one ffmpeg a stretch, nothing kept
    shown_numbers(count, ...)          which frame shows when the sound goes on: 0 1 2 3 2 1 0 1 ...
    read_in_order(source, indices)     those frames, stretch by stretch

Reading is exact for a constant frame rate; it is quick where every frame is a key frame, as intake
writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import UnsupportedMediaError
from model.media.probe import probe
from model.media.video_reader import Frame, read_stretch

Ending = Literal["bounce", "repeat", "freeze", "cut"]
"""What comes behind the last frame: backwards and forwards again, the first one again, or the last one. Where the
sound is cut nothing does."""
_HELD_BYTES: Final = 64 * 2**20
"""Frames that are read forwards to be shown backwards take no more memory than this."""


class FrameSource(Protocol):
    """Pictures of one size at a constant rate, in any order."""

    @property
    def num_frames(self) -> int:
        """How many there are."""
        ...

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def fps(self) -> float:
        """Frames per second."""
        ...

    def read(self, start: int, stop: int) -> Iterator[Frame]:
        """Frames `start` to `stop`, `(H, W, 3)` uint8 RGB each; the arrays are the caller's."""
        ...


class VideoFrames:
    """The frames of a video file, read when they are asked for.

    Args:
        path: A file as intake writes it: constant frame rate, upright, even sides.
        fps: Its rate where that is known; None = as its time stamps tell, which are rounded.
    Raises:
        FileNotFoundError: There is no such file.
        UnsupportedMediaError: It has no picture track.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        info = probe(path)
        if not info.num_frames:
            raise UnsupportedMediaError(
                f"{path.name} has no picture track; expected a video. Send one that shows a face."
            )
        self.path = path
        self.num_frames = info.num_frames
        self.width = info.width
        self.height = info.height
        self.fps = info.fps if fps is None else fps
        self._start_s = info.video_start_s

    def read(self, start: int, stop: int) -> Iterator[Frame]:
        """See `FrameSource.read`.

        Raises:
            UnsupportedMediaError: The file ends before `stop`, or cannot be decoded.
        """
        _check_stretch(start, stop, self.num_frames)
        if start == stop:
            return
        # Half a frame early: time stamps are rounded, and the frame must not be passed.
        begin_s = 0.0 if start == 0 else self._start_s + (start - 0.5) / self.fps
        count = 0
        for frame in read_stretch(self.path, begin_s, stop - start):
            count += 1
            yield frame
        if count < stop - start:
            raise UnsupportedMediaError(
                f"{self.path.name} ends at frame {start + count} of {self.num_frames}; expected a "
                "whole video of constant frame rate. Let intake normalise uploads first."
            )


def boomerang(num_wanted: int, num_frames: int) -> NDArray[np.int64]:
    """Numbers of the frames shown: forwards, backwards and so on, no frame twice in a row.

    Args:
        num_wanted: T, frames of the result.
        num_frames: Frames there are, at least 1.
    Returns:
        `(T,)`, 0 to `num_frames - 1`.
    """
    period = max(1, 2 * (num_frames - 1))
    phase = np.arange(num_wanted, dtype=np.int64) % period
    return np.minimum(phase, period - phase) if num_frames > 1 else np.zeros_like(phase)


def shown_numbers(num_wanted: int, num_frames: int, ending: Ending) -> NDArray[np.int64]:
    """Numbers of the frames shown where more are wanted than there are.

    Args:
        num_wanted: T, frames of the result.
        num_frames: Frames there are, at least 1.
        ending: What comes behind the last one.
    Returns:
        `(T,)`, 0 to `num_frames - 1`.
    """
    if ending == "bounce":
        return boomerang(num_wanted, num_frames)
    numbers = np.arange(num_wanted, dtype=np.int64)
    if ending == "repeat":
        return numbers % num_frames
    return np.minimum(numbers, num_frames - 1)


def read_in_order(source: FrameSource, indices: Sequence[int]) -> Iterator[Frame]:
    """The frames of the given numbers, one after the other.

    Stretches that run forwards are read at once. Those that run backwards are read forwards piece
    by piece and turned round; no more than 64 MB of frames are held.
    """
    most = max(1, _HELD_BYTES // (source.width * source.height * 3))
    position = 0
    while position < len(indices):
        count, step = _stretch(indices, position)
        first = indices[position]
        if step < 0:
            count = min(count, most)
            yield from reversed(list(source.read(first - count + 1, first + 1)))
        elif step == 0:
            frame = next(iter(source.read(first, first + 1)))
            for _ in range(count):
                yield frame.copy()
        else:
            yield from source.read(first, first + count)
        position += count


def _stretch(indices: Sequence[int], start: int) -> tuple[int, int]:
    """Length and step (1, 0 or -1) of the run that begins at `start`."""
    if start + 1 == len(indices) or abs(indices[start + 1] - indices[start]) > 1:
        return 1, 1
    step = int(indices[start + 1] - indices[start])
    stop = start + 2
    while stop < len(indices) and indices[stop] - indices[stop - 1] == step:
        stop += 1
    return stop - start, step


def _check_stretch(start: int, stop: int, num_frames: int) -> None:
    if not 0 <= start <= stop <= num_frames:
        raise ValueError(
            f"frames {start} to {stop} of {num_frames} were asked for; expected "
            f"0 <= start <= stop <= {num_frames}"
        )
