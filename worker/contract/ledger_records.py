"""A job as a Redis hash and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel

from worker.contract.messages import (
    FrameCount,
    JobFailure,
    JobInput,
    JobRecord,
    JobResult,
)

_PLAIN: Final = (
    "id",
    "state",
    "stage",
    "principal",
    "created_at",
    "started_at",
    "finished_at",
    "cancel_requested_at",
    "callback_url",
    "request_id",
)


def to_hash(record: JobRecord) -> dict[Any, Any]:
    """The fields of a new job; what is None has no field."""
    fields: dict[str, str | None] = {
        "id": record.id,
        "state": record.state.value,
        "attempt": str(record.attempt),
        "retries": str(record.retries),
        "queue": record.queue,
        "principal": record.principal,
        "created_at": record.created_at.isoformat(),
        "deadline_at": _unix(record.deadline_at),
        "retention_s": None if record.retention_s is None else str(record.retention_s),
        "callback_url": record.callback_url,
        "request_id": record.request_id,
        "input": record.input.model_dump_json(),
        # For arithmetic inside Redis.
        "audio_s": str(record.input.audio.seconds),
    }
    return {name: value for name, value in fields.items() if value is not None}


def from_hash(raw: Mapping[bytes, bytes]) -> JobRecord:
    """The job; fields that an older version did not write have their defaults."""
    fields = {name.decode(): value.decode() for name, value in raw.items()}

    def parsed(model: type[BaseModel], name: str) -> BaseModel | None:
        return model.model_validate_json(fields[name]) if name in fields else None

    frames: FrameCount | None = None
    if "frames_total" in fields:
        frames = FrameCount(done=int(fields["frames_done"]), total=int(fields["frames_total"]))
    values: dict[str, Any] = {
        **{name: fields.get(name) for name in _PLAIN},
        "attempt": int(fields["attempt"]),
        "retries": int(fields["retries"]),
        "deaths": int(fields.get("deaths", "0")),
        "queue": fields.get("queue", "render"),
        "frames": frames,
        "deadline_at": _moment(fields.get("deadline_at")),
        "expires_at": _moment(fields.get("expires_at")),
        "retention_s": float(fields["retention_s"]) if "retention_s" in fields else None,
        "erased": "erased" in fields,
        "input": parsed(JobInput, "input"),
        "face_boxes": json.loads(fields["face_boxes"]) if "face_boxes" in fields else None,
        "timings_s": json.loads(fields.get("timings_s", "{}")),
        "result": parsed(JobResult, "result"),
        "failure": parsed(JobFailure, "failure"),
    }
    return JobRecord.model_validate(values)


def flat(fields: Mapping[str, str | int]) -> list[str | int]:
    """Names and values in turn, as HSET takes them."""
    return [word for pair in fields.items() for word in pair]


def _unix(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.timestamp():.3f}"


def _moment(unix_s: str | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(float(unix_s), UTC)
