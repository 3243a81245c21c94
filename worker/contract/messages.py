"""The messages that cross a process border, as frozen pydantic models.

Media never travels in a message: files go through the artifact store and messages carry their keys.

What is stored may be read by another release: during a rolling upgrade, or after a step back. So a
message ignores a field that it does not know, and a field that is added later needs a default, which
is never written. What a caller sends is another matter: options that are not known are refused.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from worker.contract.errors import ErrorCode, ParamValue
from worker.contract.message import Message
from worker.contract.option_types import (
    AudioOffset,
    ForRanges,
    Fps,
    Frame,
    Motion,
    Range,
    Ranges,
    WhereLonger,
    WhereShorter,
)
from worker.contract.results import JobResult, LabelName
from worker.contract.webhook_state import WebhookState

QueueName = Literal["validate", "inspect", "render"]
BboxXyxy = tuple[float, float, float, float]
PresetName = Literal["preview", "fast", "balanced", "quality"]
LabelLanguage = Literal["en", "cs", "da", "de", "el", "es", "fr", "it", "nl", "pl", "pt", "sv"]

SCHEMA: Final = 3
"""The newest layout of a job that this release can work on.

1 was before 0.2.1, 2 is 0.2.1's, 3 has files that are decoded after the 202 (`JobInput.pending`).
"""
_SCHEMA_OF_DECODED: Final = 2
MOST_SECONDS: Final = 3600.0
"""Longest video without a voice that can be asked for; a deployment allows what it allows of audio."""


class JobState(StrEnum):
    """Where a job stands; the last three are terminal and are written once."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the state never changes again."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Stage(StrEnum):
    """What a running job is doing."""

    VALIDATING = "validating"
    DETECTING = "detecting"
    LANDMARKS = "landmarks"
    GENERATING = "generating"
    ENCODING = "encoding"


class SamplingOptions(Message):
    """What a caller may choose for one video. The bounds are checked where the request comes in.

    An unknown option is an error here: a choice that is silently ignored makes the wrong video.
    Stored options come through `ledger_records.read_input`, which names those that are not known.
    """

    model_config = ConfigDict(extra="forbid")

    seed: Annotated[
        int,
        Field(
            ge=0, le=2**32 - 1, description="Seed of the noise; the same seed gives the same video."
        ),
    ] = 0
    preset: Annotated[
        PresetName,
        Field(description="Speed against detail; `preview` draws without diffusion."),
    ] = "balanced"
    num_inference_steps: Annotated[
        int | None,
        Field(ge=1, le=50, description="Denoising steps a frame; left out, the preset decides."),
    ] = None
    fps: Fps = 25.0
    face_index: Annotated[
        int, Field(ge=0, le=15, description="Which face speaks, 0 = the largest.")
    ] = 0
    check_face: Annotated[
        bool,
        Field(
            description="Whether a face that looks away, or whose mouth is covered, is refused. "
            "`false`: it is drawn as well as it can be."
        ),
    ] = True
    lip_strength: Annotated[
        float, Field(ge=0.0, le=2.0, description="Scale of the lip motion, 1 = as predicted.")
    ] = 1.0
    motion: Motion = None
    blink: Annotated[
        bool, Field(description="Whether the eyes of a photograph blink. Not with `video`.")
    ] = True
    loop: Annotated[
        bool,
        Field(
            description="The last frame is the first one, for players that wait. Not with `video` "
            "or `driving_video`."
        ),
    ] = False
    seconds: Annotated[
        float | None,
        Field(
            ge=0.2,
            le=MOST_SECONDS,
            description="Instead of `audio`: a photograph that listens for so long.",
        ),
    ] = None
    audio_offset_ms: AudioOffset = 0
    ranges: Ranges = None
    audio_for: ForRanges = "film"
    video_shorter: WhereShorter = "bounce"
    video_longer: WhereLonger = "cut"
    frame: Frame = "source"
    label: Annotated[
        LabelName | None,
        Field(
            description="The visible label that says that AI made the video: `off`, `intro` (its "
            "first 3 seconds) or `always`. Left out: what the deployment says, by default `always`."
        ),
    ] = None
    label_language: Annotated[
        LabelLanguage | None,
        Field(description="Language of the label; left out: the deployment's, by default `en`."),
    ] = None

    @model_validator(mode="after")
    def _steps_need_diffusion(self) -> Self:
        if self.preset == "preview" and self.num_inference_steps is not None:
            raise ValueError(
                f"num_inference_steps is {self.num_inference_steps}, but preset preview draws without diffusion; "
                "leave it out, or choose fast, balanced or quality"
            )
        return self


INTAKE_OPTIONS: Final = frozenset(
    {"audio_offset_ms", "seconds", "ranges", "audio_for", "video_longer"}
)
"""Options that the intake has carried out before anything is drawn."""


WRITER_OPTIONS: Final = frozenset({"label", "label_language"})
"""Options that concern what is put on the finished frames, not how they are drawn."""


class AudioInput(Message):
    """The sound that was sent; `sha256` is of the bytes as they came.

    Where `seconds` were asked for instead, it is silence: `format` says so, and there are no bytes.
    `notes` are sentences for the person who sent it: what was chosen or mended.
    """

    seconds: float
    sample_rate_hz: int
    channels: int
    format: str
    bytes: int
    sha256: str
    notes: tuple[str, ...] = ()


class ImageInput(Message):
    """The picture: its size after normalisation, `sha256` of the bytes as they came.

    With `has_original` it is stored as large as it was sent as well.
    """

    width: int
    height: int
    format: str
    bytes: int
    sha256: str
    has_original: bool = False


