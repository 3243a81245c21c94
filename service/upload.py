"""Receives the multipart form of an upload: checked as it arrives, and dropped as soon as it is wrong.

    part begins   ──▶ a field that is known, sent once; before the first file, the options so far
    first bytes   ──▶ the type of the file, by what they prove
    every byte    ──▶ the limits of the file and of all uploads of the process; its digest
    part ends     ──▶ on the disk, under a name of ours

Which fields there are is the caller's to say (`service.job_form`, `service.keeping`). The framework's own
way to read a form keeps the whole body before anybody looks at it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, TypeVar, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from service.problems import ProblemError
from worker.contract.artifacts import full_volume
from worker.contract.errors import ErrorCode, IntakeError, of_field
from worker.contract.intake.file_checks import check_size
from worker.contract.intake.formats import Role
from worker.contract.intake.sniffing import SNIFF_BYTES, check_head
from worker.contract.intake.uploads import WrongCombinationError

_MAX_FIELDS: Final = 32
# The library's, for one header of a part.
_MAX_PART_HEADER_BYTES: Final = 4096
_MAX_FIELD_BYTES: Final = 16 * 1024
_WRITE_BYTES: Final = 2**20
# What has been received is written to the disk on the way, so that little is left at the end.
_SYNC_BYTES: Final = 32 * 2**20
Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True)
class Kind:
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

    def once(self) -> Kind:
        """The same, sent at most once."""
        return replace(self, most=1)


@dataclass(frozen=True)
class Form(Generic[Options]):
    """What may be sent.

    Args:
        kinds: The file fields.
        options: The fields that are text.
        check_options: Raises for options that this caller may not choose.
        check_files: Raises where the files so far exclude each other; called as each begins.
    """

    kinds: Sequence[Kind]
    options: type[Options]
    check_options: Callable[[Options], object] = lambda _options: None
    check_files: Callable[[Mapping[str, object]], object] = lambda _files: None


class ReceivedFile(UploadFile):
    """One file of a form on its way to the disk.

    Args:
        path: Where it goes; must not exist.
        kind: What it may be.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
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


class _FormParser(MultiPartParser, Generic[Options]):
    """starlette's parser, with our own files and checks."""

    def __init__(
        self, headers: Headers, stream: AsyncIterator[bytes], folder: Path, form: Form[Options]
    ) -> None:
        super().__init__(
            headers,
            cast(Any, stream),
            max_files=sum(kind.most for kind in form.kinds) + 1,
            max_fields=_MAX_FIELDS,
            max_part_size=_MAX_FIELD_BYTES,
        )
        self._folder = folder
        self._form = form
        self._kinds = {kind.field: kind for kind in form.kinds}
        self.files: dict[str, list[ReceivedFile]] = {}

    def on_headers_finished(self) -> None:
        """A part begins."""
        super().on_headers_finished()
        part = self._current_part
        name = part.field_name
        if part.file is None:
            if name in self._kinds:
                raise invalid({name: "Send this part as a file, with a file name"})
            return
        part.file.file.close()
        if name in self._form.options.model_fields:
            raise invalid({name: "Send this part as text, without a file name"})
        if not self.files:
            # Options that came before the files are judged before the files.
            self.options()
        part.file = self._begin(name)

    def options(self) -> Options:
        """The options that have arrived so far.

        Raises:
            RequestValidationError: One of them is wrong, or unknown.
        """
        fields: dict[str, str] = {}
        for name, value in self.items:
            if isinstance(value, str):
                if name in fields:
                    raise invalid({name: "This option was sent twice. Send it once"})
                fields[name] = value
        try:
            options = self._form.options.model_validate(fields)
        except ValidationError as error:
            errors = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
            raise RequestValidationError(errors) from None
        self._form.check_options(options)
        return options

    def _begin(self, name: str) -> ReceivedFile:
        kind = self._kinds.get(name)
        if kind is None:
            raise invalid({name: "Extra inputs are not permitted"})
        sent = self.files.setdefault(name, [])
        if len(sent) >= kind.most:
            times = "twice" if kind.most == 1 else f"more than {kind.most} times"
            raise WrongCombinationError(name, f"`{name}` was sent {times}. Send fewer.")
        self._form.check_files(self.files)
        number = f"-{len(sent)}" if kind.most > 1 else ""
        one = ReceivedFile(self._folder / f"received-{name}{number}", kind)
        sent.append(one)
        return one


async def receive_parts(
    headers: Headers, stream: AsyncIterator[bytes], folder: Path, form: Form[Options]
) -> tuple[Options, dict[str, list[ReceivedFile]]]:
    """Read a form to its end.

    Args:
        headers: Of the request.
        stream: Its body; raises `starlette.requests.ClientDisconnect` where the client leaves.
        folder: Where its files go.
        form: What may be sent.

    Returns:
        The options, and the files by field.

    Raises:
        RequestValidationError: An option or a part is wrong or unknown.
        WrongCombinationError: A file is sent too often, or does not go with another.
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
    parser = _FormParser(headers, stream, folder, form)
    try:
        await parser.parse()
    except MultiPartException as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, _words_of(error)) from None
    finally:
        for files in parser.files.values():
            for one in files:
                with contextlib.suppress(OSError):
                    one.stop()
    return parser.options(), parser.files


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


def invalid(messages: dict[str, str]) -> RequestValidationError:
    """What is said of fields that are wrong, by their names."""
    return RequestValidationError(
        [{"loc": ("body", name), "msg": message} for name, message in messages.items()]
    )
