"""Receives the multipart form of an upload: checked as it arrives, and dropped as soon as it is wrong.

    part begins   ──▶ a field that is known, sent once; before the first file, the options so far
    first bytes   ──▶ the type of the file, by what they prove
    every byte    ──▶ the limits of the file and of all uploads of the process; its digest
    part ends     ──▶ on the disk, under a name of ours

The framework's own way to read a form keeps the whole body before anybody looks at it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from service.problems import ProblemError
from service.schemas.form import TalkingFaceOptions
from worker.contract.artifacts import full_volume
from worker.contract.errors import ErrorCode, IntakeError, of_field
from worker.contract.intake.file_checks import check_size
from worker.contract.intake.formats import Role
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sniffing import SNIFF_BYTES, check_head
from worker.contract.intake.uploads import (
    MAX_REFERENCES,
    Uploads,
    WrongCombinationError,
    check_choices,
    check_combination,
)

_MAX_FIELDS: Final = 32
# The library's, for one header of a part.
_MAX_PART_HEADER_BYTES: Final = 4096
_MAX_FIELD_BYTES: Final = 16 * 1024
_WRITE_BYTES: Final = 2**20
# What has been received is written to the disk on the way, so that little is left at the end.
_SYNC_BYTES: Final = 32 * 2**20


@dataclass(frozen=True)
class _Kind:
    """What may be sent in a file field.

    Args:
        field: Its name.
        what: How messages call it.
        role: What it is taken as.
        limit_bytes: Largest file.
        most: How often the field may be sent.
    """

    field: str
    what: str
    role: Role
    limit_bytes: int
    most: int = 1


@dataclass
class Received:
    """A form that was received: its files lie in the caller's folder."""

    options: TalkingFaceOptions
    files: dict[str, list[ReceivedFile]] = field(default_factory=dict)

    def digests(self) -> list[str]:
        """SHA-256 of each file as it came."""
        return [one.sha256 for files in self.files.values() for one in files]

    def uploads(self) -> Uploads:
        """The files, for the intake; what does not go together is refused there."""
        paths = {name: [one.path for one in files] for name, files in self.files.items()}
        every = [one for files in self.files.values() for one in files]
        return Uploads(
            audio=next(iter(paths.get("audio", [])), None),
            images=tuple(paths.get("image", [])),
            video=next(iter(paths.get("video", [])), None),
            driving_video=next(iter(paths.get("driving_video", [])), None),
            digests={one.path: one.sha256 for one in every},
        )