class VideoInput(Message):
    """A video: what it is after normalisation, `format` and `sha256` of the bytes as they came.

    Size and length are None until the video has been decoded. `dubbed` are the seconds whose mouth is
    drawn, None for all. `notes` are sentences for the person who sent it.
    """

    width: int | None = None
    height: int | None = None
    fps: float
    num_frames: int | None = None
    seconds: float | None = None
    format: str
    bytes: int
    sha256: str
    dubbed: tuple[Range, ...] | None = None
    notes: tuple[str, ...] = ()


class Pending(Message):
    """Uploads that are stored as they came and still have to be decoded, and what is tolerated.

    Args:
        files: Names of their form fields.
        max_audio_s: Longest sound in seconds.
        max_video_s: Longest video in seconds.
        max_side: Longest side of a normalised video in pixels.
        background: What stands behind transparent parts, `#rrggbb`.
        keeps_rate: Videos keep their own rate, as exactly as decoding tells it.
    """

    files: tuple[Literal["audio", "video", "driving_video"], ...]
    max_audio_s: float
    max_video_s: float
    max_side: int
    background: str = "#ffffff"
    keeps_rate: bool = False


class JobInput(Message):
    """Everything that determines a video.

    Either `image` is animated, by `driving_video` if there is one, or `video` is dubbed.
    `references` are further pictures of the same person. Until `pending` files are decoded, what is
    said of them is what their heads say. `consent` is whether whoever sent it stated that the person
    agreed; nobody is named. `avatar_id` and `audio_id` say what of it was kept here before, and
    `has_faces` that the faces in it are known.
    """

    audio: AudioInput
    image: ImageInput | None = None
    video: VideoInput | None = None
    driving_video: VideoInput | None = None
    references: tuple[ImageInput, ...] = ()
    options: SamplingOptions
    pending: Pending | None = None
    consent: Literal["stated"] | None = None
    avatar_id: str | None = None
    audio_id: str | None = None
    has_faces: bool = False

    @model_validator(mode="after")
    def _one_thing_moves(self) -> Self:
        if (self.image is None) == (self.video is None):
            raise ValueError("expected either an image or a video, got both or none")
        if self.video is not None and self.driving_video is not None:
            raise ValueError("expected a driving video beside an image only, got one with a video")
        return self


def with_notes(job_input: JobInput, notes: tuple[str, ...]) -> JobInput:
    """An input with further sentences about its sound."""
    told = job_input.audio.model_copy(update={"notes": (*job_input.audio.notes, *notes)})
    return job_input.model_copy(update={"audio": told})


def needed_schema(job_input: JobInput) -> int:
    """The oldest layout that a process must know to work on an input."""
    return _SCHEMA_OF_DECODED if job_input.pending is None else SCHEMA


class JobFailure(Message):
    """Why a job failed: a code, its figures, the form field to blame; never an HTTP status."""

    code: ErrorCode
    detail: str
    params: dict[str, ParamValue] = Field(default_factory=dict)
    field: str | None = None


class FrameCount(Message):
    """How far a job has come."""

    done: int
    total: int


class JobRecord(Message):
    """The stored truth about one job; `service.schemas` derives from it what a client sees.

    Args:
        id: 32 hexadecimal digits.
        state: Where it stands.
        stage: What its worker is doing, while it runs.
        attempt: Number of its current delivery, from 1.
        retries: Attempts that followed a failure.
        deaths: Attempts whose worker died.
        queue: Where it waits, or was taken from; another release may have queues of its own.
        principal: Whose it is; None where nobody has a key.
        frames: How far the drawing has come.
        created_at: When it was accepted.
        started_at: When its worker took it.
        finished_at: When it became terminal.
        deadline_at: When it fails if it has not ended; None = set when a worker first takes it.
        cancel_requested_at: When a running job was asked to stop.
        retention_s: How long the result is kept after the end, None = for ever.
        expires_at: When they are erased; known once the job has ended.
        erased: They are.
        callback_url: Where to tell about the end.
        webhook: What became of that; None before it was tried.
        metadata: Words of the caller's, which come back as they are.
        request_id: Of the request that made it.
        schema_version: The oldest layout that a process must know to work on it.
        input: Everything that determines the video.
        unknown_options: Names of stored options that, or whose values, this release does not know.
        stored_options: All options as they are stored, where some are not known, to be kept.
        face_boxes: Largest first, pixels of the normalised picture; None = nobody looked yet.
        timings_s: Seconds per stage.
        result: Its video.
        failure: Why it failed.
    """

    id: str
    state: JobState
    stage: Stage | None = None
    attempt: int = 1
    retries: int = 0
    deaths: int = 0
    queue: str = "render"
    principal: str | None = None
    frames: FrameCount | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    retention_s: float | None = None
    expires_at: datetime | None = None
    erased: bool = False
    callback_url: str | None = None
    webhook: WebhookState | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    request_id: str
    schema_version: int = 1
    input: JobInput
    unknown_options: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    stored_options: Annotated[dict[str, Any] | None, Field(exclude=True)] = None
    face_boxes: tuple[BboxXyxy, ...] | None = None
    timings_s: dict[str, float] = Field(default_factory=dict)
    result: JobResult | None = None
    failure: JobFailure | None = None

    @property
    def is_understood(self) -> bool:
        """Whether this release can work on the job; if not, a newer one has to."""
        return self.schema_version <= SCHEMA and not self.unknown_options
