"""The intake of sounds.

upload ──▶ size, magic bytes ──▶ limited child: ffmpeg ─┬▶ speech.flac  16 kHz mono, for analysis
                                                        └▶ sound.flac   48 kHz, for the MP4
           both start at the same sample; the MP4's keeps its own channels, at most two
"""

from __future__ import annotations

import hashlib
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.file_checks import audio_type, check_size, file_sha256, head_of
from worker.contract.intake.limited_child import ffmpeg_reading, keep_waiting, run_limited
from worker.contract.intake.limits import IntakeLimits, audio_too_long

SPEECH_RATE_HZ: Final = 16_000
SOUND_RATE_HZ: Final = 48_000
SILENCE: Final = "silence"
"""The format of a sound that nobody sent."""


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


def make_silence(
    seconds: float,
    speech: Path,
    sound: Path,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> AudioInfo:
    """Write the two files of a sound that nobody sent: silence.

    Args:
        seconds: How long it lasts.
        speech: As in `accept_audio`; so are the others.
        sound: See there.
        limits: See there.
        on_wait: See there.

    Raises:
        IntakeError: audio_too_short, audio_too_long.
    """
    _check_length(seconds, limits)
    source = speech.with_name("silence.wav")
    try:
        with wave.open(str(source), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(SPEECH_RATE_HZ)
            out.writeframes(bytes(2 * round(seconds * SPEECH_RATE_HZ)))
        info = accept_audio(source, speech, sound, limits, on_wait)
    finally:
        source.unlink(missing_ok=True)
    return replace(info, format=SILENCE, bytes=0, sha256=hashlib.sha256().hexdigest())


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


def _check_length(seconds: float, limits: IntakeLimits) -> None:
    if seconds < limits.min_audio_s:
        raise IntakeError(
            ErrorCode.AUDIO_TOO_SHORT,
            f"The audio lasts {seconds:.2f} s; at least {limits.min_audio_s:g} s are needed.",
            {"seconds": round(seconds, 3), "min_seconds": limits.min_audio_s},
        )
    if seconds > limits.max_audio_s:
        raise audio_too_long(limits)


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
