"""What encodes finished pictures as H.264: x264 on the CPU, or an NVIDIA card's own encoder."""

from __future__ import annotations

import logging
import subprocess
from typing import Final, Literal

from model.errors import EncodingError
from model.media.ffmpeg import ffmpeg_path

VideoEncoder = Literal["libx264", "h264_nvenc"]
EncoderChoice = Literal["libx264", "h264_nvenc", "auto"]

_PROBE_TIMEOUT_S: Final = 30.0
_log = logging.getLogger(__name__)


def encoder_arguments(encoder: VideoEncoder, crf: int) -> list[str]:
    """Arguments for ffmpeg.

    Args:
        encoder: Which.
        crf: x264's constant rate factor, or the like quality of NVENC: 18 is visually lossless in both.
    """
    if encoder == "libx264":
        return ["-c:v", "libx264", "-crf", str(crf), "-preset", "medium", "-tune", "film"]
    # A constant quality as well: a variable rate without a target. B-frames as x264 has them by default.
    quality = ["-preset", "p5", "-tune", "hq", "-rc", "vbr", "-cq", str(crf), "-b:v", "0"]
    return ["-c:v", "h264_nvenc", *quality, "-bf", "3", "-spatial-aq", "1"]


def encoder_fault(encoder: VideoEncoder) -> str | None:
    """Why this machine's ffmpeg cannot encode so, in its own words; None if a picture went through."""
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", "256x256", "-i", "pipe:0"]
    command += [*encoder_arguments(encoder, 18), "-pix_fmt", "yuv420p", "-f", "null", "-"]
    try:
        tried = subprocess.run(
            command, input=bytes(256 * 256 * 3), capture_output=True, timeout=_PROBE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    if tried.returncode == 0:
        return None
    lines = [line for line in tried.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[0].strip() if lines else f"ffmpeg ended with {tried.returncode}"


def choose_encoder(choice: EncoderChoice) -> VideoEncoder:
    """The encoder that is meant; "auto" is NVENC where it works, else x264.

    Raises:
        EncodingError: NVENC is asked for and does not work here.
    """
    if choice == "libx264":
        return "libx264"
    fault = encoder_fault("h264_nvenc")
    if fault is None:
        return "h264_nvenc"
    if choice == "h264_nvenc":
        raise EncodingError(
            f"this machine cannot encode with h264_nvenc ({fault}); expected an NVIDIA GPU with its "
            "driver, and an ffmpeg that was built with NVENC (IMAGEIO_FFMPEG_EXE names another one). "
            "TALKFACE_VIDEO_ENCODER=libx264 encodes on the CPU."
        )
    _log.info("encoder: libx264, because h264_nvenc fails (%s)", fault)
    return "libx264"
