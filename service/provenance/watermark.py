"""Whether a watermark of this installation is in anybody's video.

    file ──ffmpeg in a limited child──▶ grey frames, small ──▶ another child, which has the keys ──▶ found

No OpenCV and no numpy here: the second child is started by name, and says that it is not installed
where it is not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.contract.errors import IntakeError
from worker.contract.intake.decoder_orders import ChildLimits
from worker.contract.intake.limited_child import ffmpeg_reading, run_limited
from worker.contract.intake.sniffing import sniff_file
from worker.contract.logs import get_logger
from worker.contract.watermark import job_digits

_FRAMES: Final = 250
"""Ten seconds: a mark that stands still is as plain in them as in an hour."""
_MOST_PIXELS: Final = 640 * 640
"""A little more than the detector's canvas at its largest scale."""
_SHRINK: Final = f"min(1,sqrt({_MOST_PIXELS}/(iw*ih)))"
_SIZE: Final = f"scale=w='max(2,trunc(iw*{_SHRINK}))':h='max(2,trunc(ih*{_SHRINK}))':flags=area"
_DECODING: Final = ChildLimits(
    memory_bytes=2 * 2**30,
    cpu_s=60,
    wall_clock_s=60.0,
    max_file_bytes=_FRAMES * (_MOST_PIXELS + 64),
)
# Address space, which arithmetic libraries reserve for each core, not memory.
_LOOKING: Final = ChildLimits(
    memory_bytes=8 * 2**30, cpu_s=30, wall_clock_s=60.0, max_file_bytes=2**20
)
_log = get_logger(__name__)


@dataclass(frozen=True)
class Mark:
    """What was seen in a video.

    Args:
        found: Whether the mark of one of the keys is there.
        job: The first twelve digits of its job's id, where they can be read for certain.
    """

    found: bool
    job: str | None = None


def look_for_mark(source: Path, keys: Sequence[bytes], folder: Path) -> Mark | None:
    """Look for the mark of any of some keys.

    Args:
        source: Anybody's file.
        keys: Of this installation, 32 bytes each.
        folder: Where frames may lie for a while.

    Returns:
        None: it is no video, cannot be decoded, or nothing here can look.
    """
    try:
        sniffed = sniff_file(source, "video", "video")
        with tempfile.TemporaryDirectory(prefix="mark-", dir=folder) as scratch:
            frames = Path(scratch) / "frames.pgm"
            reading = ffmpeg_reading(source, sniffed.reader, start=sniffed.start)
            writing = ["-map", "0:V:0", "-frames:v", str(_FRAMES), "-vf", f"{_SIZE},format=gray"]
            writing += ["-fps_mode", "passthrough", "-c:v", "pgm", "-f", "image2pipe"]
            run_limited(
                [*reading, *writing, f"file:{frames}"],
                _DECODING,
                what="file",
                reads=[source],
                writes=frames.parent,
            )
            if not frames.exists():
                return None
            looked = run_limited(
                ["-m", "worker.watermark_child", str(frames)],
                _LOOKING,
                what="file",
                reads=[frames],
                told=b"".join(keys),
            )
    except IntakeError:
        return None
    if looked.status != 0:
        _log.warning("watermark_not_looked_for", reason=looked.words)
        return None
    told = json.loads(looked.output)
    if told is None:
        return None
    if told["key"] is None:
        return Mark(found=False)
    payload = told["payload"]
    return Mark(True, payload and job_digits(keys[told["key"]], bytes.fromhex(payload)))
