"""A job as it is stored, in Redis and in `job.json`, and back.

Both may have been written by another release. Fields that are not known are ignored, words that are
not known become the nearest one that is, and options that are not known are named, so that no
worker renders a job that it only half understands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from worker.contract.errors import ErrorCode
from worker.contract.messages import (
    FrameCount,
    JobFailure,
    JobInput,
    JobRecord,
    SamplingOptions,
    Stage,
    needed_schema,
)
from worker.contract.results import JobResult
from worker.contract.webhook_state import WebhookState

_PLAIN: Final = (
    "id",
    "state",
    "principal",
    "created_at",
    "started_at",
    "finished_at",
    "cancel_requested_at",
    "callback_url",
    "request_id",
)
_Word = TypeVar("_Word", bound=StrEnum)


class UnreadableRecordError(Exception):
    """What is stored of a job makes no record, whatever is left out.

    Args:
        job_id: The job, as far as it is known.
        reason: What is wrong, without a word of the caller's.
    """

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"the record of job {job_id} cannot be read: {reason}")
        self.job_id = job_id
        self.reason = reason


def to_hash(record: JobRecord) -> dict[Any, Any]:
    """The fields of a new job; what is None has no field."""
    fields: dict[str, str | None] = {
        "id": record.id,
        "schema": str(record.schema_version),
        "state": record.state.value,
        "attempt": str(record.attempt),
        "retries": str(record.retries),
        "queue": record.queue,
        "principal": record.principal,
        "created_at": record.created_at.isoformat(),
        "deadline_at": _unix(record.deadline_at),
        "retention_s": None if record.retention_s is None else str(record.retention_s),
        "callback_url": record.callback_url,
        "metadata": json.dumps(record.metadata) if record.metadata else None,
        "request_id": record.request_id,
        "input": _input_json(record),
        # For arithmetic inside Redis.
        "audio_s": str(record.input.audio.seconds),
        "preset": record.input.options.preset,
    }
    return {name: value for name, value in fields.items() if value is not None}


def decoded_fields(job_input: JobInput) -> dict[str, str | int]:
    """What changes in a job's hash when its files have been decoded."""
    return {
        "input": job_input.model_dump_json(exclude_defaults=True),
        "schema": needed_schema(job_input),
        "audio_s": str(job_input.audio.seconds),
    }


def from_hash(raw: Mapping[bytes, bytes]) -> JobRecord:
    """The job; fields that an older version did not write have their defaults.

    Raises:
        UnreadableRecordError: The fields make no record.
    """
    fields = {name.decode(): value.decode("utf-8", "replace") for name, value in raw.items()}
    try:
        return _record(fields)
    # KeyError and TypeError: a field is missing, or is JSON of another shape than it was.
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableRecordError(fields.get("id", "?"), _reason(error)) from error


def to_json(record: JobRecord) -> str:
    """What lies beside a job's files as `job.json`."""
    return record.model_dump_json(exclude_defaults=True)


def from_json(text: str) -> JobRecord:
    """The job of a `job.json`.

    Raises:
        UnreadableRecordError: The text is no job.
    """
    try:
        values = json.loads(text)
        return JobRecord.model_validate({**values, **_input_of(values["input"])})
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableRecordError("?", _reason(error)) from error


def read_input(values: Mapping[str, Any]) -> tuple[JobInput, tuple[str, ...]]:
    """A stored input, and the names of its options that are not known here.

    Such an option has its default in what is returned.

    Raises:
        ValueError, TypeError: The rest makes no input.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"an input is {type(values).__name__}, not an object")
    options: dict[str, Any] = dict(values.get("options", {}))
    unknown: set[str] = set()
    try:
        known = SamplingOptions.model_validate(options)
    except ValidationError as error:
        # The first part of a place is the option; a rule about several of them names no place.
        unknown = {str(item["loc"][0]) if item["loc"] else "options" for item in error.errors()}
        kept = {name: value for name, value in options.items() if name not in unknown}
        known = SamplingOptions() if "options" in unknown else SamplingOptions(**kept)
    return JobInput.model_validate({**values, "options": known}), tuple(sorted(unknown))


def word_or_none(kind: type[_Word], text: str | None) -> _Word | None:
    """A word of a closed set, or None for one that another release added."""
    return kind(text) if text in set(kind) else None


def flat(fields: Mapping[str, str | int]) -> list[str | int]:
    """Names and values in turn, as HSET takes them."""
    return [word for pair in fields.items() for word in pair]


def _input_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record that come from its stored input."""
    job_input, unknown = read_input(stored)
    return {
        "input": job_input,
        "unknown_options": unknown,
        "stored_options": stored["options"] if unknown else None,
    }


def _input_json(record: JobRecord) -> str:
    """What is stored of an input; an option that is not known here stays what it is."""
    # Without what equals its default, an older release reads all but what was really chosen.
    if record.stored_options is None:
        return record.input.model_dump_json(exclude_defaults=True)
    values = record.input.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({**values, "options": record.stored_options})


def _record(fields: Mapping[str, str]) -> JobRecord:
    frames: FrameCount | None = None
    if "frames_total" in fields:
        frames = FrameCount(done=int(fields["frames_done"]), total=int(fields["frames_total"]))
    values: dict[str, Any] = {
        **{name: fields.get(name) for name in _PLAIN},
        "schema_version": int(fields.get("schema", "1")),
        "stage": word_or_none(Stage, fields.get("stage")),
        "attempt": int(fields["attempt"]),
        "retries": int(fields.get("retries", "0")),
        "deaths": int(fields.get("deaths", "0")),
        "queue": fields.get("queue", "render"),
        "frames": frames,
        "deadline_at": _moment(fields.get("deadline_at")),
        "expires_at": _moment(fields.get("expires_at")),
        "retention_s": float(fields["retention_s"]) if "retention_s" in fields else None,
        "erased": "erased" in fields,
        **_input_of(json.loads(fields["input"])),
        "metadata": json.loads(fields.get("metadata", "{}")),
        "face_boxes": json.loads(fields["face_boxes"]) if "face_boxes" in fields else None,
        "timings_s": json.loads(fields.get("timings_s", "{}")),
        "result": JobResult.model_validate_json(fields["result"]) if "result" in fields else None,
        "webhook": _webhook(fields.get("webhook")),
        "failure": read_failure(fields["failure"]) if "failure" in fields else None,
    }
    return JobRecord.model_validate(values)


def read_failure(text: str) -> JobFailure:
    """A stored failure; a code that is not known here counts as an internal error.

    Raises:
        ValueError: The text is no failure.
    """
    values = json.loads(text)
    code = word_or_none(ErrorCode, values["code"]) or ErrorCode.INTERNAL_ERROR
    return JobFailure.model_validate({**values, "code": code})


def _webhook(text: str | None) -> WebhookState | None:
    """What became of a job's webhook; what another release wrote of it may say more than we know."""
    try:
        return None if text is None else WebhookState.model_validate_json(text)
    except ValidationError:
        return None


def _reason(error: Exception) -> str:
    """What is wrong, by names of fields alone: values may be a caller's words."""
    if isinstance(error, ValidationError):
        return ", ".join(".".join(map(str, item["loc"])) for item in error.errors()) or "?"
    return (
        f"{type(error).__name__} {error}" if isinstance(error, KeyError) else type(error).__name__
    )


def _unix(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.timestamp():.3f}"


def _moment(unix_s: str | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(float(unix_s), UTC)
