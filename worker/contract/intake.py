"""The only door for bytes from outside: sniff, decode in a limited child, leave clean files.

    upload ──▶ size, magic bytes ──▶ child: memory, CPU seconds, file size, wall clock limited
                                       │  picture: Pillow     sound: ffmpeg
                                       ▼
               input.png   RGB, upright, longest side at most `max_side`, even sides
               speech.flac 16 kHz mono, for analysis
               sound.flac  48 kHz, own channels (at most stereo), same first sample, for the MP4

Videos come through `worker.contract.video_intake`, by the same rules.

The service calls it before it accepts a job, `talkface generate` before the pipeline. The parent
never parses a byte beyond the first 64.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.limited_child import ChildLimits, ffmpeg_reading, keep_waiting, run_limited

SPEECH_RATE_HZ = 16_000
SOUND_RATE_HZ = 48_000
SNIFF_BYTES = 64

IMAGE_TYPES = "JPEG, PNG or WebP"
AUDIO_TYPES = "WAV, MP3, M4A, FLAC, Ogg or WebM"


@dataclass(frozen=True)
class IntakeLimits:
    """How much of an upload is tolerated: bytes of the file as it came, pixels before scaling.

    `max_frames_bytes` bounds a normalised video, `video_wall_clock_s` and `video_cpu_s` its making.
    """

    max_image_bytes: int = 20 * 2**20
    max_audio_bytes: int = 50 * 2**20
    max_video_bytes: int = 200 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 1280
    min_side: int = 64
    min_audio_s: float = 0.2
    max_audio_s: float = 600.0
    min_video_s: float = 0.2
    max_video_s: float = 600.0
    max_frames_bytes: int = 16 * 2**30
    wall_clock_s: float = 60.0
    cpu_s: int = 45
    video_wall_clock_s: float = 900.0
    video_cpu_s: int = 1800
    memory_bytes: int = 2 * 2**30

    def child(self, max_file_bytes: int) -> ChildLimits:
        """Bounds of a decoder of pictures or sounds that may write so much."""
        return ChildLimits(self.memory_bytes, self.cpu_s, self.wall_clock_s, max_file_bytes)


@dataclass(frozen=True)
class ImageInfo:
    """A normalised picture: its size after scaling, and digest and size of the bytes that came."""

    width: int
    height: int
    format: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class AudioInfo:
    """A normalised sound: its decoded length, and digest and size of the bytes that came."""

    seconds: float
    sample_rate_hz: int
    channels: int
    format: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class FlacStream:
    """The STREAMINFO block of a FLAC file."""

    sample_rate_hz: int
    channels: int
    num_samples: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate_hz


def accept_image(
    source: Path,
    destination: Path,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> ImageInfo:
    """Check an uploaded picture and write it as normalised PNG.

    Args:
        source: The bytes as they came.
        destination: Where the PNG goes: RGB, upright, longest side at most `max_side`, even sides.
        limits: What is tolerated.
        on_wait: Called while it is decoded; what it raises stops that.

    Returns:
        The normalised size and the upload's digest.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, face_too_small.
    """
    num_bytes = check_size(source, "picture", limits.max_image_bytes)
    kind = image_type(head_of(source))
    request = {
        "source": str(source),
        "destination": str(destination),
        "format": kind,
        "max_pixels": limits.max_pixels,
        "max_side": limits.max_side,
        "min_side": limits.min_side,
    }
    end = run_limited(
        [sys.executable, "-P", "-m", "worker.contract.picture_child", json.dumps(request)],
        limits.child(max_file_bytes=64 * 2**20),
        what="picture",
        on_wait=on_wait,
    )
    answer = _child_answer(end.output) if end.status == 0 else None
    if answer is None:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The picture looks like {kind} but cannot be decoded. Save it again and resend it.",
            {"decoder": end.words},
        )
    if "code" in answer:
        params = answer.get("params")
        raise IntakeError(
            ErrorCode(str(answer["code"])),
            str(answer["detail"]),
            params if isinstance(params, dict) else None,
        )
    return ImageInfo(
        width=int(str(answer["width"])),
        height=int(str(answer["height"])),
        format=kind.lower(),
        bytes=num_bytes,
        sha256=file_sha256(source),
    )


def accept_audio(
    source: Path,
    speech: Path,
    sound: Path,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> AudioInfo:
    """Check an uploaded sound and write it as two FLAC files that start at the same sample.

    Args:
        source: The bytes as they came.
        speech: Where the analysis signal goes, 16 kHz mono.
        sound: Where the sound for the MP4 goes, 48 kHz, mono or stereo.
        limits: What is tolerated.
        on_wait: Called while it is decoded; what it raises stops that.

    Returns:
        The decoded length, the channels of `sound` and the upload's digest.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, audio_too_short,
            audio_too_long.
    """
    num_bytes = check_size(source, "audio", limits.max_audio_bytes)
    demuxer = audio_type(head_of(source))
    end = run_limited(
        _ffmpeg_arguments(source, demuxer, speech, sound, limits),
        # 48 kHz stereo of the longest sound as raw 16-bit samples: FLAC is never much larger.
        limits.child(max_file_bytes=int(limits.max_audio_s + 2) * SOUND_RATE_HZ * 4 + 2**20),
        what="audio",
        on_wait=on_wait,
    )
    if end.status != 0 or not speech.is_file() or not sound.is_file():
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The audio looks like {demuxer} but no sound can be decoded from it. "
            "Save it again and resend it.",
            {"decoder": end.words},
        )
    spoken, track = flac_stream(speech), flac_stream(sound)
    _check_length(spoken.seconds, limits)
    return AudioInfo(
        seconds=round(spoken.seconds, 3),
        sample_rate_hz=track.sample_rate_hz,
        channels=track.channels,
        format=demuxer,
        bytes=num_bytes,
        sha256=file_sha256(source),
    )


def flac_stream(path: Path) -> FlacStream:
    """Read the STREAMINFO block of a FLAC file that `accept_audio` wrote.

    Raises:
        IntakeError: undecodable_media, not a FLAC file with a known length.
    """
    with path.open("rb") as stream:
        head = stream.read(42)
    if len(head) < 42 or head[:4] != b"fLaC" or head[4] & 0x7F != 0:
        raise IntakeError(ErrorCode.UNDECODABLE_MEDIA, "No sound can be decoded from the audio.")
    # RFC 9639 section 8.2: 20 bits rate, 3 bits channels - 1, 5 bits depth - 1, 36 bits samples.
    packed = int.from_bytes(head[18:26], "big")
    return FlacStream(
        sample_rate_hz=packed >> 44,
        channels=(packed >> 41 & 0b111) + 1,
        num_samples=packed & (1 << 36) - 1,
    )


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_size(source: Path, what: str, limit_bytes: int) -> int:
    """Size of an upload in bytes.

    Raises:
        IntakeError: undecodable_media, it is empty; file_too_large.
    """
    num_bytes = source.stat().st_size
    if num_bytes == 0:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} file is empty. Check the file and send it again.",
        )
    if num_bytes > limit_bytes:
        raise IntakeError(
            ErrorCode.FILE_TOO_LARGE,
            f"The {what} has {num_bytes} bytes; the limit is {limit_bytes}. Send a smaller file.",
            {"bytes": num_bytes, "limit_bytes": limit_bytes},
        )
    return num_bytes


def audio_too_long(limits: IntakeLimits) -> IntakeError:
    """What is said of a sound that lasts too long."""
    return IntakeError(
        ErrorCode.AUDIO_TOO_LONG,
        f"The audio is longer than the limit of {limits.max_audio_s:g} s. Send it in parts.",
        {"max_seconds": limits.max_audio_s},
    )


def _check_length(seconds: float, limits: IntakeLimits) -> None:
    if seconds < limits.min_audio_s:
        raise IntakeError(
            ErrorCode.AUDIO_TOO_SHORT,
            f"The audio lasts {seconds:.2f} s; at least {limits.min_audio_s:g} s are needed.",
            {"seconds": round(seconds, 3), "min_seconds": limits.min_audio_s},
        )
    if seconds > limits.max_audio_s:
        raise audio_too_long(limits)


def head_of(source: Path) -> bytes:
    """The magic bytes: all that this process reads of an upload."""
    with source.open("rb") as stream:
        return stream.read(SNIFF_BYTES)


def image_type(head: bytes) -> str:
    """Pillow's name of the format, from the magic bytes.

    Raises:
        IntakeError: unsupported_media_type.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    raise IntakeError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        f"The picture is not {IMAGE_TYPES}. Send one of these; the name does not matter.",
    )


