"""The intake of sounds.

upload ──▶ size, first bytes ──▶ track and its clock ──▶ limited child: ffmpeg ─┬▶ speech.flac  16 kHz mono
                                                              ▲                 ├▶ sound.flac   48 kHz
                                                              └──── remedy ◀────┴▶ levels
           speech.flac is for analysis; sound.flac for the MP4 and keeps its own channels, at most
           two; both start at the same sample
"""

from __future__ import annotations

import hashlib
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.decoder_orders import ChildEnd
from worker.contract.intake.descriptions import describe
from worker.contract.intake.file_checks import check_size, file_sha256
from worker.contract.intake.limited_child import (
    ffmpeg_reading,
    keep_waiting,
    run_limited,
)
from worker.contract.intake.limits import IntakeLimits, audio_too_long
from worker.contract.intake.sniffing import Sniffed, sniff_file
from worker.contract.intake.sound_lengths import check_one_wav, check_whole
from worker.contract.intake.sound_measures import Remedy, find_remedy, read_levels
from worker.contract.intake.sound_tracks import SoundTrack, choose_track

SPEECH_RATE_HZ: Final = 16_000
SOUND_RATE_HZ: Final = 48_000
SILENCE: Final = "silence"
"""The format of a sound that nobody sent."""
# Time stamps that jump by more than this are a hole, or sound that comes twice.
_MIN_HOLE_S: Final = 0.03


