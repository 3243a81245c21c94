"""What a video is made of: which files go together, what they are called, and their intake.

    image [+ more images] [+ driving video] + audio      a photograph is animated
    video [+ images] + audio                             a video is dubbed

The names of the normalised files stand here and nowhere else; in the artifact store they lie below
`inputs/<job>/`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake import IntakeLimits, accept_audio, accept_image
from worker.contract.messages import (
    AudioInput,
    ImageInput,
    JobInput,
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


@dataclass(frozen=True)
class Uploads:
    """Files as they came. The first image is the portrait, unless there is a video."""

    audio: Path
    images: tuple[Path, ...] = ()
    video: Path | None = None
    driving_video: Path | None = None


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
    uploads: Uploads, folder: Path, options: SamplingOptions, limits: IntakeLimits
) -> JobInput:
    """Bring uploads through the intake: the cheap ones first, so that bad ones are told early.

    Args:
        uploads: Files as they came.
        folder: Where the normalised files go, by the names of this module.
        options: The caller's choices; `fps` is the rate that videos are brought to.
        limits: What is tolerated.

    Raises:
        IntakeError: A file cannot be used, or they do not go together.
    """
    check_combination(
        num_images=len(uploads.images),
        has_video=uploads.video is not None,
        has_driving_video=uploads.driving_video is not None,
    )
    portrait: ImageInput | None = None
    more = uploads.images
    if uploads.video is None:
        portrait = _take_image(more[0], folder / PORTRAIT, limits)
        more = more[1:]
    references = tuple(
        _take_image(path, folder / reference_name(number), limits)
        for number, path in enumerate(more)
    )
    audio = accept_audio(uploads.audio, folder / SPEECH, folder / SOUND, limits)
    video = driving = None
    if uploads.video is not None:
        info = accept_video(uploads.video, folder / VIDEO, limits, options.fps)
        video = VideoInput(**asdict(info))
    if uploads.driving_video is not None:
        info = accept_video(
            uploads.driving_video, folder / DRIVING, limits, options.fps, what="driving video"
        )
        driving = VideoInput(**asdict(info))
    return JobInput(
        audio=AudioInput(**asdict(audio)),
        image=portrait,
        video=video,
        driving_video=driving,
        references=references,
        options=options,
    )


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


def _take_image(path: Path, destination: Path, limits: IntakeLimits) -> ImageInput:
    return ImageInput(**asdict(accept_image(path, destination, limits)))
