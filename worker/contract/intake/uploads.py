"""The files of one request: which of them, and of the options, go together.

image [+ more images] [+ driving video] + audio or seconds      a photograph speaks, or listens
video [+ images] + audio                                        a video is dubbed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.file_checks import file_sha256
from worker.contract.messages import AudioInput, ImageInput, SamplingOptions, VideoInput

MAX_REFERENCES: Final = 4
"""Most pictures beside the one that is animated, or beside a video."""


@dataclass(frozen=True)
class Ready:
    """Uploads that were normalised when they were kept; their files lie in the folder by the names of `file_names`."""

    audio: AudioInput | None = None
    image: ImageInput | None = None
    video: VideoInput | None = None


@dataclass(frozen=True)
class Uploads:
    """Files as they came. The first image is the portrait, unless there is a video.

    Without `audio` the options say for how many `seconds` the photograph listens. `digests` are
    those that were computed while the files were received. What is `ready` stands there as it came as
    well: not all options go with what was made of it.
    """

    audio: Path | None
    images: tuple[Path, ...] = ()
    video: Path | None = None
    driving_video: Path | None = None
    digests: Mapping[Path, str] = field(default_factory=dict)
    ready: Ready = field(default_factory=Ready)

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
        super().__init__(ErrorCode.INVALID_OPTIONS, detail, field=field)


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


def check_choices(
    options: SamplingOptions, *, has_audio: bool, has_video: bool, has_driving_video: bool
) -> None:
    """Say whether these options go with these files.

    Args:
        options: The caller's; those that were not sent are not among its `model_fields_set`.
        has_audio: A voice was sent.
        has_video: A video to dub was sent.
        has_driving_video: A video that moves a photograph was sent.
    Raises:
        WrongCombinationError: They do not.
    """
    sent = options.model_fields_set
    if has_video:
        for name in ("motion", "blink", "loop", "seconds"):
            if name in sent:
                raise WrongCombinationError(
                    name,
                    f"`{name}` is for a photograph, and a `video` moves by itself. "
                    f"Leave out `{name}`, or send an `image` instead of the `video`.",
                )
    else:
        for name in ("ranges", "audio_for", "video_shorter", "video_longer"):
            if name in sent:
                raise WrongCombinationError(
                    name,
                    f"`{name}` is for a `video` that is dubbed, and none was sent. "
                    f"Leave out `{name}`, or send a `video`.",
                )
    if options.ranges is None and "audio_for" in sent:
        raise WrongCombinationError(
            "audio_for",
            "`audio_for` says what the `audio` is for the `ranges`, and none were sent. Send some, or "
            "leave it out.",
        )
    if options.ranges is not None:
        for name in ("video_shorter", "video_longer"):
            if name in sent:
                raise WrongCombinationError(
                    name,
                    f"With `ranges` all of the video is kept, so `{name}` has no meaning. Send one of "
                    "them.",
                )
    if has_driving_video:
        for name in ("motion", "loop"):
            if name in sent:
                raise WrongCombinationError(
                    name,
                    f"The `driving_video` says how the head moves, and so does `{name}`. "
                    "Send one of them.",
                )
    if has_audio and options.seconds is not None:
        raise WrongCombinationError(
            "seconds",
            "A photograph speaks as its `audio` says, or listens for `seconds`. Send one of them.",
        )
    if options.seconds is not None and "audio_offset_ms" in sent:
        raise WrongCombinationError(
            "audio_offset_ms",
            "`audio_offset_ms` moves a sound, and for `seconds` nothing is heard. Send one of them.",
        )
    if options.audio_offset_ms == "auto" and not has_video:
        raise WrongCombinationError(
            "audio_offset_ms",
            "`audio_offset_ms` is `auto`, which compares a sound with the lips of a `video`, and there is "
            "none. Send the milliseconds, or a `video`.",
        )
    if options.audio_offset_ms == "auto" and (options.ranges or options.video_longer == "keep"):
        raise WrongCombinationError(
            "audio_offset_ms",
            "`audio_offset_ms` is `auto`, which moves the whole sound, and a part of it is to stay the "
            "video's own. Send the milliseconds, or leave out `ranges` and `video_longer`.",
        )
    if not has_audio and options.seconds is None:
        raise WrongCombinationError(
            "audio",
            "Nothing to say: send `audio`, or `seconds` for a photograph that listens.",
        )
