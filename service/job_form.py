"""The form of `POST /v1/talking-face`: its files, by upload or by the id of what is kept here, and its options."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers

from service.schemas.form import TalkingFaceOptions
from service.upload import Form, Kind, ReceivedFile, invalid, receive_parts
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.uploads import (
    MAX_REFERENCES,
    Ready,
    Uploads,
    WrongCombinationError,
    check_choices,
    check_combination,
)

_FILES_OF_AVATAR: Final = ("image", "video")


@dataclass
class Received:
    """A form that was received: its files lie in the caller's folder.

    Args:
        options: The caller's.
        files: Those that were sent, by field.
        kept: Those that were kept here and are in the folder now, by field, with their digests.
        ready: What of `kept` need not be decoded again.
    """

    options: TalkingFaceOptions
    files: dict[str, list[ReceivedFile]] = field(default_factory=dict)
    kept: dict[str, tuple[Path, str]] = field(default_factory=dict)
    ready: Ready = field(default_factory=Ready)

    def digests(self) -> list[str]:
        """SHA-256 of each file as it came."""
        sent = [one.sha256 for files in self.files.values() for one in files]
        return [*sent, *(sha256 for _, sha256 in self.kept.values())]

    def uploads(self) -> Uploads:
        """The files, for the intake; what does not go together is refused there."""
        paths = {name: [one.path for one in files] for name, files in self.files.items()}
        digests = {one.path: one.sha256 for files in self.files.values() for one in files}
        for name, (path, sha256) in self.kept.items():
            paths[name] = [path]
            digests[path] = sha256
        return Uploads(
            audio=next(iter(paths.get("audio", [])), None),
            images=tuple(paths.get("image", [])),
            video=next(iter(paths.get("video", [])), None),
            driving_video=next(iter(paths.get("driving_video", [])), None),
            digests=digests,
            ready=self.ready,
        )


async def receive_form(
    headers: Headers,
    stream: AsyncIterator[bytes],
    folder: Path,
    limits: IntakeLimits,
    check_options: Callable[[TalkingFaceOptions], object],
) -> Received:
    """Read a form to its end; the arguments and errors are those of `receive_parts`.

    Args:
        headers: Of the request.
        stream: Its body.
        folder: Where its files go.
        limits: What is tolerated.
        check_options: Raises for options that this caller may not choose.
    """
    kinds = tuple(kinds_of(limits).values())
    form = Form(kinds, TalkingFaceOptions, check_options, _check_files)
    options, files = await receive_parts(headers, stream, folder, form)
    _check_voice(options, files)
    _check_avatar(options, files)
    if options.avatar_id is None:
        # Whether an avatar is a portrait or a film is not known yet; then the intake says it.
        check_choices(
            options,
            has_audio=has_voice(options, files),
            has_video="video" in files,
            has_driving_video="driving_video" in files,
        )
    return Received(options, files)


def has_voice(options: TalkingFaceOptions, files: Mapping[str, object]) -> bool:
    """Whether somebody speaks, whatever the sound comes from."""
    return "audio" in files or options.text is not None or options.audio_id is not None


def audio_file(folder: Path, limits: IntakeLimits) -> ReceivedFile:
    """A sound on its way to the disk, to be received as one that is uploaded."""
    return ReceivedFile(folder / "received-audio", kinds_of(limits)["audio"])


def _check_files(files: Mapping[str, object]) -> None:
    # A picture may still come; what excludes each other cannot be mended by what follows.
    check_combination(
        num_images=1, has_video="video" in files, has_driving_video="driving_video" in files
    )


def _check_voice(options: TalkingFaceOptions, files: Mapping[str, object]) -> None:
    """Refuse a form with none of `audio`, `audio_id`, `text` and `seconds`, or with several of them."""
    told = {
        "audio": "audio" in files,
        "audio_id": options.audio_id is not None,
        "text": options.text is not None,
        "seconds": options.seconds is not None,
    }
    chosen = [name for name, is_told in told.items() if is_told]
    if not chosen:
        raise invalid({"audio": "Field required, or `text`, or `seconds` for one who listens"})
    # `audio` beside `seconds` has a sentence of its own, in `check_choices`.
    if len(chosen) > 1 and chosen != ["audio", "seconds"]:
        other, name = chosen[:2]
        if name == "seconds":
            other, name = name, other
        raise WrongCombinationError(name, f"Send either `{name}` or `{other}`, not both of them.")
    for name in options.spoken.keys() - {"text"}:
        if options.text is None:
            raise WrongCombinationError(
                name, f"`{name}` is for a `text`. Leave it out, or send one."
            )


def _check_avatar(options: TalkingFaceOptions, files: Mapping[str, object]) -> None:
    """Refuse an avatar beside a picture or film."""
    for name in _FILES_OF_AVATAR:
        if options.avatar_id is not None and name in files:
            raise WrongCombinationError(
                "avatar_id", f"Send either `avatar_id` or `{name}`, not both of them."
            )


def kinds_of(limits: IntakeLimits) -> dict[str, Kind]:
    """The file fields, by name."""
    return {
        "audio": Kind("audio", "audio", "audio", limits.max_audio_bytes),
        "image": Kind("image", "picture", "image", limits.max_image_bytes, 1 + MAX_REFERENCES),
        "video": Kind("video", "video", "video", limits.max_video_bytes),
        "driving_video": Kind("driving_video", "driving video", "video", limits.max_video_bytes),
    }
