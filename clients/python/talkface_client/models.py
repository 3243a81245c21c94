"""The service's answers. Written by generate.py from openapi.json; not by hand."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, RootModel


class AudioInput(BaseModel):
    """The sound that was sent; `sha256` is of the bytes as they came.

    Where `seconds` were asked for instead, it is silence: `format` says so, and there are no bytes.
    `notes` are sentences for the person who sent it: what was chosen or mended.
    """

    bytes: int
    channels: int
    format: str
    notes: list[str] = []
    sample_rate_hz: int
    seconds: float
    sha256: str


class Credentials(BaseModel):
    """The Content Credentials in a video.

    Args:
        manifest: Name of the manifest, unique.
        certificate_sha256: Digest of the certificate that signed.
        timestamp: Whether an independent server told the time; None = none was asked.
    """

    certificate_sha256: str
    manifest: str
    timestamp: str | None = None


class FacePublic(BaseModel):
    """A face that was found."""

    box: tuple[float, float, float, float] = Field(
        ...,
        description="Left, top, right and bottom as shares of the picture's width and height.",
    )
    detail: str | None = Field(..., description="The same as a sentence.")
    index: int = Field(..., description="What `face_index` calls it; 0 is the largest.")
    refused: str | None = Field(
        ..., description="Why a job with this face would fail; null if it would not."
    )
    size_px: float = Field(
        ..., description="Longer side in pixels of the picture as it is animated."
    )


class FacesPublic(BaseModel):
    """`POST /v1/faces`."""

    faces: list[FacePublic] = Field(..., description="Largest first; none where nobody was found.")
    height: int
    object: Literal["faces"] = "faces"
    width: int = Field(..., description="Of the picture as it would be animated, in pixels.")


class FieldError(BaseModel):
    """One field of a request that is wrong."""

    field: str
    message: str


class FilePublic(BaseModel):
    """`GET /v1/files/<id>`."""

    audio: AudioInput
    bytes: int = Field(..., description="Size of all its files.")
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = Field(..., description="When it is erased.")
    id: str
    object: Literal["file"] = "file"


class FrameCount(BaseModel):
    """How far a job has come."""

    done: int
    total: int


class Health(BaseModel):
    """The process runs."""

    status: str = "ok"
    version: str


class ImageInput(BaseModel):
    """The picture: its size after normalisation, `sha256` of the bytes as they came.

    With `has_original` it is stored as large as it was sent as well.
    """

    bytes: int
    format: str
    has_original: bool = False
    height: int
    sha256: str
    width: int


class ConsentEnum(StrEnum):
    stated = "stated"


class Consent(RootModel[ConsentEnum | None]):
    root: ConsentEnum | None = None


class JobLinks(BaseModel):
    """Where to go next; `content` and `thumbnail` come with the video, `cancel` goes with the end."""

    cancel: str | None
    content: str | None
    events: str
    self: str
    stream: str | None = Field(
        None,
        description="The video while it is drawn, and afterwards; null where there will be none, and until the end where the deployment has no streams.",
    )
    thumbnail: str | None = None


class JobState(StrEnum):
    """Where a job stands; the last three are terminal and are written once."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class JobWarning(BaseModel):
    """Something that did not stop the job and that a person may want to look at."""

    code: str = Field(..., description="A stable word, such as `face_lost`; more may come.")
    detail: str


class Pending(BaseModel):
    """Uploads that are stored as they came and still have to be decoded, and what is tolerated.

    Args:
        files: Names of their form fields.
        max_audio_s: Longest sound in seconds.
        max_video_s: Longest video in seconds.
        max_side: Longest side of a normalised video in pixels.
        background: What stands behind transparent parts, `#rrggbb`.
        keeps_rate: Videos keep their own rate, as exactly as decoding tells it.
    """

    background: str = "#ffffff"
    files: list[str]
    keeps_rate: bool = False
    max_audio_s: float
    max_side: int
    max_video_s: float


class Problem(BaseModel):
    """`application/problem+json`; branch on `code`, show `detail`."""

    code: str = Field(..., description="Why a request was refused or a job failed.")
    detail: str
    errors: list[FieldError] | None = None
    params: dict[str, Any] | None = None
    request_id: str | None = None
    status: int
    title: str
    type: str = Field(
        ...,
        description="A name for the kind of problem, `urn:talkface:problem:<code>`.",
    )


