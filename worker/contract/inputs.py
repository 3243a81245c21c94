"""What a video is made of: which files go together, what they are called, and their intake.

    image [+ more images] [+ driving video] + audio      a photograph is animated
    video [+ images] + audio                             a video is dubbed

The names of the normalised files stand here and nowhere else; in the artifact store they lie below
`inputs/<job>/`. Decoding a video takes minutes, so the service stores it as it came (`upload-video`)
and somebody else decodes it when the job has been accepted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake import (
    SOUND_RATE_HZ,
    IntakeLimits,
    accept_audio,
    accept_image,
    file_sha256,
)
from worker.contract.limited_child import keep_waiting
from worker.contract.media_probe import probe_audio, probe_video
from worker.contract.messages import (
    AudioInput,
    ImageInput,
    JobInput,
    Pending,
    SamplingOptions,
    VideoInput,
)
from worker.contract.video_intake import accept_video

MAX_REFERENCES: Final = 4
"""Most pictures beside the one that is animated, or beside a video."""

PORTRAIT: Final = "input.png"
VIDEO: Final = "input.mkv"
DRIVING: Final = "driving.mkv"
SPEECH: Final = "speech.flac"
SOUND: Final = "sound.flac"
_FILES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "audio": (SPEECH, SOUND),
    "video": (VIDEO,),
    "driving_video": (DRIVING,),
}


@dataclass(frozen=True)
class Uploads:
    """Files as they came. The first image is the portrait, unless there is a video.

    `digests` are those that were computed while the files were received.
    """

    audio: Path
    images: tuple[Path, ...] = ()
    video: Path | None = None
    driving_video: Path | None = None
    digests: Mapping[Path, str] = field(default_factory=dict)

    def sha256(self, path: Path) -> str:
        """Digest of one of the files; computed where it is not known yet."""
        return self.digests.get(path) or file_sha256(path)


class WrongCombinationError(IntakeError):
    """The files do not go together.

    Args:
        field: The part that is missing or too much.
        detail: One sentence for the person who sent them.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(ErrorCode.INVALID_OPTIONS, detail)
        self.field = field


def check_combination(*, num_images: int, has_video: bool, has_driving_video: bool) -> None:
    """Say whether these files make a video, before any of them is looked at.

    Raises:
        WrongCombinationError: They do not.
    """
    if not num_images and not has_video:
        raise WrongCombinationError(
            "image", "Nobody to animate: send an image (a portrait), or a video to dub."
        )
    if has_video and has_driving_video:
        raise WrongCombinationError(
            "driving_video",
            "A driving video moves a still image, and a video moves by itself. Send one of them.",
        )
    most = MAX_REFERENCES if has_video else 1 + MAX_REFERENCES
    if num_images > most:
        beside = "beside a video" if has_video else "(the portrait and further references)"
        raise WrongCombinationError(
            "image", f"{num_images} images were sent; at most {most} are taken {beside}."
        )


