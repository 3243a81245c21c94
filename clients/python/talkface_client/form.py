"""The form of `POST /v1/talking-face`: files by name, bytes or stream, and options."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

Media = str | os.PathLike[str] | bytes | BinaryIO
"""A file: its path, its bytes, or an open file, which is read to its end at once."""
_FILES: Final = ("video", "driving_video")
File = tuple[str | None, bytes | BinaryIO]
"""What is sent of a file: a name, which plays no part, and its bytes; of an option no name."""


@dataclass(frozen=True)
class Form:
    """What is sent, so often as it has to be.

    Args:
        files: Field and file, in turn; a field may come several times.
        fields: Options as text.
    """

    files: tuple[tuple[str, Path | bytes], ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def opened(self) -> Iterator[list[tuple[str, File]]]:
        """The files, opened for one try.

        Raises:
            OSError: A file cannot be read.
        """
        with ExitStack() as stack:
            files = [(name, _open(source, name, stack)) for name, source in self.files]
            # A form without a file is sent in parts as well: its options are parts without a name.
            yield files or [(name, (None, text.encode())) for name, text in self.fields.items()]

    @property
    def data(self) -> Mapping[str, str]:
        """Options that are sent beside files."""
        return self.fields if self.files else {}


def make_form(
    image: Media | Sequence[Media] | None, audio: Media | None, chosen: Mapping[str, Any]
) -> Form:
    """The form of a request.

    Args:
        image: The portrait, or several pictures of the same person.
        audio: The voice.
        chosen: The other files, and options, by the names that the API has; None is left out.

    Raises:
        OSError: A file cannot be read.
    """
    options = {name: value for name, value in chosen.items() if value is not None}
    files = [("image", one) for one in _several(image)]
    files += [("audio", audio)] if audio is not None else []
    files += [(name, options.pop(name)) for name in _FILES if name in options]
    sent = tuple((name, _kept(one)) for name, one in files)
    return Form(sent, {name: _text(value) for name, value in options.items()})


def _several(image: Media | Sequence[Media] | None) -> Sequence[Media]:
    if image is None:
        return []
    if isinstance(image, (list, tuple)):
        return image
    return [image]  # type: ignore[list-item]


def _kept(media: Media) -> Path | bytes:
    """A file in a form that can be sent again."""
    if isinstance(media, bytes):
        return media
    if isinstance(media, (str, os.PathLike)):
        path = Path(media)
        with path.open("rb"):  # a file that is missing is told before anything is sent
            return path
    return media.read()


def _open(source: Path | bytes, name: str, stack: ExitStack) -> File:
    if isinstance(source, bytes):
        return name, source
    return source.name, stack.enter_context(source.open("rb"))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False)
    return str(value)
