"""The protocols of heads that move and eyes that blink: `heads`, `blinks`, `lively` of `talkface evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.clips import (
    find_large_portraits,
    find_portraits,
    find_voices,
    read_portrait,
    read_voice,
)
from model.errors import CheckpointError, InputError
from model.evaluation.dlib_identity import DlibIdentity
from model.evaluation.observation import Judges
from model.evaluation.options import EvaluationOptions
from model.evaluation.protocols import blinks, heads, lively
from model.evaluation.protocols.video import System
from model.evaluation.report import Table
from model.evaluation.results import Results
from model.media.contact_sheet import write_contact_sheet

Frames = NDArray[np.uint8]

_LONGEST_PX: Final = 800
"""Longest side of a photograph of `lively`."""
_STRIP: Final = 8  # frames of a sheet's row
_STRIP_PX: Final = 240
_ROWS: Final = 8  # rows of a sheet


def measure_alive(
    options: EvaluationOptions,
    judges: Judges,
    systems: Mapping[str, System],
    results: Results,
    tell: Callable[[str], None],
) -> None:
    """Fill `results.alive`, and write sheets into `options.output`.

    Raises:
        InputError: A folder has nothing to measure on.
    """
    source = options.source
    assert source is not None
    options.output.mkdir(parents=True, exist_ok=True)
    if "heads" in options.protocols:
        for name, system in systems.items():
            flow = system.pipeline.head_flow
            if flow is None:
                results.skipped.append(f"heads: {name} has no network that moves heads")
                continue
            tell(f"heads: {name}")
            table = heads.measure_heads(flow, source, options.half)
            results.alive.setdefault("heads", {}).update(_named(name, table, len(systems) == 1))
    if "blinks" in options.protocols:
        tell("blinks")
        results.alive["blinks"], strips = blinks.measure_blinks(source, options.half)
        _write_sheets(strips, options.output, "blinks")
    if "lively" in options.protocols:
        _measure_lively(source, options, judges, systems, results, tell)


def _measure_lively(
    source: Path,
    options: EvaluationOptions,
    judges: Judges,
    systems: Mapping[str, System],
    results: Results,
    tell: Callable[[str], None],
) -> None:
    identity: lively.Embedder | None = judges.identity
    if identity is None:
        try:
            identity = DlibIdentity()
        except CheckpointError as error:
            results.skipped.append(f"lively: identity: {error}")
    if options.half == "final":
        found = find_large_portraits(source)
    else:
        found = find_portraits(source / "portraits", held_out=False)
    chosen = heads.evenly(found, options.limit)
    voices = [read_voice(path, options.max_frames) for path in find_voices(source / "speech")]
    for name, system in systems.items():
        measured = lively.Lively(judges.detector, identity)
        strips = []
        for number, path in enumerate(chosen):
            tell(f"lively: {path.name} ({number + 1} of {len(chosen)})")
            image = read_portrait(path, _LONGEST_PX)
            # not one after the other: a voice's neighbours in the alphabet are of its book
            voice = voices[len(voices) * number // len(chosen)]
            try:
                strips.append(_strip(measured.add(image, voice, number, system)))
            except InputError as error:
                results.skipped.append(f"lively: {path.name}: {error}")
        table = _named(name, measured.figures(), len(systems) == 1)
        results.alive.setdefault("lively", {}).update(table)
        _write_sheets(strips, options.output, f"lively_{name}")


def _named(name: str, table: Table, alone: bool) -> dict[str, dict[str, float]]:
    """The columns of one of several systems."""
    return {title if alone else f"{name}, {title}": dict(row) for title, row in table.items()}


def _strip(frames: Sequence[Frames]) -> Frames:
    """Some frames of a video beside each other."""
    chosen = [frames[k] for k in np.linspace(0, len(frames) - 1, _STRIP).astype(int)]
    height, width = chosen[0].shape[:2]
    size = (round(_STRIP_PX * width / height), _STRIP_PX)
    tiles = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in chosen]
    return np.asarray(np.concatenate(tiles, axis=1), np.uint8)


def _write_sheets(strips: Sequence[Frames], output: Path, name: str) -> None:
    for first in range(0, len(strips), _ROWS):
        rows = strips[first : first + _ROWS]
        write_contact_sheet(rows, output / f"{name}_{first // _ROWS + 1}.png", columns=1)
