"""The job as a client sees it, derived from the ledger's record at each read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.job_warnings import warnings_of
from service.problems import problem_of_failure
from service.schemas.examples import RUNNING_JOB
from service.schemas.problem import Problem
from worker.contract.messages import BboxXyxy, FrameCount, JobInput, JobRecord, JobState, Stage
from worker.contract.results import Credentials, JobResult, LabelName, SyncScore, VideoUse
from worker.contract.webhook_state import WebhookState


class JobLinks(BaseModel):
    """Where to go next; `content` and `thumbnail` come with the video, `cancel` goes with the end."""

    self: str
    events: str
    content: str | None
    cancel: str | None
    thumbnail: str | None = None
    stream: str | None = Field(
        default=None,
        description="The video while it is drawn, and afterwards; null where there will be none, and "
        "until the end where the deployment has no streams.",
    )


class JobWarning(BaseModel):
    """Something that did not stop the job and that a person may want to look at."""

    code: str = Field(description="A stable word, such as `face_lost`; more may come.")
    detail: str


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
    label: LabelName | None = Field(description="The visible label that the video has.")
    watermark: bool = Field(
        default=False, description="Whether its pictures have the invisible watermark."
    )
    credentials: Credentials | None = Field(
        description="Its Content Credentials; null where the deployment does not sign."
    )
    sync: SyncScore | None = Field(
        description="Whether the drawn lips say what is heard, to sort videos by; null where nobody "
        "speaks or no face was found again."
    )


class JobPublic(BaseModel):
    """`GET /v1/jobs/<id>`."""

    model_config = ConfigDict(json_schema_extra={"examples": [RUNNING_JOB]})

    id: str
    object: Literal["job"] = "job"
    state: JobState
    stage: Stage | None
    progress: float = Field(description="0 to 1.")
    frames: FrameCount | None
    queue_position: int | None = Field(description="Jobs that are started before this one.")
    eta_s: float | None = Field(
        description="Seconds to the end by measured speed, or null where nothing was measured."
    )
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    expires_at: datetime | None = Field(description="When the files are erased.")
    timings_s: dict[str, float]
    input: JobInput
    face_boxes: tuple[BboxXyxy, ...] | None = Field(
        description="Faces of the picture, largest first; null before anyone looked."
    )
    webhook: WebhookState | None = Field(
        description="What became of the webhook; null before the end, or where nobody is told."
    )
    result: ResultPublic | None
    error: Problem | None
    warnings: tuple[JobWarning, ...] = Field(
        default=(), description="What may be wrong with a video that was made all the same."
    )
    metadata: dict[str, str] = Field(
        default_factory=dict, description="What was sent as `metadata`."
    )
    links: JobLinks


class JobPage(BaseModel):
    """`GET /v1/jobs`: the caller's jobs, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"object": "list", "data": [RUNNING_JOB], "next_cursor": None}]
        }
    )

    object: Literal["list"] = "list"
    data: list[JobPublic]
    next_cursor: str | None = Field(description="Send it as `cursor` for what is older.")


@dataclass(frozen=True)
class Links:
    """Makes the addresses in a job object.

    Args:
        base_url: What they begin with: a path prefix, or scheme and host; no slash at the end.
        query: What an address ends with that is fetched without a key: job, `content` or `events`.
        is_streamed: Videos can be watched while they are drawn.
    """

    base_url: str
    query: Callable[[str, Literal["content", "events"]], str] = lambda _job, _purpose: ""
    is_streamed: bool = True

    def job(self, job_id: str) -> str:
        """The job itself."""
        return f"{self.base_url}/v1/jobs/{job_id}"

    def events(self, job_id: str) -> str:
        """Its events."""
        return f"{self.job(job_id)}/events{self.query(job_id, 'events')}"

    def content(self, job_id: str) -> str:
        """Its video."""
        return f"{self.job(job_id)}/content{self.query(job_id, 'content')}"

    def stream(self, job_id: str) -> str:
        """Its video while it is drawn; who may see the one may see the other."""
        return f"{self.job(job_id)}/stream{self.query(job_id, 'content')}"

    def thumbnail(self, job_id: str) -> str:
        """A frame of its video; who may see the one may see the other."""
        return f"{self.job(job_id)}/thumbnail{self.query(job_id, 'content')}"


def public_job(
    record: JobRecord,
    links: Links,
    *,
    queue_position: int | None = None,
    eta_s: float | None = None,
) -> JobPublic:
    """Derive what a client sees.

    Args:
        record: The ledger's record.
        links: Makes addresses.
        queue_position: Jobs that are started before it, 0 = next; None unless it waits.
        eta_s: Seconds to its end; None = not known.
    """
    result: ResultPublic | None = None
    if record.result is not None and not record.erased:
        result = _public_result(record.result, record, links.content(record.id))
    error: Problem | None = None
    if record.failure is not None:
        error = problem_of_failure(record.failure, record.request_id)
    self_link = links.job(record.id)
    is_open = not record.state.is_terminal
    has_thumbnail = result is not None and record.result is not None and record.result.thumbnail_key
    return JobPublic(
        id=record.id,
        state=record.state,
        stage=record.stage,
        progress=_progress(record),
        frames=record.frames,
        queue_position=queue_position,
        eta_s=eta_s,
        attempt=record.attempt,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        deadline_at=record.deadline_at,
        cancel_requested_at=record.cancel_requested_at,
        expires_at=record.expires_at,
        timings_s=_timings_s(record),
        input=record.input,
        face_boxes=record.face_boxes,
        webhook=_webhook(record),
        result=result,
        error=error,
        warnings=tuple(
            JobWarning(code=code, detail=detail) for code, detail in warnings_of(record)
        ),
        metadata=record.metadata,
        links=JobLinks(
            self=self_link,
            events=links.events(record.id),
            content=result.url if result else None,
            thumbnail=links.thumbnail(record.id) if has_thumbnail else None,
            cancel=f"{self_link}/cancel" if is_open else None,
            stream=links.stream(record.id) if result or (is_open and links.is_streamed) else None,
        ),
    )


def _public_result(result: JobResult, record: JobRecord, url: str) -> ResultPublic:
    return ResultPublic(
        **result.model_dump(exclude={"key", "renderer", "thumbnail_key"}),
        **result.renderer.model_dump(),
        timings_s=record.timings_s,
        url=url,
    )


def _webhook(record: JobRecord) -> WebhookState | None:
    if record.callback_url is None or not record.state.is_terminal:
        return None
    return record.webhook or WebhookState(state="waiting")


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
