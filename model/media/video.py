"""Video in and out, streamed through the ffmpeg binary that imageio-ffmpeg carries.

    read_frames(path)        ffmpeg ──PPM pictures over a pipe──▶ uint8 (H, W, 3)
    VideoWriter(path, ...)   uint8 (H, W, 3) ──raw RGB over a pipe──▶ ffmpeg ──▶ MP4
    probe(path)              what a file holds, from its packets (no ffprobe lies beside the binary)

Nothing here holds more than a few frames, whatever the length of the video.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image

from model.errors import (
    EncodingError,
    MissingDependencyError,
    ShapeError,
    UnsupportedMediaError,
)

Frame = npt.NDArray[np.uint8]

SOUND_RATE_HZ = 48_000
SOUND_BITRATE_PER_CHANNEL_KBPS = 64
MIN_SOUND_BITRATE_KBPS = 128

# Full chroma interpolation and accurate rounding: swscale's fast paths
# cost about 1 dB and tint greys.
_SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_ERROR_LINES = 12
_DESCRIPTION_LINES = 400


@dataclass(frozen=True)
class MediaInfo:
    """What `probe` found; a field of an absent track is None (0 for counts and durations).

    `fps` is the mean rate (frames / duration). Durations are those of the presented track in
    seconds, so the encoder's priming samples before time zero do not count. `faststart` says that
    an MP4's index (`moov`) lies before its data; it is False for every other container.
    `video_start_s` is the time stamp of the first picture.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    duration_s: float
    video_codec: str | None
    pix_fmt: str | None
    audio_codec: str | None
    audio_sample_rate_hz: int | None
    audio_channels: int | None
    audio_duration_s: float
    faststart: bool
    video_start_s: float = 0.0


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


class _Stderr:
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


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a child for certain and collect it."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    if process.poll() is None:
        process.kill()
    process.wait()


def _input_arguments(path: Path) -> list[str]:
    # "file:" keeps ffmpeg from taking a name such as "concat:a" for something else than a file.
    return ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]


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
        *_input_arguments(source),
    ]
    command += ["-map", "0:V:0", *output, "-fps_mode", "passthrough", "-sws_flags", _SCALE_FLAGS]
    # PPM carries its own size, so neither a rotation tag nor an odd file can shift the rows.
    command += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    stderr = _Stderr(process.stderr)
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
        _kill(process)


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


@dataclass
class _Track:
    """One track in ffmpeg's `framecrc` listing; times in units of `time_base` seconds."""

    kind: str = ""
    codec: str = ""
    time_base: Fraction = Fraction(1)
    width: int = 0
    height: int = 0
    sample_rate_hz: int = 0
    channel_layout: str = ""
    num_packets: int = 0
    first: int | None = None
    end: int = 0

    def add_packet(self, pts: int, duration: int) -> None:
        self.num_packets += 1
        self.first = pts if self.first is None else min(self.first, pts)
        self.end = max(self.end, pts + duration)

    @property
    def duration_s(self) -> Fraction:
        """Presented length: packets before time zero are an encoder's priming."""
        if self.first is None:
            return Fraction(0)
        return (self.end - max(0, self.first)) * self.time_base


