"""What the data of Server-Sent Events looks like; the last event carries a whole job object."""

from __future__ import annotations

from pydantic import BaseModel

from worker.contract.events import JobEvent
from worker.contract.messages import FrameCount, JobState, Stage


class EventPublic(BaseModel):
    """A `state` or `progress` event."""

    state: JobState
    stage: Stage | None
    attempt: int
    progress: float
    frames: FrameCount | None


class DeletedEvent(BaseModel):
    """A `deleted` event: the job was erased while the client waited."""

    id: str


def public_event(event: JobEvent) -> EventPublic:
    """What a client sees of an event."""
    frames = event.frames
    return EventPublic(
        state=event.state,
        stage=event.stage,
        attempt=event.attempt,
        progress=round(frames.done / frames.total, 4) if frames and frames.total else 0.0,
        frames=frames,
    )
