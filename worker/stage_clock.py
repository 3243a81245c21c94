"""Seconds of each stage of a render."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from worker.contract.messages import Stage


@dataclass
class StageClock:
    """Adds up the seconds of each stage; stages may interleave, as drawing and encoding do."""

    timings_s: dict[str, float] = field(default_factory=dict)
    _stage: Stage | None = None
    _since: float = 0.0

    def enter(self, stage: Stage | None) -> None:
        """End the current stage and begin the next, None = none."""
        now = time.perf_counter()
        if self._stage is not None:
            elapsed = now - self._since
            self.timings_s[self._stage] = self.timings_s.get(self._stage, 0.0) + elapsed
        self._stage, self._since = stage, now

    @contextmanager
    def aside(self, stage: Stage) -> Iterator[None]:
        """Count what happens inside as `stage`, then go on with the current one."""
        outer = self._stage
        self.enter(stage)
        try:
            yield
        finally:
            self.enter(outer)

    def rounded(self) -> dict[str, float]:
        """The sums, in milliseconds' precision."""
        return {name: round(seconds, 3) for name, seconds in self.timings_s.items()}