class Readiness(BaseModel):
    """Jobs can be accepted and will be worked on."""

    durable: bool | None = Field(
        ...,
        description="Whether Redis keeps each write on its disk; null where it does not tell.",
    )
    live_inspectors: int
    live_reconcilers: int
    live_validators: int
    live_workers: int
    quarantined: int = Field(
        ..., description="Jobs that some process could not handle; the log says why."
    )
    redis: bool
    signer: bool | None = Field(
        None,
        description="Whether the signer answers; null where videos are not signed.",
    )
    status: str = "ready"
    storage: bool


class SamplingOptions(BaseModel):
    """What a caller may choose for one video. The bounds are checked where the request comes in.

    An unknown option is an error here: a choice that is silently ignored makes the wrong video.
    Stored options come through `ledger_records.read_input`, which names those that are not known.
    """

    audio_for: str = Field(
        "film",
        description="With `ranges`, what the `audio` is: `film`, it runs from the film's beginning, and of it the ranges are heard; `ranges`, it is for them alone and is spoken in one after the other.",
    )
    audio_offset_ms: str | int = Field(
        0,
        description="Milliseconds by which the sound is moved: above 0 it is heard later, after silence; below 0 earlier, its beginning cut off. Not with `seconds`. `auto`, for a `video` whose face says these very words: as its lips ask for, up to 0.6 s either way.",
    )
    blink: bool = Field(
        True, description="Whether the eyes of a photograph blink. Not with `video`."
    )
    check_face: bool = Field(
        True,
        description="Whether a face that looks away, or whose mouth is covered, is refused. `false`: it is drawn as well as it can be.",
    )
    face_index: int = Field(0, description="Which face speaks, 0 = the largest.")
    fps: float | None = Field(
        None,
        description="Frames per second of the video. Left out: those of the `video` or `driving_video`, halved until they are at most 60; 25 for a photograph.",
    )
    frame: str = Field(
        "source",
        description="What is shown: the whole picture (`source`), or a window around head and shoulders, 1:1 (`square`), 9:16 (`portrait`) or 16:9 (`landscape`).",
    )
    label: str | None = Field(
        None,
        description="The visible label that says that AI made the video: `off`, `intro` (its first 3 seconds) or `always`. Left out: what the deployment says, by default `always`.",
    )
    label_language: str | None = Field(
        None,
        description="Language of the label; left out: the deployment's, by default `en`.",
    )
    lip_strength: float = Field(1.0, description="Scale of the lip motion, 1 = as predicted.")
    loop: bool = Field(
        False,
        description="The last frame is the first one, for players that wait. Not with `video` or `driving_video`.",
    )
    motion: str | float | None = Field(
        None,
        description="How much the head of a photograph moves: `still`, `subtle`, `natural`, or a strength, 1 = `natural`. Left out: `natural`, or as the `driving_video` does. Not with `video` or `driving_video`.",
    )
    num_inference_steps: int | None = Field(
        None, description="Denoising steps a frame; left out, the preset decides."
    )
    preset: str = Field(
        "balanced",
        description="Speed against detail; `preview` draws without diffusion.",
    )
    ranges: list[tuple[float, float]] | None = Field(
        None,
        description="The parts of a `video` that are dubbed: START-END in seconds, several with commas between them, such as `1.5-4,10-12`. The rest keeps its pictures and its sound. Left out: all of it.",
    )
    seconds: float | None = Field(
        None, description="Instead of `audio`: a photograph that listens for so long."
    )
    seed: int = Field(0, description="Seed of the noise; the same seed gives the same video.")
    video_longer: str = Field(
        "cut",
        description="Where the `video` is longer than the `audio`: it ends with it (`cut`), or its rest is kept with its own sound (`keep`). With `ranges` it is kept in any case.",
    )
    video_shorter: str = Field(
        "bounce",
        description="Where the `video` is shorter than the `audio`: it runs backwards and forwards again (`bounce`), begins again (`repeat`), stands still (`freeze`), or ends the sound (`cut`).",
    )