_HEADER = re.compile(r"#(\w+) (\d+): (.+)")
_PACKET = re.compile(r"(\d+),\s*-?\d+,\s*(-?\d+),\s*(\d+),")


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Say what a media file holds: first picture track, first sound track.

    Counts and durations come from the packets themselves, not from a header that may be wrong;
    nothing is decoded.

    Raises:
        FileNotFoundError: There is no such file.
        UnsupportedMediaError: ffmpeg cannot read it, or it holds neither pictures nor sound.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"no such media file: {source}")
    command = [
        ffmpeg_path(),
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "info",
        "-nostats",
        *_input_arguments(source),
    ]
    command += [
        "-map",
        "0:V:0?",
        "-map",
        "0:a:0?",
        "-c",
        "copy",
        "-copyts",
        "-f",
        "framecrc",
        "pipe:1",
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    stderr = _Stderr(process.stderr)
    tracks: dict[int, _Track] = {}
    try:
        for raw in process.stdout:
            _read_listing_line(raw.decode("utf-8", "replace"), tracks)
        status = process.wait()
    finally:
        _kill(process)
    pictures = next((track for track in tracks.values() if track.kind == "video"), None)
    sound = next((track for track in tracks.values() if track.kind == "audio"), None)
    if status != 0 or (pictures is None and sound is None):
        raise UnsupportedMediaError(f"cannot read {source.name} as media: {stderr.last_words()}")
    pictures_s = pictures.duration_s if pictures else Fraction(0)
    return MediaInfo(
        width=pictures.width if pictures else 0,
        height=pictures.height if pictures else 0,
        fps=float(pictures.num_packets / pictures_s) if pictures and pictures_s else 0.0,
        num_frames=pictures.num_packets if pictures else 0,
        duration_s=float(pictures_s),
        video_codec=pictures.codec if pictures else None,
        pix_fmt=_pixel_format(stderr.description()) if pictures else None,
        audio_codec=sound.codec if sound else None,
        audio_sample_rate_hz=sound.sample_rate_hz if sound else None,
        audio_channels=_count_channels(sound.channel_layout) if sound else None,
        audio_duration_s=float(sound.duration_s) if sound else 0.0,
        faststart=_is_faststart(source),
        video_start_s=float((pictures.first or 0) * pictures.time_base) if pictures else 0.0,
    )


def _read_listing_line(line: str, tracks: dict[int, _Track]) -> None:
    """Take one line of the `framecrc` format into `tracks`, by stream index."""
    if packet := _PACKET.match(line):
        tracks[int(packet[1])].add_packet(int(packet[2]), int(packet[3]))
        return
    header = _HEADER.match(line)
    if header is None:
        return
    name, value = header[1], header[3].strip()
    track = tracks.setdefault(int(header[2]), _Track())
    if name == "tb":
        track.time_base = Fraction(value)
    elif name == "media_type":
        track.kind = value
    elif name == "codec_id":
        track.codec = value
    elif name == "dimensions":
        track.width, track.height = (int(side) for side in value.split("x"))
    elif name == "sample_rate":
        track.sample_rate_hz = int(value)
    elif name == "channel_layout_name":
        track.channel_layout = value


def _pixel_format(description: str) -> str | None:
    """The pixel format in ffmpeg's line about the picture stream: `yuv420p(tv, bt709), ...`."""
    found = re.search(r"Stream #0:\d+.*?: Video: [^,(]+(?:\([^)]*\)\s*)*, (\w+)", description)
    return found[1] if found else None


def _count_channels(layout: str) -> int | None:
    """Channels of a layout as ffmpeg names it: `mono`, `quad`, `5.1(side)`, `3 channels`."""
    named = {
        "mono": 1,
        "stereo": 2,
        "downmix": 2,
        "quad": 4,
        "hexagonal": 6,
        "octagonal": 8,
        "cube": 8,
    }
    base = layout.split("(")[0].strip()
    if base in named:
        return named[base]
    if counted := re.match(r"(\d+) channels", base):
        return int(counted[1])
    if re.fullmatch(r"\d+(\.\d+)+", base):
        return sum(int(part) for part in base.split("."))
    return None


def _is_faststart(path: Path) -> bool:
    """Whether the `moov` box of an MP4 lies before its `mdat` (ISO/IEC 14496-12)."""
    with path.open("rb") as stream:
        while len(header := stream.read(8)) == 8:
            size, kind = int.from_bytes(header[:4], "big"), header[4:]
            if kind == b"moov":
                return True
            if kind == b"mdat":
                return False
            consumed = 8
            if size == 1:  # a 64-bit size follows
                size, consumed = int.from_bytes(stream.read(8), "big"), 16
            if size < consumed:  # 0 means "to the end"; anything else is no MP4
                return False
            stream.seek(size - consumed, os.SEEK_CUR)
    return False


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
        crf: x264's constant rate factor; 18 is visually lossless.

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
    ) -> None:
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ShapeError(f"a video needs even sides of at least 2 pixels, got {width}x{height}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self.path = Path(path)
        self.num_frames = 0
        self._shape = (height, width, 3)
        self._fps = fps
        self._sound = None if sound is None else Path(sound)
        self._sound_channels = 0 if sound is None else _check_sound(Path(sound))
        self._process: subprocess.Popen[bytes] | None = None
        self._pictures = self._beside("pictures")
        self._partial = self._beside("partial")
        try:
            self._pictures.open("wb").close()
        except OSError as error:
            raise EncodingError(f"cannot write a video to {self.path}: {error.strerror}") from error
        command = _encode_command(self._pictures, width=width, height=height, fps=fps, crf=crf)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        except BaseException:
            self._pictures.unlink(missing_ok=True)
            raise
        assert self._process.stderr is not None
        self._stderr = _Stderr(self._process.stderr)

    def _beside(self, label: str) -> Path:
        """A hidden file on the same file system, so that the last step is a rename."""
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.{label}")

    def write(self, frame: Frame) -> None:
        """Append one frame `(height, width, 3)`, uint8 RGB."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ShapeError(
                f"expected a uint8 frame {self._shape}, got {frame.dtype} {frame.shape}"
            )
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
        command = _mux_command(
            self._pictures,
            sound,
            self._partial,
            channels=self._sound_channels,
            num_samples=round(self.num_frames / self._fps * SOUND_RATE_HZ),
        )
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        self._stderr = _Stderr(self._process.stderr)
        if self._process.wait() != 0:
            raise self._failure()

    def abort(self) -> None:
        """Stop ffmpeg and remove what it has written so far; harmless after `close`."""
        if self._process is None:
            return
        _kill(self._process)
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


def _check_sound(sound: Path) -> int:
    """Channels of a sound that is to be muxed; fails before the first frame is rendered."""
    try:
        channels = probe(sound).audio_channels
    except (OSError, UnsupportedMediaError) as error:
        raise EncodingError(f"cannot mux the sound: {error}") from error
    if channels is None:
        raise EncodingError(f"cannot mux the sound: {sound.name} has no sound track")
    return channels


# No metadata of the upload (it may name people and places) and none of the encoder's version.
_MP4_ARGUMENTS = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]
_MP4_ARGUMENTS += ["-movflags", "+faststart", "-f", "mp4"]


def _encode_command(
    destination: Path, *, width: int, height: int, fps: float, crf: int
) -> list[str]:
    command = [ffmpeg_path(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}"]
    command += ["-framerate", repr(float(fps)), "-i", "pipe:0"]
    # The conversion is spelled out: ffmpeg's default for RGB is the BT.601 matrix without any tag,
    # which players read as BT.709 on large pictures, and skin changes its colour.
    conversion = f"scale=out_color_matrix=bt709:out_range=tv:flags={_SCALE_FLAGS},format=yuv420p"
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    command += ["-vf", f"{conversion},{tags}", "-fps_mode", "passthrough"]
    command += ["-c:v", "libx264", "-crf", str(crf), "-preset", "medium"]
    return [*command, *_MP4_ARGUMENTS, f"file:{destination}"]


def _mux_command(
    pictures: Path, sound: Path, destination: Path, *, channels: int, num_samples: int
) -> list[str]:
    command = [ffmpeg_path(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
    command += [*_input_arguments(pictures), *_input_arguments(sound)]
    command += ["-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy"]
    # Exact by counting samples: -shortest was off by up to 70 ms at 12.5 fps.
    length = f"apad=whole_len={num_samples},atrim=end_sample={num_samples}"
    bitrate_kbps = max(MIN_SOUND_BITRATE_KBPS, SOUND_BITRATE_PER_CHANNEL_KBPS * channels)
    command += ["-af", f"aresample={SOUND_RATE_HZ},{length}", "-c:a", "aac"]
    command += ["-b:a", f"{bitrate_kbps}k", "-ar", str(SOUND_RATE_HZ)]
    return [*command, *_MP4_ARGUMENTS, f"file:{destination}"]


def write_contact_sheet(
    frames: Iterable[Frame], path: str | os.PathLike[str], columns: int
) -> None:
    """Tile pictures left to right, top to bottom into one image file.

    Args:
        frames: Pictures `(H, W, 3)`, uint8 RGB, all of one shape.
        path: Destination; the suffix chooses the format.
        columns: Pictures in a row.

    Raises:
        ShapeError: No pictures, or shapes differ.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    pictures = list(frames)
    if not pictures or any(
        picture.shape != pictures[0].shape or picture.ndim != 3 for picture in pictures
    ):
        raise ShapeError(
            "a contact sheet needs pictures of one shape (H, W, 3), got "
            f"{sorted({picture.shape for picture in pictures})}"
        )
    height, width = pictures[0].shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = picture
    Image.fromarray(sheet).save(path)
