"""How much of an upload is tolerated, and the refusals that probing and decoding share."""

from __future__ import annotations

from dataclasses import dataclass

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.decoder_orders import ChildLimits


@dataclass(frozen=True)
class IntakeLimits:
    """How much of an upload is tolerated: bytes of the file as it came, pixels before scaling.

    `max_frames_bytes` bounds a normalised video, `video_wall_clock_s` and `video_cpu_s` its making.
    `background` is what stands behind transparent parts, `#rrggbb`.
    """

    max_image_bytes: int = 20 * 2**20
    max_audio_bytes: int = 50 * 2**20
    max_video_bytes: int = 200 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 1920
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
    background: str = "#ffffff"

    def child(self, max_file_bytes: int) -> ChildLimits:
        """Bounds of a decoder of pictures or sounds that may write so much."""
        return ChildLimits(self.memory_bytes, self.cpu_s, self.wall_clock_s, max_file_bytes)


def audio_too_long(limits: IntakeLimits) -> IntakeError:
    """What is said of a sound that lasts too long."""
    return IntakeError(
        ErrorCode.AUDIO_TOO_LONG,
        f"The audio is longer than the limit of {limits.max_audio_s:g} s. Send it in parts.",
        {"max_seconds": limits.max_audio_s},
    )


def video_too_long(limits: IntakeLimits, what: str) -> IntakeError:
    """What is said of a video that lasts too long."""
    return IntakeError(
        ErrorCode.VIDEO_TOO_LONG,
        f"The {what} is longer than the limit of {limits.max_video_s:g} s. Send it in parts.",
        {"max_seconds": limits.max_video_s},
    )


def check_video_size(width: int, height: int, limits: IntakeLimits, what: str) -> None:
    """Refuse pictures that are too small for any face.

    Raises:
        IntakeError: face_too_small.
    """
    if min(width, height) < limits.min_side:
        raise IntakeError(
            ErrorCode.FACE_TOO_SMALL,
            f"The {what} has {width} x {height} pixels, so no face in it can have the "
            f"{limits.min_side} pixels that are needed. Send a larger one.",
            {"width": width, "height": height, "min_face_px": limits.min_side},
        )
