"""Download links that work without a key, for one job and a limited time.

    /v1/jobs/<id>/content?expires=<unix seconds>&signature=<hex>

A browser's video element and its EventSource send no Authorization header; whoever may read a job
gets such links in the job object and can hand them on.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable
from typing import Final, Literal

from service.secret_file import InstallSecret

Purpose = Literal["content", "events"]
_ROUND_S: Final = 60
_EXPIRES: Final = re.compile(r"[0-9]{1,12}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


class LinkSigner:
    """Makes and checks links.

    Args:
        secret: The installation's secret.
        ttl_s: How long a link works, in seconds.
        clock: Unix time in seconds.
    """

    def __init__(
        self, secret: InstallSecret, ttl_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret
        self._ttl_s = ttl_s
        self._clock = clock

    def query(self, job_id: str, purpose: Purpose) -> str:
        """What a link ends with, from the question mark on."""
        # Rounded up, so that two reads of a job within a minute show the same link.
        expires = math.ceil((self._clock() + self._ttl_s) / _ROUND_S) * _ROUND_S
        return f"?expires={expires}&signature={self._sign(job_id, purpose, str(expires))}"

    def is_valid(self, job_id: str, purpose: Purpose, expires: str, signature: str) -> bool:
        """Whether the two parameters are ours, of this job and purpose, and not too old."""
        if not _EXPIRES.fullmatch(expires) or not _SIGNATURE.fullmatch(signature):
            return False
        is_ours = hmac.compare_digest(self._sign(job_id, purpose, expires), signature)
        return is_ours and self._clock() < int(expires)

    def _sign(self, job_id: str, purpose: Purpose, expires: str) -> str:
        text = f"{purpose}\n{job_id}\n{expires}"
        return hmac.new(self._secret.key_for("links"), text.encode(), hashlib.sha256).hexdigest()