class ReceivedFile(UploadFile):
    """One file of a form on its way to the disk.

    Args:
        path: Where it goes; must not exist.
        kind: What it may be.
    """

    def __init__(self, path: Path, kind: _Kind) -> None:
        self._out: BinaryIO = path.open("xb")
        super().__init__(cast(Any, self._out), size=0)
        self.path = path
        self.num_bytes = 0
        self._kind = kind
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._unsynced_bytes = 0
        self._is_type_checked = False

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of what was received."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            IntakeError: unsupported_media_type, file_too_large.
            StorageFullError: The volume has no room.
        """
        self.num_bytes += len(data)
        if self.num_bytes > self._kind.limit_bytes:
            raise IntakeError(
                ErrorCode.FILE_TOO_LARGE,
                f"The {self._kind.what} has more than {self._kind.limit_bytes} bytes, which is the "
                "limit. Send a smaller file.",
                {"limit_bytes": self._kind.limit_bytes},
                field=self._kind.field,
            )
        self._buffer += data
        if not self._is_type_checked and self.num_bytes >= SNIFF_BYTES:
            self._check_type()
        if len(self._buffer) >= _WRITE_BYTES:
            await run_in_threadpool(self._flush)

    async def seek(self, offset: int) -> None:
        """The end of the file; called by the parser when its part is complete.

        Raises:
            IntakeError: undecodable_media, it is empty; unsupported_media_type.
            StorageFullError: The volume has no room.
        """
        await run_in_threadpool(self._flush)
        self._out.close()
        with of_field(self._kind.field):
            check_size(self.path, self._kind.what, self._kind.limit_bytes)
            if not self._is_type_checked:
                with self.path.open("rb") as stream:
                    check_head(stream.read(SNIFF_BYTES), self._kind.role, self._kind.what)

    def stop(self) -> None:
        """Close the file, complete or not."""
        self._out.close()

    def _check_type(self) -> None:
        with of_field(self._kind.field):
            check_head(bytes(self._buffer[:SNIFF_BYTES]), self._kind.role, self._kind.what)
        self._is_type_checked = True

    def _flush(self) -> None:
        with full_volume():
            self._out.write(self._buffer)
            self._digest.update(self._buffer)
            self._unsynced_bytes += len(self._buffer)
            self._buffer.clear()
            self._out.flush()
            if self._unsynced_bytes >= _SYNC_BYTES:
                os.fdatasync(self._out.fileno())
                self._unsynced_bytes = 0


class _FormParser(MultiPartParser):
    """starlette's parser, with our own files and checks."""

    def __init__(
        self,
        headers: Headers,
        stream: AsyncIterator[bytes],
        folder: Path,
        limits: IntakeLimits,
        check_options: Callable[[TalkingFaceOptions], object],
    ) -> None:
        super().__init__(
            headers,
            cast(Any, stream),
            max_files=3 + MAX_REFERENCES,
            max_fields=_MAX_FIELDS,
            max_part_size=_MAX_FIELD_BYTES,
        )
        self._folder = folder
        self._check_options = check_options
        self._kinds = _kinds(limits)
        self.files: dict[str, list[ReceivedFile]] = {}

    def on_headers_finished(self) -> None:
        """A part begins."""
        super().on_headers_finished()
        part = self._current_part
        name = part.field_name
        if part.file is None:
            if name in self._kinds:
                raise _invalid({name: "Send this part as a file, with a file name"})
            return
        part.file.file.close()
        if name in TalkingFaceOptions.model_fields:
            raise _invalid({name: "Send this part as text, without a file name"})
        if not self.files:
            # Options that came before the files are judged before the files.
            self.options()
        part.file = self._begin(name)

    def options(self) -> TalkingFaceOptions:
        """The options that have arrived so far.

        Raises:
            RequestValidationError: One of them is wrong, or unknown.
        """
        fields: dict[str, str] = {}
        for name, value in self.items:
            if isinstance(value, str):
                if name in fields:
                    raise _invalid({name: "This option was sent twice. Send it once"})
                fields[name] = value
        try:
            options = TalkingFaceOptions.model_validate(fields)
        except ValidationError as error:
            errors = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
            raise RequestValidationError(errors) from None
        self._check_options(options)
        return options

    def _begin(self, name: str) -> ReceivedFile:
        kind = self._kinds.get(name)
        if kind is None:
            raise _invalid({name: "Extra inputs are not permitted"})
        sent = self.files.setdefault(name, [])
        if len(sent) >= kind.most:
            times = "twice" if kind.most == 1 else f"more than {kind.most} times"
            raise WrongCombinationError(name, f"`{name}` was sent {times}. Send fewer.")
        # A picture may still come; what excludes each other cannot be mended by what follows.
        check_combination(
            num_images=1,
            has_video="video" in self.files,
            has_driving_video="driving_video" in self.files,
        )
        number = f"-{len(sent)}" if kind.most > 1 else ""
        one = ReceivedFile(self._folder / f"received-{name}{number}", kind)
        sent.append(one)
        return one


