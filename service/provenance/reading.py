"""What anybody's file says of itself, found out by a child process with limits.

A file that crashes the library, hangs it or eats memory takes the child along and nothing else.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from service.provenance.trust import Trust
from service.provenance.verdict import Verification, judge, with_mark
from service.provenance.watermark import look_for_mark
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.decoder_orders import ChildLimits
from worker.contract.intake.file_checks import check_size
from worker.contract.intake.limited_child import run_limited

_LIMITS: Final = ChildLimits(
    memory_bytes=2 * 2**30, cpu_s=45, wall_clock_s=60.0, max_file_bytes=2**20
)


def verify_file(
    source: Path,
    trust: Trust,
    *,
    limit_bytes: int,
    watermark_keys: Sequence[bytes] = (),
    folder: Path | None = None,
) -> Verification:
    """What a file says of itself, and what that is worth.

    Args:
        source: Anybody's file.
        trust: Whose signature is the installation's own.
        limit_bytes: Largest file.
        watermark_keys: Whose marks are looked for in it; without one nobody looks.
        folder: Where its frames may lie meanwhile; None = where this machine keeps such things.

    Raises:
        IntakeError: file_too_large; undecodable_media: it is empty, no file that can have
            credentials, or takes too much to read.
    """
    check_size(source, "file", limit_bytes)
    request = {"source": str(source), **asdict(trust)}
    command = ["-m", "service.provenance.reading_child", json.dumps(request)]
    end = run_limited(command, _LIMITS, what="file", reads=[source])
    # Nothing where it crashed, or was stopped by its limits.
    report = json.loads(end.output) if end.status == 0 else {"state": "unknown"}
    mark = None
    if watermark_keys:
        mark = look_for_mark(source, watermark_keys, folder or Path(tempfile.gettempdir()))
    if report["state"] == "unknown" and mark is not None:
        # A video of a kind that has no credentials, such as WebM.
        report = {"state": "none"}
    if report["state"] != "unknown":
        return with_mark(judge(report), mark)
    raise IntakeError(
        ErrorCode.UNDECODABLE_MEDIA,
        "The file is no video, picture or sound that can have Content Credentials, or is damaged. "
        "Send an MP4 as it was published.",
    )