def take_in(
    uploads: Uploads,
    folder: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> JobInput:
    """Bring uploads through the intake: the cheap ones first, so that bad ones are told early.

    Args:
        uploads: Files as they came.
        folder: Where the normalised files go, by the names of this module.
        options: The caller's choices; `fps` is the rate that videos are brought to.
        limits: What is tolerated.
        on_wait: Called while a file is decoded; what it raises stops that.

    Raises:
        IntakeError: A file cannot be used, or they do not go together.
    """
    portrait, references = _take_images(uploads, folder, limits, on_wait)
    audio = _take_audio(uploads.audio, folder, limits, on_wait)
    video = driving = None
    if uploads.video is not None:
        video = _take_video(uploads.video, "video", folder, options, limits, on_wait)
    if uploads.driving_video is not None:
        driving = _take_video(
            uploads.driving_video, "driving_video", folder, options, limits, on_wait
        )
    return JobInput(
        audio=audio,
        image=portrait,
        video=video,
        driving_video=driving,
        references=references,
        options=options,
    )


def take_in_later(
    uploads: Uploads,
    folder: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> JobInput:
    """Like `take_in`, but a video, and the voice beside it, are only looked at.

    They are in the folder as they came, by `upload_name`, and `pending` says which; `decode_pending`
    does the rest. Where there is no video nothing is left to do.

    Raises:
        IntakeError: A file cannot be used, or they do not go together.
    """
    if uploads.video is None and uploads.driving_video is None:
        return take_in(uploads, folder, options, limits, on_wait)
    portrait, references = _take_images(uploads, folder, limits, on_wait)
    pending: list[Literal["audio", "video", "driving_video"]] = []
    found = probe_audio(uploads.audio, limits)
    if found.seconds is None:
        # Quotas and deadlines count its seconds, and only decoding can tell them.
        audio = _take_audio(uploads.audio, folder, limits, on_wait)
    else:
        audio = AudioInput(
            seconds=round(found.seconds, 3),
            sample_rate_hz=SOUND_RATE_HZ,
            channels=found.channels,
            format=found.demuxer,
            bytes=found.num_bytes,
            sha256=uploads.sha256(uploads.audio),
        )
        pending.append("audio")
        uploads.audio.rename(folder / upload_name("audio"))
    videos: dict[str, VideoInput] = {}
    for name, path in (("video", uploads.video), ("driving_video", uploads.driving_video)):
        if path is not None:
            probe = probe_video(path, limits, name.replace("_", " "))
            videos[name] = VideoInput(
                fps=options.fps,
                format=probe.demuxer,
                bytes=probe.num_bytes,
                sha256=uploads.sha256(path),
            )
            pending.append("video" if name == "video" else "driving_video")
            path.rename(folder / upload_name(name))
    return JobInput(
        audio=audio,
        image=portrait,
        video=videos.get("video"),
        driving_video=videos.get("driving_video"),
        references=references,
        options=options,
        pending=Pending(
            files=tuple(pending),
            max_audio_s=limits.max_audio_s,
            max_video_s=limits.max_video_s,
            max_side=limits.max_side,
        ),
    )


def decode_pending(
    job_input: JobInput,
    path_of: Callable[[str], Path],
    folder: Path,
    on_wait: Callable[[], None] = keep_waiting,
) -> JobInput:
    """Decode what `take_in_later` left.

    Args:
        job_input: What was accepted.
        path_of: Where the stored file of a name lies.
        folder: Where the normalised files go.
        on_wait: Called while a file is decoded; what it raises stops that.

    Returns:
        The input with nothing pending.

    Raises:
        IntakeError: A file cannot be used after all.
    """
    pending = job_input.pending
    if pending is None:
        return job_input
    # The number of bytes was judged when the request came.
    limits = IntakeLimits(
        max_audio_bytes=sys.maxsize,
        max_video_bytes=sys.maxsize,
        max_audio_s=pending.max_audio_s,
        max_video_s=pending.max_video_s,
        max_side=pending.max_side,
    )
    changes: dict[str, AudioInput | VideoInput | None] = {"pending": None}
    for name in pending.files:
        source = path_of(upload_name(name))
        if name == "audio":
            changes[name] = _take_audio(source, folder, limits, on_wait)
        else:
            changes[name] = _take_video(source, name, folder, job_input.options, limits, on_wait)
    return job_input.model_copy(update=changes)


def stored_files(job_input: JobInput) -> list[str]:
    """Names of all files that are stored of an input when it is accepted."""
    pending = () if job_input.pending is None else job_input.pending.files
    left: set[str] = set()
    for name in pending:
        left |= set(_FILES_OF[name])
    decoded = [name for name in input_files(job_input) if name not in left]
    return [*decoded, *(upload_name(name) for name in pending)]


def decoded_files(pending: Pending) -> list[str]:
    """Names of the files that decoding what is pending makes."""
    return [made for name in pending.files for made in _FILES_OF[name]]


def upload_name(field: str) -> str:
    """Name of a file that is stored as it came, by its form field."""
    return f"upload-{field.replace('_', '-')}"


def input_files(job_input: JobInput) -> list[str]:
    """Names of all normalised files of a job."""
    pictures = [VIDEO] if job_input.video is not None else [PORTRAIT]
    if job_input.driving_video is not None:
        pictures.append(DRIVING)
    pictures += [reference_name(number) for number in range(len(job_input.references))]
    return [*pictures, SPEECH, SOUND]


def reference_name(number: int) -> str:
    """Name of a further picture, counted from 0."""
    return f"reference-{number + 1}.png"


def _take_images(
    uploads: Uploads, folder: Path, limits: IntakeLimits, on_wait: Callable[[], None]
) -> tuple[ImageInput | None, tuple[ImageInput, ...]]:
    """The portrait, if one is animated, and the further pictures."""
    check_combination(
        num_images=len(uploads.images),
        has_video=uploads.video is not None,
        has_driving_video=uploads.driving_video is not None,
    )

    def take(path: Path, name: str) -> ImageInput:
        return ImageInput(**asdict(accept_image(path, folder / name, limits, on_wait)))

    more = uploads.images
    portrait: ImageInput | None = None
    if uploads.video is None:
        portrait, more = take(more[0], PORTRAIT), more[1:]
    return portrait, tuple(take(path, reference_name(n)) for n, path in enumerate(more))


def _take_audio(
    source: Path, folder: Path, limits: IntakeLimits, on_wait: Callable[[], None]
) -> AudioInput:
    info = accept_audio(source, folder / SPEECH, folder / SOUND, limits, on_wait)
    return AudioInput(**asdict(info))


def _take_video(
    source: Path,
    field: Literal["video", "driving_video"],
    folder: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    on_wait: Callable[[], None],
) -> VideoInput:
    (name,) = _FILES_OF[field]
    what = field.replace("_", " ")
    info = accept_video(source, folder / name, limits, options.fps, what=what, on_wait=on_wait)
    return VideoInput(**asdict(info))
