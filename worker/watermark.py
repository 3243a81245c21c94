"""The watermark that this installation puts into its videos, if any."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker.contract.key_file import SecretFileError, load_key
from worker.contract.start import StartError
from worker.contract.watermark import WatermarkMode, payload_of


@dataclass(frozen=True)
class Watermark:
    """What is put into one video.

    Args:
        key: Of the installation; whoever has it can find, take away and forge the mark.
        payload: 8 bytes that say which job it was.
    """

    key: bytes = field(repr=False)
    payload: bytes


@dataclass(frozen=True)
class Watermarking:
    """Marks the videos of an installation.

    Args:
        key: See `Watermark`.
    """

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, mode: WatermarkMode, path: Path) -> Self | None:
        """With the key in a file, which is made where there is none; None where nothing is marked.

        Raises:
            StartError: The file cannot be used.
        """
        if mode == "off":
            return None
        try:
            return cls(load_key(path))
        except (SecretFileError, OSError) as error:
            raise StartError(f"the watermark's key cannot be used: {error}") from error

    def for_job(self, job_id: str) -> Watermark:
        """The mark of a job's video."""
        return Watermark(self.key, payload_of(self.key, job_id))
