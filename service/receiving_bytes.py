"""How much the uploads that are still arriving hold, all together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.problems import ProblemError
from worker.contract.errors import ErrorCode


class ReceivingBytes:
    """How much all unfinished uploads of this process hold.

    Args:
        limit_bytes: The most.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0

    def check_room(self, num_bytes: int) -> None:
        """Refuse a body of so many bytes where there is no room for it.

        Raises:
            ProblemError: queue_full.
        """
        if self._bytes + num_bytes > self._limit_bytes:
            raise ProblemError(
                ErrorCode.QUEUE_FULL,
                "Too many uploads are on their way. Try again in a moment.",
                headers={"Retry-After": "5"},
            )

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Count the pieces of one body, until the context ends.

        Raises:
            ProblemError: queue_full; from what is yielded.
        """
        received = 0

        def add(num_bytes: int) -> None:
            nonlocal received
            self.check_room(num_bytes)
            received += num_bytes
            self._bytes += num_bytes

        try:
            yield add
        finally:
            self._bytes -= received
