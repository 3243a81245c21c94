"""Frames and a sound into an MP4, streamed.

    VideoWriter(path, ...)    uint8 (H, W, 3) ──marks──▶ raw RGB over a pipe ──▶ ffmpeg ──▶ H.264
                                                └──▶ FragmentWriter, where somebody watches
                              close: H.264 + sound ──▶ ffmpeg ──▶ MP4

Nothing here holds more than a few frames, whatever the length of the video.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from model.errors import EncodingError, ShapeError, UnsupportedMediaError
from model.media.encoders import VideoEncoder, encoder_arguments
from model.media.ffmpeg import ChildStderr, end_child, ffmpeg_path, input_arguments
from model.media.fragments import FragmentWriter, Take
from model.media.frame_marks import FrameMark
from model.media.mp4_arguments import metadata_arguments, picture_arguments, sound_arguments
from model.media.probe import probe


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
    ) -> None:
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ShapeError(f"a video needs even sides of at least 2 pixels, got {width}x{height}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self.path = Path(path)
        self.num_frames = 0
        self._first_frame = first_frame
        self._shape = (height, width, 3)
        self._fps = fps
        self._marks = tuple(marks)
        self._tags = dict(tags or {})
        self._sound = None if sound is None else Path(sound)
        self._sound_channels = 0 if sound is None else check_sound(Path(sound))
        self._process: subprocess.Popen[bytes] | None = None
        self._pictures = self._beside("pictures")
        self._partial = self._beside("partial")
        try:
            self._pictures.open("wb").close()
        except OSError as error:
            raise EncodingError(f"cannot write a video to {self.path}: {error.strerror}") from error
        command = _encode_command(
            self._pictures,
            width=width,
            height=height,
            fps=fps,
            encoding=encoder_arguments(encoder, crf),
            tags=self._tags,
        )
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        except BaseException:
            self._pictures.unlink(missing_ok=True)
            raise
        assert self._process.stderr is not None
        self._stderr = ChildStderr(self._process.stderr)
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

    def _beside(self, label: str) -> Path:
        """A hidden file on the same file system, so that the last step is a rename."""
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.{label}")

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame `(height, width, 3)`, uint8 RGB."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ShapeError(
                f"expected a uint8 frame {self._shape}, got {frame.dtype} {frame.shape}"
            )
        if self._marks:
            frame = frame.copy()
            for mark in self._marks:
                mark.apply(frame, self._first_frame + self.num_frames)
        if self._live is not None:
            self._live.write(frame)
        try:
            self._stdin().write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._failure() from error
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file and put it in its place; a second call does nothing."""
        if self._process is None:
            return
        if self.num_frames == 0:
            self.abort()
            raise EncodingError(f"no frame was written to {self.path}: a video needs at least one")
        if self._live is not None:
            self._live.close()
        try:
            self._stdin().close()
        except OSError as error:
            raise self._failure() from error
        if self._process.wait() != 0:
            raise self._failure()
        complete = self._pictures
        try:
            if self._sound is not None:
                complete = self._partial
                self._mux(self._sound)
            os.replace(complete, self.path)
        except OSError as error:
            raise EncodingError(f"cannot write a video to {self.path}: {error.strerror}") from error
        finally:
            self.abort()

    def _mux(self, sound: Path) -> None:
        command = mux_command(
            self._pictures,
            sound,
            self._partial,
            channels=self._sound_channels,
            seconds=self.num_frames / self._fps,
            tags=self._tags,
        )
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        self._stderr = ChildStderr(self._process.stderr)
        if self._process.wait() != 0:
            raise self._failure()

    def abort(self) -> None:
        """Stop ffmpeg and remove what it has written so far; harmless after `close`."""
        if self._process is None:
            return
        if self._live is not None:
            self._live.abort()
        end_child(self._process)
        self._process = None
        self._pictures.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)

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

    def _stdin(self) -> BinaryIO | IO[bytes]:
        if self._process is None or self._process.stdin is None:
            raise EncodingError(f"the video {self.path} is already closed")
        return self._process.stdin

    def _failure(self) -> EncodingError:
        """Clean up and describe why ffmpeg gave up."""
        if self._process is not None:
            # A broken pipe comes before the end of the child, which still has to say why.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5.0)
        self.abort()
        return EncodingError(
            f"ffmpeg could not write {self.path} (after {self.num_frames} frames): "
            f"{self._stderr.last_words()}"
        )


def check_sound(sound: Path) -> int:
    """Channels of a sound that is to be muxed; fails before the first frame is rendered."""
    try:
        channels = probe(sound).audio_channels
    except (OSError, UnsupportedMediaError) as error:
        raise EncodingError(f"cannot mux the sound: {error}") from error
    if channels is None:
        raise EncodingError(f"cannot mux the sound: {sound.name} has no sound track")
    return channels


def mp4_arguments(tags: Mapping[str, str]) -> list[str]:
    """What makes ffmpeg's output an MP4 of ours."""
    return [*metadata_arguments(tags), "-movflags", "+faststart", "-f", "mp4"]


def _encode_command(
    destination: Path,
    *,
    width: int,
    height: int,
    fps: float,
    encoding: Sequence[str],
    tags: Mapping[str, str],
) -> list[str]:
    command = [ffmpeg_path(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}"]
    command += ["-framerate", repr(float(fps)), "-i", "pipe:0", *picture_arguments()]
    return [*command, *encoding, *mp4_arguments(tags), f"file:{destination}"]


def mux_command(
    pictures: Path,
    sound: Path,
    destination: Path,
    *,
    channels: int,
    seconds: float,
    tags: Mapping[str, str],
) -> list[str]:
    """The command that adds a sound to pictures, exactly as long as they are."""
    command = [ffmpeg_path(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
    command += [*input_arguments(pictures), *input_arguments(sound)]
    command += ["-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy"]
    command += sound_arguments(channels, seconds)
    return [*command, *mp4_arguments(tags), f"file:{destination}"]