class Signer(BaseModel):
    """Who signed, as the certificate says.

    Args:
        name: The certificate's common name.
        organization: Its organization.
        is_known: Whether it is this installation; if not, the name is only a claim.
    """

    is_known: bool
    name: str | None
    organization: str | None


class Software(BaseModel):
    """A program, as the manifest names it."""

    name: str
    version: str | None = None


class SyncScore(BaseModel):
    """Whether the lips as they were drawn say what is heard, by our own network, in a few short windows.

    It sorts the videos of one service, and says *in step*, not *real*; no published figure is its like.

    Args:
        agreement: -1 to 1, higher is better; videos that are right have about 0.6.
        offset_ms: By how much the lips are late (above 0) or early where they agree best.
        confidence: How much better that is than other offsets; near 0 where lips do not follow the sound.
        watched_s: Seconds that were looked at.
    """

    agreement: float
    confidence: float
    offset_ms: int
    watched_s: float


class TimeStamp(BaseModel):
    """When an independent server saw the signature, where one was asked."""

    state: str
    time: str | None = None


class Consent1Enum(StrEnum):
    """`stated`: whoever had it made said that the person agreed."""

    stated = "stated"


class Consent1(RootModel[Consent1Enum | None]):
    root: Consent1Enum | None = Field(
        None, description="`stated`: whoever had it made said that the person agreed."
    )


class Verification(BaseModel):
    """What a file says of itself, and what that is worth."""

    consent: Consent1 | None = Field(
        None, description="`stated`: whoever had it made said that the person agreed."
    )
    created_at: str | None = Field(None, description="When it was made, as whoever signed says.")
    manifest: str | None = Field(None, description="Name of the manifest, unique.")
    problems: list[str] = Field([], description="What does not fit, in C2PA's codes.")
    signer: Signer | None = None
    software: list[Software] = Field([], validate_default=True)
    source_types: list[str] = Field(
        [],
        description="How the pictures came about, in IPTC's terms; `trainedAlgorithmicMedia` and `compositeWithTrainedAlgorithmicMedia` mean AI.",
    )
    summary: str = Field(..., description="The same in plain words.")
    timestamp: TimeStamp | None = Field(None, description="What an independent server says.")
    verdict: str
    watermark: str = Field(
        "not_looked_for",
        description="Whether the watermark of this installation is in its pictures. It outlives re-encoding, and is no proof: `ours` is said for a signature alone.",
    )
    watermark_job: str | None = Field(
        None,
        description="What the watermark says: the first twelve digits of the job's id.",
    )


class VideoInput(BaseModel):
    """A video: what it is after normalisation, `format` and `sha256` of the bytes as they came.

    Size and length are None until the video has been decoded. `dubbed` are the seconds whose mouth is
    drawn, None for all. `notes` are sentences for the person who sent it.
    """

    bytes: int
    dubbed: list[tuple[float, float]] | None = None
    format: str
    fps: float
    height: int | None = None
    notes: list[str] = []
    num_frames: int | None = None
    seconds: float | None = None
    sha256: str
    width: int | None = None


class VideoUse(BaseModel):
    """What became of the video that was dubbed or drove a photograph.

    Args:
        source_frames: Frames of the normalised upload.
        held_frames: Numbers of those without a face, where the last good pose was held.
        looped: The sound was longer, so the frames ran backwards and forwards again.
        audio_offset_ms: By how much the sound was moved where `auto` was asked for.
    """

    audio_offset_ms: int | None = None
    held_frames: list[int]
    looped: bool
    source_frames: int


class WebhookSecret(BaseModel):
    """`GET /v1/webhook-secret`."""

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str = Field(
        ...,
        description="For any Standard Webhooks library; the same for all keys that share jobs.",
    )


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

    attempts: int = 0
    next_at: AwareDatetime | None = None
    reason: str | None = None
    state: str
    status: int | None = None
    tried_at: AwareDatetime | None = None


class AvatarPublic(BaseModel):
    """`GET /v1/avatars/<id>`."""

    bytes: int = Field(..., description="Size of all its files.")
    created_at: AwareDatetime
    error: Problem | None
    expires_at: AwareDatetime | None = Field(..., description="When it is erased.")
    faces: list[FacePublic] | None = Field(
        ...,
        description="Of the picture, or of the film's first frame with a face; null before anybody looked.",
    )
    id: str
    image: ImageInput | None
    object: Literal["avatar"] = "avatar"
    state: str = Field(
        ...,
        description="`preparing`: it can be used, and gains nothing yet; `ready`; `failed`, with `error`.",
    )
    video: VideoInput | None