def audio_type(head: bytes) -> str:
    """The demuxer for the magic bytes; naming it takes the guess out of ffmpeg's hands.

    Raises:
        IntakeError: unsupported_media_type.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"fLaC"):
        return "flac"
    if head.startswith(b"OggS"):
        return "ogg"
    if head[4:8] == b"ftyp":
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"ID3"):
        return "mp3"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # The layer bits are 0 in an ADTS header and never in an MPEG audio header.
        return "aac" if head[1] & 0x06 == 0 else "mp3"
    raise IntakeError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        f"The audio is not {AUDIO_TYPES}. Send one of these; the name does not matter.",
    )


def _ffmpeg_arguments(
    source: Path, demuxer: str, speech: Path, sound: Path, limits: IntakeLimits
) -> list[str]:
    # One decode feeds both files, so they share their first sample whatever the container's time
    # stamps say. One second more than allowed is enough to see that the sound is too long.
    # `aresample` in each branch keeps ffmpeg from settling on one format for both before the split.
    graph = (
        "[0:a:0]asplit=2[a][b];"
        f"[a]aresample={SPEECH_RATE_HZ},aformat=sample_fmts=s16:channel_layouts=mono[speech];"
        f"[b]aresample={SOUND_RATE_HZ},aformat=sample_fmts=s16:channel_layouts=mono|stereo[sound]"
    )
    plain_flac = ["-map_metadata", "-1", "-c:a", "flac", "-compression_level", "0", "-f", "flac"]
    return [
        *ffmpeg_reading(source, demuxer, options=["-t", f"{limits.max_audio_s + 1:g}"]),
        *("-filter_complex", graph),
        *("-map", "[speech]", *plain_flac, f"file:{speech}"),
        *("-map", "[sound]", *plain_flac, f"file:{sound}"),
    ]


def _child_answer(output: bytes) -> dict[str, object] | None:
    try:
        answer = json.loads(output)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
