"""Which answers are worth another try, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

# The server, or a proxy before it, cannot answer now; the same request may succeed later.
_RETRIED_STATUS: Final = frozenset({408, 429, 502, 503, 504})
_RETRIED_CODES: Final = frozenset({"idempotency_in_progress"})


@dataclass(frozen=True)
class RetryPolicy:
    """How long a request is tried again. A POST is safe: every try has the same Idempotency-Key.

    Args:
        for_s: From the first try, a request is tried again for so many seconds; 0: never.
        first_pause_s: Before the second try; doubled before each further one.
        longest_pause_s: Longest pause. Where the server asks for a longer one its answer is final.
    """

    for_s: float = 120.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0

    def pause_s(
        self,
        tries: int,
        elapsed_s: float,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> float | None:
        """Seconds until the next try, or None where there is none.

        Args:
            tries: How many there were.
            elapsed_s: Since the first of them.
            status: Of the answer; None where there was none.
            code: Of the problem that it carried.
            retry_after_s: What it asked for.
        """
        if status is not None and status not in _RETRIED_STATUS and code not in _RETRIED_CODES:
            return None
        pause_s = min(self.first_pause_s * 2 ** (tries - 1), self.longest_pause_s)
        # Many clients that were turned away together shall not come back together.
        pause_s *= random.uniform(0.75, 1.25)
        if retry_after_s is not None:
            pause_s = max(pause_s, retry_after_s)
            if retry_after_s > self.longest_pause_s:
                return None
        return pause_s if elapsed_s + pause_s <= self.for_s else None