async def receive_form(
    headers: Headers,
    stream: AsyncIterator[bytes],
    folder: Path,
    limits: IntakeLimits,
    check_options: Callable[[TalkingFaceOptions], object],
) -> Received:
    """Read a form to its end.

    Args:
        headers: Of the request.
        stream: Its body; raises `starlette.requests.ClientDisconnect` where the client leaves.
        folder: Where its files go.
        limits: What is tolerated.
        check_options: Raises for options that this caller may not choose.

    Raises:
        RequestValidationError: An option or a part is wrong, missing or unknown.
        WrongCombinationError: A file is sent too often, or does not go with an option.
        IntakeError: A file is too large, empty, or not of a known type.
        HTTPException: 400, it is no form.
        StorageFullError: The volume has no room.
    """
    content_type, _ = parse_options_header(headers.get("content-type", ""))
    if content_type != b"multipart/form-data":
        got = content_type.decode("latin-1") or "no Content-Type"
        raise ProblemError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            f"The body is {got[:80]}; expected multipart/form-data with the files and options as its "
            "parts (curl -F image=@portrait.jpg -F audio=@voice.wav).",
            headers={"Connection": "close", "Accept-Post": "multipart/form-data"},
        )
    parser = _FormParser(headers, stream, folder, limits, check_options)
    try:
        await parser.parse()
    except MultiPartException as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, _words_of(error)) from None
    finally:
        for files in parser.files.values():
            for one in files:
                with contextlib.suppress(OSError):
                    one.stop()
    options = parser.options()
    _check_voice(options, has_audio="audio" in parser.files)
    check_choices(
        options,
        has_audio="audio" in parser.files or options.text is not None,
        has_video="video" in parser.files,
        has_driving_video="driving_video" in parser.files,
    )
    return Received(options, parser.files)


async def pieces(
    stream: AsyncIterator[bytes],
    count: Callable[[int], None],
    on_piece: Callable[[], Awaitable[None]],
) -> AsyncIterator[bytes]:
    """A body, counted.

    Args:
        stream: The body.
        count: Called with the size of each piece; may refuse it.
        on_piece: Awaited after each piece.
    """
    async for piece in stream:
        count(len(piece))
        yield piece
        await on_piece()


def _words_of(error: MultiPartException) -> str:
    """What is wrong with a form; the library's own word for every other fault of its syntax."""
    if "header" in str(error.__cause__).lower() and "size" in str(error.__cause__).lower():
        return (
            f"A part's headers have more than {_MAX_PART_HEADER_BYTES} bytes, so its field's or file's name is "
            "too long. Shorten the name; it plays no part here."
        )
    return (
        f"{error.message.removesuffix('.')}. Send multipart/form-data as a browser or curl -F does."
    )


def audio_file(folder: Path, limits: IntakeLimits) -> ReceivedFile:
    """A sound on its way to the disk, to be received as one that is uploaded."""
    return ReceivedFile(folder / "received-audio", _kinds(limits)["audio"])


def _check_voice(options: TalkingFaceOptions, *, has_audio: bool) -> None:
    """Refuse a form that has none of `audio`, `text` and `seconds`, or a text beside another."""
    if not has_audio and options.text is None and options.seconds is None:
        raise _invalid({"audio": "Field required, or `text`, or `seconds` for one who listens"})
    if options.text is not None and (has_audio or options.seconds is not None):
        other = "audio" if has_audio else "seconds"
        raise WrongCombinationError("text", f"Send either `text` or `{other}`, not both of them.")
    for name in options.spoken.keys() - {"text"}:
        if options.text is None:
            raise WrongCombinationError(
                name, f"`{name}` is for a `text`. Leave it out, or send one."
            )


def _kinds(limits: IntakeLimits) -> dict[str, _Kind]:
    return {
        "audio": _Kind("audio", "audio", "audio", limits.max_audio_bytes),
        "image": _Kind("image", "picture", "image", limits.max_image_bytes, 1 + MAX_REFERENCES),
        "video": _Kind("video", "video", "video", limits.max_video_bytes),
        "driving_video": _Kind("driving_video", "driving video", "video", limits.max_video_bytes),
    }


def _invalid(messages: dict[str, str]) -> RequestValidationError:
    return RequestValidationError(
        [{"loc": ("body", name), "msg": message} for name, message in messages.items()]
    )