class FilePage(BaseModel):
    """`GET /v1/files`: the caller's files, newest first."""

    data: list[FilePublic]
    next_cursor: str | None = Field(..., description="Send it as `cursor` for what is older.")
    object: Literal["list"] = "list"


class JobInput(BaseModel):
    """Everything that determines a video.

    Either `image` is animated, by `driving_video` if there is one, or `video` is dubbed.
    `references` are further pictures of the same person. Until `pending` files are decoded, what is
    said of them is what their heads say. `consent` is whether whoever sent it stated that the person
    agreed; nobody is named. `avatar_id` and `audio_id` say what of it was kept here before, and
    `has_faces` that the faces in it are known.
    """

    audio: AudioInput
    audio_id: str | None = None
    avatar_id: str | None = None
    consent: Consent | None = None
    driving_video: VideoInput | None = None
    has_faces: bool = False
    image: ImageInput | None = None
    options: SamplingOptions
    pending: Pending | None = None
    references: list[ImageInput] = Field([], validate_default=True)
    video: VideoInput | None = None


class ResultPublic(BaseModel):
    """A finished video and what made it."""

    attention_backend: str | None
    bytes: int
    content_type: str
    credentials: Credentials | None = Field(
        ...,
        description="Its Content Credentials; null where the deployment does not sign.",
    )
    device: str
    dtype: str
    face_bbox_xyxy: tuple[float, float, float, float] | None
    fps: float
    height: int
    label: str | None = Field(..., description="The visible label that the video has.")
    model_name: str
    num_frames: int
    seconds: float
    sha256: str
    sync: SyncScore | None = Field(
        ...,
        description="Whether the drawn lips say what is heard, to sort videos by; null where nobody speaks or no face was found again.",
    )
    timings_s: dict[str, Any]
    url: str
    video: VideoUse | None
    watermark: bool = Field(False, description="Whether its pictures have the invisible watermark.")
    weights_sha256: str | None
    width: int


class AvatarPage(BaseModel):
    """`GET /v1/avatars`: the caller's avatars, newest first."""

    data: list[AvatarPublic]
    next_cursor: str | None = Field(..., description="Send it as `cursor` for what is older.")
    object: Literal["list"] = "list"


class JobPublic(BaseModel):
    """`GET /v1/jobs/<id>`."""

    attempt: int
    cancel_requested_at: AwareDatetime | None
    created_at: AwareDatetime
    deadline_at: AwareDatetime | None
    error: Problem | None
    eta_s: float | None = Field(
        ...,
        description="Seconds to the end by measured speed, or null where nothing was measured.",
    )
    expires_at: AwareDatetime | None = Field(..., description="When the files are erased.")
    face_boxes: list[tuple[float, float, float, float]] | None = Field(
        ...,
        description="Faces of the picture, largest first; null before anyone looked.",
    )
    finished_at: AwareDatetime | None
    frames: FrameCount | None
    id: str
    input: JobInput
    links: JobLinks
    metadata: dict[str, Any] | None = Field(None, description="What was sent as `metadata`.")
    object: Literal["job"] = "job"
    progress: float = Field(..., description="0 to 1.")
    queue_position: int | None = Field(..., description="Jobs that are started before this one.")
    result: ResultPublic | None
    stage: str | None
    started_at: AwareDatetime | None
    state: JobState
    timings_s: dict[str, Any]
    warnings: list[JobWarning] = Field(
        [],
        description="What may be wrong with a video that was made all the same.",
        validate_default=True,
    )
    webhook: WebhookState | None = Field(
        ...,
        description="What became of the webhook; null before the end, or where nobody is told.",
    )


class JobPage(BaseModel):
    """`GET /v1/jobs`: the caller's jobs, newest first."""

    data: list[JobPublic]
    next_cursor: str | None = Field(..., description="Send it as `cursor` for what is older.")
    object: Literal["list"] = "list"
