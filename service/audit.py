"""Who made and erased what: a file a day, a line each time, with ids and nothing else.

    <data_dir>/audit/2026-11-29.jsonl    {"at", "event", "job", "by", "request"}

Lines are appended whole by whichever process writes them, and are kept longer than jobs and their
files. No name, address or option stands there; `by` is the id that a key's jobs belong to.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

Event = Literal["made", "erased", "expired"]
_NAME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})\.jsonl")


class AuditLog:
    """The log of one installation.

    Args:
        data_dir: Its data folder; `audit` is made in it, outside of the artifacts.
        retention_s: Days that ended longer ago are erased; 0 = never.
    """

    def __init__(self, data_dir: Path, retention_s: float = 0.0) -> None:
        self._folder = data_dir / "audit"
        self._retention_s = retention_s

    def write(
        self, event: Event, job_id: str, *, by: str | None = None, request_id: str | None = None
    ) -> None:
        """Note an event; durable when this returns.

        Args:
            event: `made` a job, `erased` it, or it `expired` and was erased by its retention.
            job_id: Which one.
            by: Whose key; None = nobody asked.
            request_id: Of the request.

        Raises:
            OSError: It cannot be written.
        """
        now = datetime.now(UTC)
        line = {
            "at": now.isoformat(),
            "event": event,
            "job": job_id,
            "by": by,
            "request": request_id,
        }
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / f"{now:%Y-%m-%d}.jsonl", flags, 0o600)
        try:
            # One call: the lines of several processes never mix.
            os.write(descriptor, (json.dumps(line) + "\n").encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def sweep(self) -> int:
        """Erase the days whose time is over; how many."""
        if not self._retention_s or not self._folder.is_dir():
            return 0
        oldest = (datetime.now(UTC) - timedelta(seconds=self._retention_s)).date()
        removed = 0
        for path in self._folder.iterdir():
            found = _NAME.fullmatch(path.name)
            if found is not None and date.fromisoformat(found[1]) < oldest:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    removed += 1
        return removed
