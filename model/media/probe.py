"""What a media file holds, from its packets: no ffprobe lies beside imageio-ffmpeg's binary.

ffmpeg -c copy -f framecrc    one line a packet ──▶ tracks ──▶ MediaInfo
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from model.errors import UnsupportedMediaError
from model.media.ffmpeg import ChildStderr, end_child, ffmpeg_path, input_arguments


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
        *input_arguments(source),
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
    stderr = ChildStderr(process.stderr)
    tracks: dict[int, _Track] = {}
    try:
        for raw in process.stdout:
            _read_listing_line(raw.decode("utf-8", "replace"), tracks)
        status = process.wait()
    finally:
        end_child(process)
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
