"""What of a batch has been done, so that the same command goes on where it stopped.

    <output folder>/.talkface-batch.jsonl    one line for each thing that happened, the last one counts

A row is known by a key of what determines its video: the bytes of its files and its options. A row
that was changed is another row.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from talkface.batch import Row

NAME: Final = ".talkface-batch.jsonl"


@dataclass(frozen=True)
class Progress:
    """How far a row has come.

    Args:
        key: Of the row.
        output: Its output, as the list names it.
        tries: How often a job was made for it; part of its idempotency key.
        job: Id of its job, where it has one.
        state: Of the job when it was last heard of; `saved` once the MP4 lies there.
        sha256: Of the MP4 that was saved.
    """

    key: str
    output: str
    tries: int = 1
    job: str | None = None
    state: str = "new"
    sha256: str | None = None


class BatchState:
    """The state file of one output folder.

    Args:
        folder: The output folder; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / NAME
        self._known: dict[tuple[str, str], Progress] = {}
        for line in self._lines():
            try:
                progress = Progress(**json.loads(line))
            except (ValueError, TypeError):
                continue  # cut off by a crash, or of another release: that row is done again
            self._known[progress.key, progress.output] = progress

    def of(self, row: Row, key: str) -> Progress:
        """What is known of a row; new where nothing is."""
        return self._known.get((key, str(row.output)), Progress(key, str(row.output)))

    def is_saved(self, progress: Progress) -> bool:
        """Whether the row's MP4 lies where it belongs, as it was saved."""
        path = self._folder / progress.output
        return progress.state == "saved" and path.is_file() and _sha256(path) == progress.sha256

    def saved(self, progress: Progress) -> Progress:
        """Write down that the MP4 lies there."""
        sha256 = _sha256(self._folder / progress.output)
        return self.note(Progress(**{**asdict(progress), "state": "saved", "sha256": sha256}))

    def note(self, progress: Progress) -> Progress:
        """Write down how far a row has come; durable when this returns."""
        self._known[progress.key, progress.output] = progress
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(progress)) + "\n")
            out.flush()
            os.fsync(out.fileno())
        return progress

    def _lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []


def key_of(row: Row, options: Mapping[str, Any], where: str) -> str:
    """What a row is known by.

    Args:
        row: The row.
        options: All its options, those of the command line included.
        where: Who makes the video: a service's address, or a checkpoint.

    Raises:
        OSError: A file cannot be read.
    """
    told = {
        "where": where,
        "options": {name: str(value) for name, value in sorted(options.items())},
        "files": {name: [_sha256(path) for path in paths] for name, paths in row.files.items()},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
