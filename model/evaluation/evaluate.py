"""Every protocol for every checkpoint, and one report.

    clips ─▶ find the face once ─┬▶ self-reenactment ┐
                                 ├▶ dubbing          │
                                 └▶ silence, leak    ├▶ evaluation.json  evaluation.md
    portraits + voices ──────────▶ one-shot          │  contact sheets   plots
    portraits + clips ───────────▶ real motion,      │
                                   steadiness        ┘

`talkface evaluate` is its door.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.checkpoints import verify_checkpoint
from model.data.clips import (
    Clip,
    ClipFrames,
    find_clips,
    find_portraits,
    find_voices,
    read_clip,
    read_voice,
)
from model.data.crops import read_picture
from model.data.layouts import Source
from model.errors import InputError
from model.evaluation.acceptance import read_landmark_figures
from model.evaluation.observation import Judges, Observer
from model.evaluation.options import EvaluationOptions
from model.evaluation.protocols.motion import RealMotion
from model.evaluation.protocols.steadiness import FIRST_FRAMES, PHOTOGRAPHS, Steadiness
from model.evaluation.protocols.still import Portraits, ReferenceTests
from model.evaluation.protocols.video import (
    PREDICTED,
    Dubbing,
    Reenactment,
    System,
)
from model.evaluation.report import label_row
from model.evaluation.results import Results, write_report
from model.pipelines.talking_face import load_pipeline

Tell = Callable[[str], None]
ItemT = TypeVar("ItemT")

_EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
_ON_CLIPS: Final = frozenset({"reenactment", "dubbing", "references", "motion", "steadiness"})
_DRIVEN: Final = frozenset({"motion", "steadiness"})
_SHEET_CLIPS: Final = 4
_REFERENCE_CLIPS: Final = 4  # silence and leak draw 150 frames a clip


def evaluate(
    options: EvaluationOptions, judges: Judges, tell: Tell = lambda _: None
) -> dict[str, Any]:
    """Measure and write the report into `options.output`.

    Args:
        options: What to measure.
        judges: Who judges.
        tell: Told what goes on.
    Returns:
        What `evaluation.json` holds.
    Raises:
        InputError: A folder has nothing to measure on.
        CheckpointError: Weights cannot be used.
    """
    systems = load_systems(options, judges)
    results = Results(
        Reenactment(), Dubbing(judges), ReferenceTests(judges), Portraits(judges),
        RealMotion(judges, options.stride), Steadiness(), list(judges.skipped),
    )  # fmt: skip
    given = options.landmark_figures
    landmarks = {} if given is None else read_landmark_figures(given)
    wants_clips = _ON_CLIPS & set(options.protocols)
    if wants_clips and options.clips is None:
        results.skipped.append(
            f"{', '.join(sorted(wants_clips))}: needs real videos; give their folder as --clips"
        )
    elif wants_clips - _DRIVEN:
        _measure_clips(options, judges, systems, results, tell)
    if "motion" in wants_clips and options.clips is not None:
        _measure_motion(options, judges, systems, results, tell)
    if "steadiness" in wants_clips and options.clips is not None:
        _measure_steadiness(options, judges, systems, results, tell)
    if "portraits" in options.protocols:
        _measure_portraits(options, systems, results, tell)
    return write_report(options, systems, results, landmarks)


def load_systems(options: EvaluationOptions, judges: Judges) -> dict[str, System]:
    """Every checkpoint with every seed; names are unique."""
    systems: dict[str, System] = {}
    names = [checkpoint.name for checkpoint in options.checkpoints]
    for checkpoint in options.checkpoints:
        pipeline = load_pipeline(checkpoint.folder, device=options.device)
        pipeline.detector = judges.detector
        size, name = verify_checkpoint(checkpoint.folder).total_bytes, checkpoint.name
        for seed in options.seeds:
            alone = names.count(name) * len(options.seeds) == 1
            label = name if alone else f"{name} ({_count(systems, name) + 1})"
            systems[label] = System(label, pipeline, options.preset, seed, size)
    return systems


def _count(systems: Mapping[str, System], name: str) -> int:
    return sum(label.rpartition(" (")[0] == name for label in systems)


def _measure_clips(
    options: EvaluationOptions,
    judges: Judges,
    systems: Mapping[str, System],
    results: Results,
    tell: Tell,
) -> None:
    assert options.clips is not None
    found = find_clips(options.layout, options.clips, every=options.every_clip)
    sources = spread(found, options.limit)
    last: Clip | None = None
    if len(sources) > 1 and "dubbing" in options.protocols:
        # Each clip gets the sound of the clip before, the first one the last one's.
        with contextlib.suppress(InputError):  # it will be named when its turn comes
            last, _ = read_clip(sources[-1], judges.detector, options.max_frames)
    for number, source in enumerate(sources, start=1):
        tell(f"{source.name} ({number} of {len(sources)})")
        try:
            clip, frames = read_clip(source, judges.detector, options.max_frames)
            observer = Observer(clip, frames.frames, judges, options.crop_px)
            _measure_clip(options, observer, frames, last, systems, results)
        except InputError as error:
            results.skipped.append(f"{source.name}: {error}")
            continue
        last = clip
        results.clips.append(clip.name)
    if not results.clips:
        raise InputError(f"no video in {options.clips} could be measured: {results.skipped[-1]}")
    if "dubbing" in options.protocols and not results.dubbing.rows:
        results.skipped.append(f"dubbing: needs two videos; {options.clips} has one that is usable")


def spread(items: Sequence[ItemT], limit: int) -> list[ItemT]:
    """At most `limit` of `items`, evenly from first to last."""
    if len(items) <= limit:
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def _measure_clip(
    options: EvaluationOptions,
    observer: Observer,
    frames: ClipFrames,
    other: Clip | None,
    systems: Mapping[str, System],
    results: Results,
) -> None:
    """All protocols on one clip; `other` gives the sound for dubbing."""
    clip = observer.clip
    rows = results.reenactment.rows  # stay empty where self-reenactment is not wanted
    if "reenactment" in options.protocols:
        results.reenactment.add(frames, observer, systems)
        if len(results.reenactment.clips) <= _SHEET_CLIPS:
            results.sheet += [
                label_row(f"{clip.name} {title}", seen[-1].sheet) for title, seen in rows.items()
            ]
    if "dubbing" in options.protocols and other is not None and other.name != clip.name:
        own = {
            name: rows[title][-1] for name in systems if (title := f"{name}, {PREDICTED}") in rows
        }
        results.dubbing.add(frames, observer, other, systems, own)
    if "references" in options.protocols and len(results.clips) < _REFERENCE_CLIPS:
        for system in systems.values():
            results.references.add(frames, clip, system)


def _measure_portraits(
    options: EvaluationOptions, systems: Mapping[str, System], results: Results, tell: Tell
) -> None:
    folders = (options.portraits or _EXAMPLES, options.speech or _EXAMPLES)
    if not all(folder.is_dir() for folder in folders):
        results.skipped.append(
            "portraits: needs photographs and voices; give their folders as --portraits, --speech"
        )
        return
    pictures, voices = find_portraits(folders[0]), find_voices(folders[1])
    chosen = spread(pictures, options.limit)
    spoken = cycle(voices)
    for number, path in enumerate(chosen):
        tell(f"{path.name} ({number + 1} of {len(chosen)})")
        voice = read_voice(next(spoken), options.max_frames)
        other = read_voice(voices[(number + 1) % len(voices)], options.max_frames)
        image = read_photograph(path)
        for system in systems.values():
            try:
                results.portraits.add(
                    path.stem, image, voice, other if len(voices) > 1 else None, system
                )
            except InputError as error:
                results.skipped.append(f"{path.name}: {error}")
                break


def _measure_motion(
    options: EvaluationOptions,
    judges: Judges,
    systems: Mapping[str, System],
    results: Results,
    tell: Tell,
) -> None:
    found, pairs = _driven(options, options.motion_limit)
    for number, (path, source) in enumerate(pairs, start=1):
        tell(f"{path.name} moved by {source.name} ({number} of {len(pairs)})")
        try:
            clip, frames = read_clip(source, judges.detector, options.max_frames)
            image = read_photograph(path)
            for system in systems.values():
                results.motion.add(path.stem, image, clip, frames, system)
        except InputError as error:
            results.skipped.append(f"{path.name} moved by {source.name}: {error}")
    if found < options.motion_limit:
        results.skipped.append(
            f"motion: {options.motion_limit} photographs were asked for, and there are {found} of "
            "unseen people"
        )


def _measure_steadiness(
    options: EvaluationOptions,
    judges: Judges,
    systems: Mapping[str, System],
    results: Results,
    tell: Tell,
) -> None:
    _, pairs = _driven(options, options.limit)
    for number, (path, source) in enumerate(pairs, start=1):
        tell(f"steadiness: {path.name}, {source.name} ({number} of {len(pairs)})")
        try:
            clip, frames = read_clip(source, judges.detector, options.max_frames)
            pictures = {
                PHOTOGRAPHS: (path.stem, read_photograph(path)),
                FIRST_FRAMES: (clip.name, frames.frames[clip.reference]),
            }
            for system in systems.values():
                for kind, (name, image) in pictures.items():
                    row = f"{system.name}, {kind}"
                    results.steadiness.add(row, name, image, clip, frames, system)
        except InputError as error:
            results.skipped.append(f"steadiness, {path.name}, {source.name}: {error}")


def _driven(options: EvaluationOptions, limit: int) -> tuple[int, list[tuple[Path, Source]]]:
    """How many photographs there are, and at most `limit` of them, each with a clip of its own."""
    assert options.clips is not None
    found = find_portraits(options.portraits or _EXAMPLES)
    chosen = spread(found, limit)
    clips = find_clips(options.layout, options.clips, every=options.every_clip)
    drivers = cycle(spread(clips, len(chosen)))
    return len(found), list(zip(chosen, drivers, strict=False))


def read_photograph(path: Path) -> NDArray[np.uint8]:
    """A picture `(H, W, 3)`, uint8 RGB, with even sides as videos want them."""
    image = read_picture(path)
    return np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