@dataclass(frozen=True)
class AudioInfo:
    """A normalised sound: its decoded length, and digest and size of the bytes that came.

    `notes` are sentences for the person who sent it: what was chosen or mended.
    """

    seconds: float
    sample_rate_hz: int
    channels: int
    format: str
    bytes: int
    sha256: str
    notes: tuple[str, ...] = ()


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
    *,
    offset_ms: int = 0,
) -> AudioInfo:
    """Check an uploaded sound and write it as two FLAC files that start at the same sample.

    Args:
        source: The bytes as they came.
        speech: Where the analysis signal goes, 16 kHz mono.
        sound: Where the sound for the MP4 goes, 48 kHz, mono or stereo.
        limits: What is tolerated.
        on_wait: Called while it is decoded; what it raises stops that.
        offset_ms: By how much the sound is moved; below 0 its beginning is cut off.

    Returns:
        The decoded length, the channels of `sound` and the upload's digest.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, audio_too_short,
            audio_too_long.
    """
    num_bytes = check_size(source, "audio", limits.max_audio_bytes)
    sniffed = sniff_file(source, "audio", "audio")
    check_one_wav(source, sniffed)
    described = describe(source, sniffed, limits, "audio")
    track = choose_track(described, sniffed)
    if track.told_s is not None and track.told_s > limits.max_audio_s + 1:
        raise audio_too_long(limits)

    def decode(remedy: Remedy) -> ChildEnd:
        return run_limited(
            _ffmpeg_arguments(source, sniffed, track, remedy, speech, sound, limits, offset_ms),
            # 48 kHz stereo of the longest sound as raw 16-bit samples: FLAC is never much larger.
            limits.child(max_file_bytes=int(limits.max_audio_s + 2) * SOUND_RATE_HZ * 4 + 2**20),
            what="audio",
            reads=[source],
            writes=speech.parent,
            on_wait=on_wait,
        )

    # 1. as it is, with the levels of its channels
    end = decode(Remedy())
    if end.status != 0 or not speech.is_file() or not sound.is_file():
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The audio looks like {sniffed.format.name} but no sound can be decoded from it. "
            "Save it again and resend it.",
            {"decoder": end.words},
        )
    spoken = flac_stream(speech)
    check_whole(source, sniffed, track.told_s, spoken.seconds - offset_ms / 1000, end.errors)
    _check_length(spoken.seconds, limits)

    # 2. again, where the speech would not be heard
    remedy = _remedy(end)
    if remedy.is_needed:
        end = decode(remedy)
        if end.status != 0:
            raise IntakeError(
                ErrorCode.UNDECODABLE_MEDIA,
                "The audio's channels cannot be taken apart. Save it as mono and resend it.",
                {"decoder": end.words},
            )
    stream = flac_stream(sound)
    return AudioInfo(
        seconds=round(flac_stream(speech).seconds, 3),
        sample_rate_hz=stream.sample_rate_hz,
        channels=stream.channels,
        format=sniffed.reader,
        bytes=num_bytes,
        sha256=file_sha256(source),
        notes=(*_track_notes(len(described.sounds), track.number, remedy), *remedy.notes),
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
    # nobody has to be told that there is no sound in it
    return replace(info, format=SILENCE, bytes=0, sha256=hashlib.sha256().hexdigest(), notes=())


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


def _remedy(end: ChildEnd) -> Remedy:
    channels, mono = read_levels(end.errors, "channels"), read_levels(end.errors, "mono")
    stereo = read_levels(end.errors, "stereo")
    return find_remedy(channels, mono[0], stereo) if channels and mono and stereo else Remedy()


def _track_notes(count: int, chosen: int, remedy: Remedy) -> tuple[str, ...]:
    if count < 2:
        return ()
    if remedy.is_silent:
        return (
            f"Sound track {chosen + 1} of {count} was taken, as players do, and it is silent. If "
            "another one has the voice, send that one alone.",
        )
    return (f"Sound track {chosen + 1} of {count} was taken, as players do.",)


def _ffmpeg_arguments(
    source: Path,
    sniffed: Sniffed,
    track: SoundTrack,
    remedy: Remedy,
    speech: Path,
    sound: Path,
    limits: IntakeLimits,
    offset_ms: int,
) -> list[str]:
    # `aresample` fills holes in the time stamps, and what lies before the first one, with silence.
    # One decode feeds both files, so they share their first sample whatever the container's time
    # stamps say. One second more than allowed is enough to see that the sound is too long.
    clock = "STARTPTS" if track.zero_s is None else f"{track.zero_s:.6f}/TB"
    alone = "" if remedy.channel is None else f"pan=mono|c0=c{remedy.channel},"
    stereo_alone = alone if remedy.is_lost_in_stereo else ""
    gap = f"aresample=async=1:first_pts=0:min_hard_comp={_MIN_HOLE_S:g},"
    offset = "highpass=f=10:poles=1," if remedy.has_offset else ""
    levels = "measure_perchannel=DC_offset+Peak_level+RMS_level+RMS_peak+RMS_trough"

    def branch(rate_hz: int, layouts: str, gain_db: float, name: str, channel: str) -> str:
        # Without `rematrix_maxval` a mix in floating point is louder than its channels.
        # `aresample` in each branch keeps ffmpeg from settling on one format for all of them.
        return (
            f"{channel}{offset}aresample={rate_hz}:rematrix_maxval=1,"
            f"aformat=sample_fmts=fltp:channel_layouts={layouts},volume={gain_db:g}dB,"
            f"astats@{name}={levels}:measure_overall=none,aformat=sample_fmts=s16"
        )

    graph = (
        f"[0:a:{track.number}]asetpts=PTS-{clock}{offset_ms / 1000:+.3f}/TB,atrim=start=0,{gap}"
        f"atrim=end={limits.max_audio_s + 1:g},asplit=3[a][b][c];"
        f"[a]{branch(SPEECH_RATE_HZ, 'mono', remedy.speech_gain_db, 'mono', alone)}[speech];"
        f"[b]{branch(SOUND_RATE_HZ, 'mono|stereo', remedy.sound_gain_db, 'stereo', stereo_alone)}"
        "[sound];"
        f"[c]aformat=sample_fmts=fltp,astats@channels={levels}:measure_overall=none,anullsink"
    )
    plain_flac = ["-map_metadata", "-1", "-c:a", "flac", "-compression_level", "0", "-f", "flac"]
    reader = ffmpeg_reading(
        source,
        sniffed.reader,
        start=sniffed.start,
        options=["-copyts"],
        # The levels are written as information.
        loglevel="info",
    )
    return [
        *(*reader, "-nostats", "-filter_complex", graph),
        *("-map", "[speech]", *plain_flac, f"file:{speech}"),
        *("-map", "[sound]", *plain_flac, f"file:{sound}"),
    ]
