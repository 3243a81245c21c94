"""The intake of pictures.

upload ──▶ size, first bytes ──▶ limited child: Pillow ──▶ input.png
           RGB, upright, longest side at most `max_side`, even sides
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.file_checks import check_size, file_sha256
from worker.contract.intake.limited_child import keep_waiting, run_limited
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sniffing import sniff_file


@dataclass(frozen=True)
class ImageInfo:
    """A normalised picture: its size after scaling, and digest and size of the bytes that came."""

    width: int
    height: int
    format: str
    bytes: int
    sha256: str
    has_original: bool = False


def accept_image(
    source: Path,
    destination: Path,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
    original: Path | None = None,
) -> ImageInfo:
    """Check an uploaded picture and write it as normalised PNG.

    Args:
        source: The bytes as they came.
        destination: Where the PNG goes: RGB, upright, longest side at most `max_side`, even sides.
        limits: What is tolerated.
        on_wait: Called while it is decoded; what it raises stops that.
        original: Where a JPEG of its full size goes if it is shrunk, or None.

    Returns:
        The normalised size and the upload's digest.

    Raises:
        IntakeError: unsupported_media_type, undecodable_media, file_too_large, face_too_small.
    """
    num_bytes = check_size(source, "picture", limits.max_image_bytes)
    sniffed = sniff_file(source, "image", "picture")
    request = {
        "source": str(source),
        "destination": str(destination),
        "original": "" if original is None else str(original),
        "format": sniffed.reader,
        "max_pixels": limits.max_pixels,
        "max_side": limits.max_side,
        "min_side": limits.min_side,
        "background": limits.background,
    }
    end = run_limited(
        ["-m", "worker.contract.intake.picture_child", json.dumps(request)],
        limits.child(max_file_bytes=64 * 2**20),
        what="picture",
        reads=[source],
        writes=destination.parent,
        on_wait=on_wait,
    )
    answer = _child_answer(end.output) if end.status == 0 else None
    if answer is None:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The picture looks like {sniffed.format.name} but cannot be decoded. Save it again and resend it.",
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
        format=sniffed.reader.lower(),
        bytes=num_bytes,
        sha256=file_sha256(source),
        has_original=original is not None and original.is_file(),
    )


def _child_answer(output: bytes) -> dict[str, object] | None:
    try:
        answer = json.loads(output)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
