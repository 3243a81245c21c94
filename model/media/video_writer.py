"""Frames and a sound into an MP4, streamed.

    VideoWriter(path, ...)    uint8 (H, W, 3) ──marks──▶ PictureEncoder ──▶ H.264
                                                └──▶ FragmentWriter, where somebody watches
                              close: H.264 + sound ──▶ join_videos ──▶ MP4

Nothing here holds more than a few frames, whatever the length of the video.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.errors import EncodingError, ShapeError
from model.media.encoders import VideoEncoder, encoder_arguments
from model.media.fragments import FragmentWriter, Take
from model.media.frame_marks import FrameMark
from model.media.joining import check_sound, join_videos
from model.media.picture_encoder import PictureEncoder, PictureFormat


@dataclass(frozen=True)
class LiveOutput:
    """Who takes a film's fragments while it is written; see `FragmentWriter`."""

    take: Take
    num_frames: int
    is_vital: bool = False


class VideoWriter:
    """Write frames into an MP4 as they come: H.264 yuv420p, index in front, the sound muxed once.

    Pictures are encoded while they come; `close` then muxes the sound, whose length is only known
    by then. The file appears at `path` when it is complete: until then it grows beside it, and on
    an error nothing of it stays. RGB is converted with the BT.709 matrix into limited range and
    tagged so; players show the input's colours. The sound becomes AAC at 48 kHz with its own
    channels, starts with the first frame, and is cut or continued with silence to the length of the
    pictures (to within one AAC packet, 21 ms).

        with VideoWriter(path, width=512, height=512, sound=sound) as writer:
            for frame in frames:
                writer.write(frame)

    Args:
        path: Destination, conventionally `*.mp4`; an existing file is replaced on success.
        width: Width in pixels, even.
        height: Height in pixels, even.
        fps: Frames per second.
        sound: A file with a sound track, or None for a silent film without one.
        crf: Constant rate factor; 18 is visually lossless.
        marks: What is put on each frame, in this order; frames that are written stay as they are.
        tags: Metadata of the file, by ffmpeg's names, such as `title` and `comment`.
        live: Shows the same frames, with their marks, while they are written; None = nobody watches.
        first_frame: Number of the first frame in the whole that this is a part of; marks are told.
        encoder: What makes H.264 of them; the live film is always x264's.
        segment_frames: The encoder begins anew at each multiple of so many frames of the whole, so that
            parts which begin there, joined, are the same file; None = never.

    Raises:
        ShapeError: A side is odd or not positive (yuv420p halves both), or a frame has another
            shape or dtype.
        EncodingError: The place cannot be written, the sound cannot be read, or ffmpeg fails;
            carries its last lines.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        fps: float = 25.0,
        sound: str | os.PathLike[str] | None = None,
        crf: int = 18,
        marks: Sequence[FrameMark] = (),
        tags: Mapping[str, str] | None = None,
        live: LiveOutput | None = None,
        first_frame: int = 0,
        encoder: VideoEncoder = "libx264",
        segment_frames: int | None = None,
    ) -> None:
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ShapeError(f"a video needs even sides of at least 2 pixels, got {width}x{height}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self.path = Path(path)
        self.num_frames = 0
        self._first_frame = first_frame
        self._segment_frames = segment_frames
        self._shape = (height, width, 3)
        self._fps = fps
        self._marks = tuple(marks)
        self._tags = dict(tags or {})
        self._sound = None if sound is None else Path(sound)
        self._sound_channels = 0 if sound is None else check_sound(Path(sound))
        self._format = PictureFormat(
            width,
            height,
            fps,
            tuple(encoder_arguments(encoder, crf)),
            self._tags,
            segment_frames is not None,
        )
        self._parts: list[PictureEncoder] = []
        self._begin_part()
        self._live: FragmentWriter | None = None
        if live is not None:
            self._live = FragmentWriter(
                live.take,
                width=width,
                height=height,
                fps=fps,
                num_frames=live.num_frames,
                sound=self._sound,
                channels=self._sound_channels,
                tags=self._tags,
                is_vital=live.is_vital,
            )

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame `(height, width, 3)`, uint8 RGB."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ShapeError(
                f"expected a uint8 frame {self._shape}, got {frame.dtype} {frame.shape}"
            )
        if not self._parts:
            raise EncodingError(f"the video {self.path} is already closed")
        number = self._first_frame + self.num_frames
        if self._segment_frames and self.num_frames and number % self._segment_frames == 0:
            self._end_part()
            self._begin_part()
        if self._marks:
            frame = frame.copy()
            for mark in self._marks:
                mark.apply(frame, number)
        if self._live is not None:
            self._live.write(frame)
        try:
            self._parts[-1].write(frame)
        except EncodingError as error:
            raise self._failure(error) from error
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file and put it in its place; a second call does nothing."""
        if not self._parts:
            return
        if self.num_frames == 0:
            self.abort()
            raise EncodingError(f"no frame was written to {self.path}: a video needs at least one")
        if self._live is not None:
            self._live.close()
        self._end_part()
        try:
            for part in self._parts:
                part.wait()
        except EncodingError as error:
            raise self._failure(error) from error
        try:
            self._finish()
        except OSError as error:
            raise EncodingError(f"cannot write a video to {self.path}: {error.strerror}") from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop ffmpeg and remove what it has written so far; harmless after `close`."""
        if not self._parts:
            return
        if self._live is not None:
            self._live.abort()
        for part in self._parts:
            part.abort()
            part.path.unlink(missing_ok=True)
        self._parts = []

    def _begin_part(self) -> None:
        # Hidden, and on the same file system, so that the last step is a rename.
        name = f".{self.path.name}.{os.getpid()}.pictures-{len(self._parts)}"
        try:
            self._parts.append(PictureEncoder(self.path.with_name(name), self._format))
        except OSError as error:
            self.abort()
            raise EncodingError(f"cannot write a video to {self.path}: {error.strerror}") from error

    def _end_part(self) -> None:
        """Let the encoder finish, beside the next one; the one before it has."""
        try:
            self._parts[-1].end()
            for part in self._parts[:-1]:
                part.wait()
        except EncodingError as error:
            raise self._failure(error) from error

    def _finish(self) -> None:
        paths = [part.path for part in self._parts]
        if self._sound is None and len(paths) == 1:
            os.replace(paths[0], self.path)
            return
        join_videos(
            paths,
            [part.num_frames for part in self._parts],
            self.path,
            fps=self._fps,
            sound=self._sound,
            channels=self._sound_channels,
            tags=self._tags,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                self.close()
        finally:
            self.abort()

    def _failure(self, error: EncodingError) -> EncodingError:
        """Clean up, and say of which film ffmpeg's words are."""
        self.abort()
        return EncodingError(
            f"ffmpeg could not write {self.path} (after {self.num_frames} frames): {error}"
        )
