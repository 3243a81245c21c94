"""Lists of videos to make: a folder, a CSV or JSONL.

    folder    ada.jpg + ada.wav ──▶ ada.mp4, for each picture or film with a sound of its name
    CSV       a first line of names: image, audio, video, driving_video, output, or any option
    JSONL     one object a line with the same names

Files are named as seen from the folder of the list; a missing `output` is called after the sound, or
after the picture.
"""

from __future__ import annotations

import csv
import json
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final

FILE_FIELDS: Final = ("image", "audio", "video", "driving_video")
# Not in every Python's table.
_KINDS: Final = {
    **dict.fromkeys((".heic", ".avif", ".webp"), "image"),
    **dict.fromkeys((".m4a", ".flac", ".opus", ".ogg", ".amr", ".caf"), "audio"),
}


class BatchError(Exception):
    """The list cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Row:
    """One video to make.

    Args:
        place: Where it stands, for messages.
        files: The files of each field.
        options: Options by the API's names, as text or as JSON has them.
        output: Where the MP4 goes, below the output folder.
    """

    place: str
    files: Mapping[str, tuple[Path, ...]]
    output: PurePath
    options: Mapping[str, Any] = field(default_factory=dict)


def check_output(output: PurePath) -> PurePath:
    """An output that is called what it is.

    Raises:
        BatchError: It is not.
    """
    if output.suffix.lower() != ".mp4":
        raise BatchError(f"The video is an MP4: expected an output called ....mp4, got {output}.")
    return output


def read_batch(source: Path) -> list[Row]:
    """The videos of a folder or a list.

    Raises:
        BatchError: It cannot be read, or something in it is wrong; nothing has been made then.
    """
    if source.is_dir():
        rows = list(_of_folder(source))
    elif source.suffix.lower() == ".csv":
        rows = [_row(values, source.parent, place) for place, values in _of_csv(source)]
    elif source.suffix.lower() in (".jsonl", ".ndjson"):
        rows = [_row(values, source.parent, place) for place, values in _of_jsonl(source)]
    else:
        raise BatchError(f"{source} is neither a folder nor a .csv or .jsonl file.")
    if not rows:
        raise BatchError(f"{source} names no video to make.")
    _check_distinct(rows)
    return rows


def _of_folder(folder: Path) -> Iterator[Row]:
    """Pictures and films with a sound of the same name."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and (kind := kind_of(path)):
            twin = found.setdefault(path.stem, {}).setdefault(kind, path)
            if twin != path:
                raise BatchError(f"{twin} and {path} have the same name. Rename one of them.")
    for stem, files in found.items():
        shown = [kind for kind in ("image", "video") if kind in files]
        if "audio" not in files or len(shown) != 1:
            names = ", ".join(path.name for path in files.values())
            raise BatchError(
                f"{folder}: expected one picture or film and one sound called {stem!r}, got {names}. "
                "Write a CSV where names do not go together."
            )
        pair = {kind: (files[kind],) for kind in (*shown, "audio")}
        yield Row(str(folder / stem), pair, PurePath(f"{stem}.mp4"))


def kind_of(path: Path) -> str | None:
    """`image`, `audio` or `video` by the name; the bytes are looked at later."""
    guessed = (mimetypes.guess_type(path.name)[0] or "").partition("/")[0]
    kind = _KINDS.get(path.suffix.lower(), guessed)
    return kind if kind in ("image", "audio", "video") else None


def _of_csv(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        # utf-8-sig: spreadsheets write a mark before the first name.
        with source.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            for values in reader:
                place = f"{source}, line {reader.line_num}"
                if None in values or None in values.values():
                    raise BatchError(f"{place}: expected {len(reader.fieldnames or ())} values.")
                yield place, {name.strip(): text for name, text in values.items() if text.strip()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BatchError(f"{source} cannot be read: {error}.") from error


def _of_jsonl(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BatchError(f"{source} cannot be read: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{source}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise BatchError(f"{place}: this is no JSON ({error}).") from error
        if not isinstance(values, dict):
            raise BatchError(f"{place}: expected an object, got {line.strip()[:40]!r}.")
        yield place, {name: value for name, value in values.items() if value is not None}


def _row(values: dict[str, Any], folder: Path, place: str) -> Row:
    files: dict[str, tuple[Path, ...]] = {}
    for name in FILE_FIELDS:
        value = values.pop(name, [])
        names = value if isinstance(value, list) else [value]
        if paths := tuple(folder / str(each).strip() for each in names):
            files[name] = paths
    if not files.keys() & {"image", "video"} and "avatar_id" not in values:
        raise BatchError(
            f"{place}: expected an `image`, a `video` or an `avatar_id`, got {sorted(values)}."
        )
    for path in (path for paths in files.values() for path in paths):
        if not path.is_file():
            raise BatchError(f"{place}: there is no file {path}.")
    named = values.pop("output", None)
    after = files.get("audio") or files.get("image") or files.get("video")
    if not named and not after:
        raise BatchError(f"{place}: expected an `output`, since no file gives its name.")
    output = PurePath(str(named).strip() if named else f"{after[0].stem}.mp4")  # type: ignore[index]
    if output.is_absolute() or ".." in output.parts:
        raise BatchError(f"{place}: the output {output} is not below the output folder.")
    try:
        return Row(place, files, check_output(output), values)
    except BatchError as error:
        raise BatchError(f"{place}: {error}") from None


def _check_distinct(rows: list[Row]) -> None:
    places: dict[PurePath, str] = {}
    for row in rows:
        if (other := places.setdefault(row.output, row.place)) != row.place:
            raise BatchError(
                f"{other} and {row.place} both make {row.output}. Give each an `output` of its own."
            )
