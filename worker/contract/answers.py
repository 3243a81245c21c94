"""What the ledger is told and says beside records: small closed sets of words."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple


class CancelOutcome(StrEnum):
    """What became of the wish to cancel a job."""

    CANCELLED = "cancelled"
    """It is cancelled, now or since before."""
    REQUESTED = "requested"
    """It runs, and will be cancelled between two batches."""
    TERMINAL = "terminal"
    """It has ended otherwise."""
    UNKNOWN = "unknown"
    """There is no such job."""


class ReportAnswer(IntEnum):
    """What the ledger says to a report of progress."""

    NOT_OURS = 0
    GO_ON = 1
    CANCEL = 2


class DeadlinePolicy(NamedTuple):
    """How long a job may take from its first claim: `base_s` + `per_audio_s` x seconds of sound."""

    base_s: float
    per_audio_s: float
