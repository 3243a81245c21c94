"""What became of a job's webhook, as it is stored with the job and shown to its owner."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class WebhookState(BaseModel):
    """What became of the webhook of a job that has ended.

    Args:
        state: `waiting` for its next try, `delivered`, or `given_up`.
        attempts: Tries so far.
        status: What the receiver answered last; None: it could not be reached, or was not tried yet.
        reason: A word about the last try, such as `unreachable`, `forbidden_address` or `refused`.
        tried_at: When that was.
        next_at: When it is tried again.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["waiting", "delivered", "given_up"]
    attempts: int = 0
    status: int | None = None
    reason: str | None = None
    tried_at: datetime | None = None
    next_at: datetime | None = None
