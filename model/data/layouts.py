"""Where each public set keeps its films, and who is in them.

    grid       SOURCE/s1/*.mpg (or .mkv, .mp4 ...), or one speaker's folder itself; identity: folder
    hdtf       SOURCE/*.mp4, and `*annotion_time.txt` for films that are not cut yet
    voxceleb   SOURCE/**/id*/<video>/<clip>.mp4; sound from the twin `aac` folder where there is one
    folder     any films; identity: the folder below SOURCE, or the film itself

Names alone decide what is held out (`model.data.split`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from model.data.split import clip_held_out, identity_held_out
from model.errors import InputError

Layout = Literal["grid", "hdtf", "voxceleb", "folder"]
LAYOUTS: Final[tuple[str, ...]] = get_args(Layout)

FILM_SUFFIXES: Final = (".mp4", ".mkv", ".mpg", ".mpeg", ".mov", ".avi", ".webm", ".m4v")

Stretch = tuple[float, float]
"""Start and end in seconds from the first frame."""


@dataclass(frozen=True)
class Source:
    """One film of a set.

    Attributes:
        name: Path below the set's folder, with forward slashes; unique in the set.
        path: Where it lies.
        identity: Who is in it.
        held_out: Never trained on.
        stretches: Only these parts are looked at; empty for the whole film.
        sound: A file with the sound where the film has none.
    """

    name: str
    path: Path
    identity: str
    held_out: bool
    stretches: tuple[Stretch, ...] = ()
    sound: Path | None = None


def find_sources(layout: Layout, folder: Path, limit: int | None = None) -> list[Source]:
    """The films of a set, sorted by name.

    With a `limit` at most so many, scattered over the set, of which up to a third are held out ones.

    Raises:
        InputError: Nothing of this layout lies in `folder`.
    """
    finder, expected = _FINDERS[layout]
    sources = sorted(finder(folder), key=lambda source: source.name)
    if not sources:
        raise InputError(
            f"{folder} holds no film in the layout {layout!r}; expected {expected}. "
            f"Choose another layout ({', '.join(LAYOUTS)}) or folder."
        )
    if limit is None:
        return sources
    scattered = sorted(sources, key=lambda source: zlib.crc32(source.name.encode()))
    held_out = [source for source in scattered if source.held_out][: limit // 3]
    others = [source for source in scattered if not source.held_out]
    chosen = held_out + others[: limit - len(held_out)]
    return sorted(chosen, key=lambda source: source.name)


def _films(folder: Path) -> Iterator[tuple[str, Path]]:
    """Films at any depth with their names; hidden files and folders left out."""
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if path.suffix.lower() in FILM_SUFFIXES and not hidden and path.is_file():
            yield below.as_posix(), path


def _grid(folder: Path) -> Iterator[Source]:
    for name, path in _films(folder):
        speaker = path.relative_to(folder).parts[0] if "/" in name else folder.resolve().name
        yield Source(name, path, speaker, clip_held_out(name))


def _hdtf(folder: Path) -> Iterator[Source]:
    stretches = {
        key: value
        for pattern in ("*annotion_time.txt", "*annotation_time.txt")
        for path in folder.rglob(pattern)
        for key, value in _read_stretches(path).items()
    }
    for name, path in _films(folder):
        if path.suffix.lower() == ".mp4":
            # WDA_BarackObama_000.mp4 is the first clip of one person's films
            identity = re.sub(r"_\d+$", "", path.stem)
            held_out = identity_held_out(identity)
            yield Source(name, path, identity, held_out, stretches.get(path.stem, ()))


def _read_stretches(path: Path) -> dict[str, tuple[Stretch, ...]]:
    """Lines like `Radio11.mp4 00:30-01:00 01:30-02:30`, by the film's stem, with and without prefix.

    Raises:
        InputError: A line has another form.
    """
    prefix = path.name.split("_")[0]
    stretches: dict[str, tuple[Stretch, ...]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        found = [re.fullmatch(r"([\d:.]+)-([\d:.]+)", word) for word in words[1:]]
        if not found or None in found:
            raise InputError(
                f"{path.name}, line {number}: {line!r}; expected a film and times, like "
                "'Radio11.mp4 00:30-01:00 01:30-02:30'"
            )
        times = tuple((_seconds(match[1]), _seconds(match[2])) for match in found if match)
        stem = Path(words[0]).stem
        stretches[stem] = stretches[f"{prefix}_{stem}"] = times
    return stretches


def _seconds(clock: str) -> float:
    """`1:02:03`, `02:03` or `3.5` in seconds."""
    return sum(60**power * float(part) for power, part in enumerate(reversed(clock.split(":"))))


def _voxceleb(folder: Path) -> Iterator[Source]:
    for name, path in _films(folder):
        identity = path.parent.parent.name
        if re.fullmatch(r"id\d+", identity):
            parts = ["aac" if part == "mp4" else part for part in Path(name).parent.parts]
            candidates = (folder.joinpath(*parts), folder.parent.joinpath("aac", *parts))
            sounds = [place / f"{path.stem}.m4a" for place in candidates]
            sound = next((twin for twin in sounds if twin.is_file()), None)
            yield Source(name, path, identity, identity_held_out(identity), sound=sound)


def _folder(folder: Path) -> Iterator[Source]:
    for name, path in _films(folder):
        identity = path.relative_to(folder).parts[0] if "/" in name else path.stem
        yield Source(name, path, identity, identity_held_out(identity))


_FINDERS: Final[dict[Layout, tuple[Callable[[Path], Iterator[Source]], str]]] = {
    "grid": (_grid, "s1/*.mpg, or the clips of one speaker"),
    "hdtf": (_hdtf, "*.mp4"),
    "voxceleb": (_voxceleb, "id*/<video>/<clip>.mp4, at any depth"),
    "folder": (_folder, "*" + ", *".join(FILM_SUFFIXES)),
}
"""Reads a set; what should lie there."""
