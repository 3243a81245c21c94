"""What a render tells the outside between two batches, and may be told there."""

from __future__ import annotations

from typing import Protocol

from worker.contract.messages import Stage


class RenderInterruptedError(Exception):
    """The render must stop between two batches; nothing is wrong with it."""


class HandBackError(RenderInterruptedError):
    """This process is asked to stop: the job goes back to the queue."""


class LeaseLostError(RenderInterruptedError):
    """The ledger gave the job to someone else, or it ended: whatever is drawn here is void."""


class ProgressSink(Protocol):
    """The door that a renderer reports through.

    Both calls may raise `RenderInterruptedError`; the renderer lets it pass and leaves nothing open
    behind it.
    """

    def stage(self, stage: Stage) -> None:
        """A stage begins."""

    def frames(self, done: int, total: int) -> None:
        """`done` of `total` frames are written; called once a batch."""
