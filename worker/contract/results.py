"""What a render leaves: the video, what drew it, what it was drawn from, what vouches for it."""

from __future__ import annotations

from typing import Literal

from worker.contract.message import Message

LabelName = Literal["off", "intro", "always"]


class RendererInfo(Message):
    """What drew the frames; recorded in each result so that a video can be explained later."""

    model_name: str
    weights_sha256: str | None
    attention_backend: str | None
    dtype: str
    device: str


class VideoUse(Message):
    """What became of the video that was dubbed or drove a photograph.

    Args:
        source_frames: Frames of the normalised upload.
        held_frames: Numbers of those without a face, where the last good pose was held.
        looped: The sound was longer, so the frames ran backwards and forwards again.
        audio_offset_ms: By how much the sound was moved where `auto` was asked for.
    """

    source_frames: int
    held_frames: tuple[int, ...]
    looped: bool
    audio_offset_ms: int | None = None


class Credentials(Message):
    """The Content Credentials in a video.

    Args:
        manifest: Name of the manifest, unique.
        certificate_sha256: Digest of the certificate that signed.
        timestamp: Whether an independent server told the time; None = none was asked.
    """

    manifest: str
    certificate_sha256: str
    timestamp: Literal["present", "missing"] | None = None


class SyncScore(Message):
    """Whether the lips as they were drawn say what is heard, by our own network, in a few short windows.

    It sorts the videos of one service, and says *in step*, not *real*; no published figure is its like.

    Args:
        agreement: -1 to 1, higher is better; videos that are right have about 0.6.
        offset_ms: By how much the lips are late (above 0) or early where they agree best.
        confidence: How much better that is than other offsets; near 0 where lips do not follow the sound.
        watched_s: Seconds that were looked at.
    """

    agreement: float
    offset_ms: int
    confidence: float
    watched_s: float


class JobResult(Message):
    """A finished video. Its keys stay in the installation; `thumbnail_key` is a frame's, a JPEG.

    `label` is the visible label that it has, `watermark` whether its pictures have the invisible one;
    `credentials` are None where nothing was signed, `sync` where nobody speaks or no face was found
    again.
    """

    key: str
    content_type: str
    bytes: int
    sha256: str
    width: int
    height: int
    fps: float
    num_frames: int
    seconds: float
    face_bbox_xyxy: tuple[float, float, float, float] | None
    renderer: RendererInfo
    video: VideoUse | None = None
    thumbnail_key: str | None = None
    label: LabelName | None = None
    watermark: bool = False
    credentials: Credentials | None = None
    sync: SyncScore | None = None


class FinishedRender(Message):
    """What is stored beside a video, so that a lost ledger can be rebuilt."""

    result: JobResult
    timings_s: dict[str, float]

    @staticmethod
    def key_of(video_key: str) -> str:
        """Its artifact key, from that of the video."""
        return f"{video_key.removesuffix('.mp4')}.json"
