"""What happens to a job, as a Redis Stream that readers may resume.

A `state` event for each change of state, exactly one of them terminal; `progress` events in
between, and `fragment` events where a film that can be watched grew (`live_films`). Old ones are
trimmed, the terminal one is the last and never is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

from redis import Redis
from redis.client import Pipeline

from worker.contract.ledger_records import word_or_none
from worker.contract.ledger_scripts import MAX_EVENTS, events_key
from worker.contract.message import Message
from worker.contract.messages import FrameCount, JobState, Stage

FIRST: Final = "0-0"
"""Reading after this id begins with the oldest event that is kept."""
MAX_BLOCK_MS: Final = 3000
"""Longest wait in Redis; less than what a client waits for any answer (`queues.connect`)."""
_BATCH: Final = 128


class JobEvent(Message):
    """One event; `id` is the stream's and grows."""

    id: str
    kind: Literal["state", "progress", "fragment"]
    state: JobState
    stage: Stage | None
    attempt: int
    frames: FrameCount | None


def read_events(redis: Redis, job_id: str, after_id: str, block_ms: int) -> list[JobEvent]:
    """The events after an id, oldest first.

    Args:
        redis: A client.
        job_id: The job.
        after_id: Id of the last event that the reader has, or `FIRST`.
        block_ms: How long to wait for one if there is none, at most `MAX_BLOCK_MS`; 0 = not at all.
    """
    block = min(block_ms, MAX_BLOCK_MS) if block_ms > 0 else None
    streams: dict[bytes | str | memoryview, int | bytes | str | memoryview] = {
        events_key(job_id): after_id
    }
    answer = redis.xread(streams, count=_BATCH, block=block)
    return parse_events(answer)


def parse_events(answer: object) -> list[JobEvent]:
    """The events in XREAD's answer about one stream, of a blocking or an async client alike.

    Events that another release wrote in another way are left out.
    """
    streams = cast(
        "list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]] | dict[bytes, object]",
        answer or [],
    )
    if isinstance(streams, dict):  # RESP3
        entries = [
            entry
            for batches in streams.values()
            for batch in cast(list[list[tuple[bytes, dict[bytes, bytes]]]], batches)
            for entry in batch
        ]
    else:
        entries = [entry for _, batch in streams for entry in batch]
    events = (_parsed(entry_id.decode(), fields) for entry_id, fields in entries)
    return [event for event in events if event is not None]


def write_state(pipeline: Pipeline, job_id: str, state: JobState, attempt: int) -> None:
    """Add a change of state to an open transaction."""
    pipeline.xadd(
        events_key(job_id),
        {
            "kind": "state",
            "state": state.value,
            "stage": "",
            "attempt": attempt,
            "done": "",
            "total": "",
        },
        maxlen=MAX_EVENTS,
        approximate=True,
    )


def _parsed(event_id: str, raw: Mapping[bytes, bytes]) -> JobEvent | None:
    """The event, or None for a kind that another release added."""
    fields = {name.decode(): value.decode() for name, value in raw.items()}
    frames: FrameCount | None = None
    if fields.get("total"):
        frames = FrameCount(done=int(fields["done"]), total=int(fields["total"]))
    try:
        return JobEvent.model_validate(
            {
                "id": event_id,
                "kind": fields["kind"],
                "state": fields["state"],
                "stage": word_or_none(Stage, fields.get("stage")),
                "attempt": int(fields["attempt"]),
                "frames": frames,
            }
        )
    except (ValueError, KeyError):
        return None
