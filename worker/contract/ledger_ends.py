"""What is written into a job's hash when it ends, and what its end tells about the speed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from worker.contract.messages import JobFailure, JobRecord, JobState
from worker.contract.results import JobResult

Fields = dict[str, str | int]
Measured = tuple[str, float, float]
"""Preset, seconds of rendering per second of video, seconds of rendering."""
NOT_MEASURED: Final[Measured] = ("", 0.0, 0.0)


def succeeded(result: JobResult, timings_s: Mapping[str, float]) -> Fields:
    """The fields of a job with a video."""
    return {
        "state": JobState.SUCCEEDED.value,
        "frames_done": result.num_frames,
        "frames_total": result.num_frames,
        "result": result.model_dump_json(),
        "timings_s": json.dumps(dict(timings_s)),
    }


def failed(failure: JobFailure) -> Fields:
    """The fields of a job that failed."""
    return {"state": JobState.FAILED.value, "failure": failure.model_dump_json()}


def cancelled() -> Fields:
    """The fields of a job that was cancelled."""
    return {"state": JobState.CANCELLED.value}


def measured(
    record: JobRecord | None, result: JobResult, timings_s: Mapping[str, float]
) -> Measured:
    """The speed of a render; `NOT_MEASURED` where the record cannot be read or no time was spent.

    Args:
        record: The job.
        result: Its video.
        timings_s: Seconds per stage.
    """
    spent_s = sum(timings_s.values())
    if record is None or spent_s <= 0 or result.seconds <= 0:
        return NOT_MEASURED
    return (record.input.options.preset, spent_s / result.seconds, spent_s)
