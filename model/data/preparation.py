"""A set of films becomes a folder of shards: in parallel, resumable, with a report.

    SOURCE films ──prepare_film, one process each──▶ OUTPUT/.parts/<hash>.safetensors, one a film
                 ──packed in the films' order─────▶ OUTPUT/shard-00000.safetensors, 64 MB each
                                                    OUTPUT/report.json

A film is finished when its part or shard is: whatever kills the run, the next one goes on, and the
shards come out the same. Films that cannot be used are finished too, with the reason in the report.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from model.data.films import FilmReport, PrepareSettings, prepare_film
from model.data.layouts import Source, find_sources
from model.data.shards import ClipShards, TrackData, read_made_from, read_tracks, write_shard
from model.errors import InputError, UnsupportedMediaError
from model.media.audio import FPS

SHARD_BYTES: Final = 64 * 2**20
PARTS: Final = ".parts"
REPORT: Final = "report.json"


def prepare_set(
    source: Path,
    output: Path,
    settings: PrepareSettings,
    *,
    workers: int = 1,
    limit: int | None = None,
) -> dict[str, Any]:
    """Prepare the films of a set.

    Args:
        source: The set's folder.
        output: Folder of the shards; what it holds already is kept.
        settings: The same as those of the shards that it holds.
        workers: Processes.
        limit: At most so many films (`find_sources`).
    Returns:
        The report, as written to `report.json`.
    Raises:
        InputError: No film of that layout, or `output` was prepared with other settings.
    """
    sources = find_sources(settings.layout, source, limit)
    parts = output / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    for torn in [*output.glob("*.partial"), *parts.glob("*.partial")]:
        torn.unlink()
    shards = sorted(output.glob("shard-*.safetensors"))
    reports: dict[str, dict[str, Any]] = {}
    for shard in shards:
        reports |= _finished(shard, settings)
    missing = [film for film in sources if film.name not in reports]
    writer = _Packer(output, settings, len(shards))
    with _mapping(workers) as mapped:
        done = mapped(partial(_finish, output=output, settings=settings), missing)
        bar = tqdm(done, total=len(sources), initial=len(sources) - len(missing), unit="film")
        for film, part in zip(missing, bar, strict=True):
            finished = _finished(part, settings)
            if finished[film.name]["error"]:
                tqdm.write(f"skipped {film.name}: {finished[film.name]['error']}")
            writer.add(part, finished)
            reports |= finished
    writer.flush()
    shutil.rmtree(parts)
    report = summarise(output, settings, {film.name: reports[film.name] for film in sources})
    (output / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False))
    return report


def part_path(output: Path, source: Source) -> Path:
    """Where a film's tracks wait to be packed."""
    name = hashlib.sha256(source.name.encode()).hexdigest()[:24]
    return output / PARTS / f"{name}.safetensors"


def _finish(source: Source, output: Path, settings: PrepareSettings) -> Path:
    """Prepare one film into its part, unless that lies there already."""
    part = part_path(output, source)
    if part.exists():
        with suppress(UnsupportedMediaError):  # not whole: made again
            _finished(part, settings)
            return part
    tracks: list[TrackData] = []
    try:
        tracks, report = prepare_film(source, settings)
    except UnsupportedMediaError as error:
        report = FilmReport(error=" / ".join(str(error).splitlines()))
    _write(part, tracks, settings, {source.name: asdict(report)})
    return part


def _write(
    path: Path, tracks: Sequence[TrackData], settings: PrepareSettings, films: Mapping[str, Any]
) -> None:
    made_from = {"settings": asdict(settings), "films": films}
    write_shard(path, tracks, stored_px=settings.stored_px, made_from=made_from)


def _finished(path: Path, settings: PrepareSettings) -> dict[str, dict[str, Any]]:
    """Reports of the films in a shard or part, by name.

    Raises:
        InputError: It was made with other settings.
        UnsupportedMediaError: It is no whole shard.
    """
    made_from = read_made_from(path)
    if made_from.get("settings") != asdict(settings):
        raise InputError(
            f"{path.parent} was prepared with {made_from.get('settings')}; expected the settings of "
            f"this call, {asdict(settings)}. Choose another output folder, or empty it."
        )
    films: dict[str, dict[str, Any]] = made_from["films"]
    return films


class _Packer:
    """Packs parts into shards in the order in which they come."""

    def __init__(self, output: Path, settings: PrepareSettings, number: int) -> None:
        self._output, self._settings, self._number = output, settings, number
        self._parts: list[Path] = []
        self._tracks: list[TrackData] = []
        self._films: dict[str, Any] = {}

    def add(self, part: Path, films: Mapping[str, Any]) -> None:
        """Take one film; a shard is written when it is full."""
        self._parts.append(part)
        self._tracks += read_tracks(part)
        self._films |= films
        if sum(len(frame) for data in self._tracks for frame in data.frames) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has been taken, and only then drop its parts."""
        if not self._films:
            return
        path = self._output / f"shard-{self._number:05d}.safetensors"
        _write(path, self._tracks, self._settings, self._films)
        for part in self._parts:
            part.unlink()
        self._number += 1
        self._parts, self._tracks, self._films = [], [], {}


@contextmanager
def _mapping(workers: int) -> Iterator[Any]:
    """`map`, over processes when there are several."""
    if workers <= 1:
        yield map
        return
    # Spawned: a fork would inherit the locks of this process's threads (the bar's, OpenCV's).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        yield pool.map


def _end_with_parent() -> None:
    """Leave no worker behind when the run is killed: the next run writes the same files."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def summarise(
    output: Path, settings: PrepareSettings, films: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What was kept and what was dropped and why, of the given films and of the whole folder."""
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    for film in films.values():
        for drop in film["dropped"]:
            dropped[drop["reason"]].update(parts=1, frames=drop["frames"])
    tracks = ClipShards(output).tracks
    return {
        "settings": asdict(settings),
        "films": len(films),
        "failed": {name: film["error"] for name, film in films.items() if film["error"]},
        "looked_at_s": sum(film["frames"] for film in films.values()) / FPS,
        "kept_s": sum(film["kept"] for film in films.values()) / FPS,
        "dropped": {
            reason: {"parts": counts["parts"], "seconds": counts["frames"] / FPS}
            for reason, counts in sorted(dropped.items())
        },
        "shifted_frames": {
            key: frames for film in films.values() for key, frames in film["shifted"].items()
        },
        "shards": {
            "tracks": len(tracks),
            "held_out_tracks": sum(track.held_out for track in tracks),
            "identities": len({track.identity for track in tracks}),
            "seconds": sum(track.num_frames for track in tracks) / FPS,
        },
        "details": {name: film["dropped"] for name, film in films.items() if film["dropped"]},
    }
