"""What all films of ours ask of ffmpeg: the same colours, the same sound, no metadata but ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from model.media.ffmpeg import SCALE_FLAGS

SOUND_RATE_HZ: Final = 48_000
SOUND_BITRATE_PER_CHANNEL_KBPS: Final = 64
MIN_SOUND_BITRATE_KBPS: Final = 128


def picture_arguments() -> list[str]:
    """RGB becomes yuv420p by the BT.709 matrix in limited range, and says so; a frame in, a frame out."""
    # The conversion is spelled out: ffmpeg's default for RGB is the BT.601 matrix without any tag,
    # which players read as BT.709 on large pictures, and skin changes its colour.
    conversion = f"scale=out_color_matrix=bt709:out_range=tv:flags={SCALE_FLAGS},format=yuv420p"
    colours = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    return ["-vf", f"{conversion},{colours}", "-fps_mode", "passthrough"]


def sound_arguments(channels: int, seconds: float) -> list[str]:
    """AAC at 48 kHz, cut or continued with silence to the length of the pictures."""
    num_samples = round(seconds * SOUND_RATE_HZ)
    # Exact by counting samples: -shortest was off by up to 70 ms at 12.5 fps.
    length = f"apad=whole_len={num_samples},atrim=end_sample={num_samples}"
    bitrate_kbps = max(MIN_SOUND_BITRATE_KBPS, SOUND_BITRATE_PER_CHANNEL_KBPS * channels)
    arguments = ["-af", f"aresample={SOUND_RATE_HZ},{length}", "-c:a", "aac"]
    return [*arguments, "-b:a", f"{bitrate_kbps}k", "-ar", str(SOUND_RATE_HZ)]


def metadata_arguments(tags: Mapping[str, str]) -> list[str]:
    """None of the upload's metadata (it may name people and places), none of the encoder's version."""
    arguments = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]
    for name, text in tags.items():
        arguments += ["-metadata", f"{name}={text}"]
    return arguments


def mp4_arguments(tags: Mapping[str, str]) -> list[str]:
    """What makes ffmpeg's output an MP4 of ours."""
    return [*metadata_arguments(tags), "-movflags", "+faststart", "-f", "mp4"]
