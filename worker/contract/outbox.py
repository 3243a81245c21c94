"""Webhooks that are due: written with the job's end in one step, taken out by the reconciler.

An event that is taken is hidden from others for a while. Whoever took it says `done` or
`reschedule`; if it dies instead, the event comes up again under the same id.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final, Literal, cast

from redis import Redis

from worker.contract.ledger_scripts import (
    OUTBOX,
    PREFIX,
    STATISTICS,
    TAKE_DUE,
)
from worker.contract.logs import get_logger
from worker.contract.message import Message
from worker.contract.webhook_scripts import NOTE_WEBHOOK, REDELIVER
from worker.contract.webhook_state import WebhookState

HIDDEN_S: Final = 60.0
"""How long an event that was taken is hidden: longer than one try to send it lasts."""
_log = get_logger(__name__)


class OutboxEvent(Message):
    """One webhook. The id is the same in every try.

    Args:
        id: `evt_<job id>`.
        job_id: The job that ended.
        type: `job.succeeded`, `job.failed` or `job.cancelled`.
        occurred_at: When it ended.
        callback_url: Where to send it.
        attempts: Tries so far.
    """

    id: str
    job_id: str
    type: str
    occurred_at: datetime
    callback_url: str
    attempts: int


class Outbox:
    """The webhooks in one Redis; every method may raise `redis.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._take_due = redis.register_script(TAKE_DUE)
        self._note = redis.register_script(NOTE_WEBHOOK)
        self._redeliver = redis.register_script(REDELIVER)

    def due(self, now: float | None = None, *, limit: int = 32) -> list[OutboxEvent]:
        """Take the events that are due.

        Args:
            now: Unix time in seconds, None = the current one.
            limit: Most events.
        """
        now = time.time() if now is None else now
        taken = cast(list[list[bytes]], self._take_due(keys=[OUTBOX], args=[now, limit, HIDDEN_S]))
        events = []
        for fields in taken:
            try:
                events.append(_parsed(fields))
            except (ValueError, KeyError) as error:
                # It comes up again when its time to be hidden is over; the others are sent.
                _log.error("webhook_unreadable", kind=type(error).__name__)
        return events

    def reschedule(self, event_id: str, at: float) -> None:
        """Try again at a Unix time in seconds; counts the try that failed."""
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hincrby(STATISTICS, "webhooks|failed", 1)
            # Only what is still there: the job may have been deleted meanwhile.
            pipeline.zadd(OUTBOX, {event_id: at}, xx=True)
            pipeline.execute()
        if self._redis.exists(_event_key(event_id)):
            self._redis.hincrby(_event_key(event_id), "attempts", 1)

    def done(self, event_id: str, outcome: Literal["delivered", "given_up"] = "delivered") -> None:
        """Forget an event: it was delivered, or given up."""
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hincrby(STATISTICS, f"webhooks|{outcome}", 1)
            pipeline.zrem(OUTBOX, event_id)
            pipeline.delete(_event_key(event_id))
            pipeline.execute()

    def note(self, job_id: str, state: WebhookState) -> None:
        """Write down for the job's owner what became of its webhook."""
        self._note(args=[job_id, state.model_dump_json(exclude_defaults=True)])

    def redeliver(self, job_id: str) -> bool:
        """Send the event of a job that has ended once more, with all its tries.

        Returns:
            False, and nothing changed, if it has not ended or nobody is to be told.
        """
        state = WebhookState(state="waiting").model_dump_json(exclude_defaults=True)
        return bool(self._redeliver(args=[job_id, state]))

    def count(self) -> int:
        """Events that are not done."""
        return int(self._redis.zcard(OUTBOX))


def _event_key(event_id: str) -> str:
    return f"{PREFIX}outbox:{event_id}"


def _parsed(raw: list[bytes]) -> OutboxEvent:
    words = [word.decode() for word in raw]
    fields = dict(zip(words[::2], words[1::2], strict=True))
    return OutboxEvent.model_validate({**fields, "attempts": int(fields["attempts"])})
