"""The job as a client sees it, derived from the ledger's record at each read."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from service.problems import problem_of_failure
from service.schemas.problem import Problem
from worker.contract.messages import (
    FrameCount,
    JobInput,
    JobRecord,
    JobResult,
    JobState,
    Stage,
    VideoUse,
)


class JobLinks(BaseModel):
    """Where to go next; `content` appears with the video."""

    self: str
    content: str | None


class ResultPublic(BaseModel):
    """A finished video and what made it."""

    model_config = ConfigDict(protected_namespaces=())

    content_type: str
    bytes: int
    sha256: str
    width: int
    height: int
    fps: float
    num_frames: int
    seconds: float
    url: str
    face_bbox_xyxy: tuple[float, float, float, float] | None
    timings_s: dict[str, float]
    model_name: str
    weights_sha256: str | None
    attention_backend: str | None
    dtype: str
    device: str
    video: VideoUse | None


class JobPublic(BaseModel):
    """`GET /v1/jobs/<id>`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "5f0c3b7e9d1a4c62a8e47b90c1d2e3f4",
                    "object": "job",
                    "state": "running",
                    "stage": "generating",
                    "progress": 0.42,
                    "frames": {"done": 105, "total": 250},
                    "attempt": 1,
                    "created_at": "2026-11-21T10:00:00Z",
                    "started_at": "2026-11-21T10:00:01Z",
                    "finished_at": None,
                    "timings_s": {"queued": 1.0},
                    "input": {
                        "audio": {
                            "seconds": 10.0,
                            "sample_rate_hz": 48000,
                            "channels": 1,
                            "format": "wav",
                            "bytes": 960044,
                            "sha256": "c" * 64,
                        },
                        "image": {
                            "width": 1024,
                            "height": 1024,
                            "format": "jpeg",
                            "bytes": 183000,
                            "sha256": "a" * 64,
                        },
                        "video": None,
                        "driving_video": None,
                        "references": [],
                        "options": {
                            "seed": 0,
                            "preset": "balanced",
                            "num_inference_steps": None,
                            "fps": 25.0,
                            "face_index": 0,
                            "lip_strength": 1.0,
                        },
                    },
                    "result": None,
                    "error": None,
                    "links": {
                        "self": "/v1/jobs/5f0c3b7e9d1a4c62a8e47b90c1d2e3f4",
                        "content": None,
                    },
                }
            ]
        }
    )

    id: str
    object: str = "job"
    state: JobState
    stage: Stage | None
    progress: float
    frames: FrameCount | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    timings_s: dict[str, float]
    input: JobInput
    result: ResultPublic | None
    error: Problem | None
    links: JobLinks


def public_job(record: JobRecord, base_url: str) -> JobPublic:
    """Derive what a client sees.

    Args:
        record: The ledger's record.
        base_url: What links begin with: a path prefix, or scheme and host; no slash at the end.
    """
    self_link = f"{base_url}/v1/jobs/{record.id}"
    result: ResultPublic | None = None
    if record.result is not None:
        result = _public_result(record.result, record, f"{self_link}/content")
    error: Problem | None = None
    if record.failure is not None:
        error = problem_of_failure(record.failure, record.request_id)
    return JobPublic(
        id=record.id,
        state=record.state,
        stage=record.stage,
        progress=_progress(record),
        frames=record.frames,
        attempt=record.attempt,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        timings_s=_timings_s(record),
        input=record.input,
        result=result,
        error=error,
        links=JobLinks(self=self_link, content=result.url if result else None),
    )


def _public_result(result: JobResult, record: JobRecord, url: str) -> ResultPublic:
    return ResultPublic(
        **result.model_dump(exclude={"key", "renderer"}),
        **result.renderer.model_dump(),
        timings_s=record.timings_s,
        url=url,
    )


def _progress(record: JobRecord) -> float:
    if record.state is JobState.SUCCEEDED:
        return 1.0
    if record.frames is None or record.frames.total == 0:
        return 0.0
    return round(record.frames.done / record.frames.total, 4)


def _timings_s(record: JobRecord) -> dict[str, float]:
    """Seconds in the queue, in each stage, and from accept to end, as far as they are known."""
    timings_s: dict[str, float] = {}
    if record.started_at is not None:
        timings_s["queued"] = _between(record.created_at, record.started_at)
    timings_s |= record.timings_s
    if record.finished_at is not None:
        timings_s["total"] = _between(record.created_at, record.finished_at)
    return timings_s


def _between(start: datetime, end: datetime) -> float:
    return round((end - start).total_seconds(), 3)
