"""Every protocol for every checkpoint, and one report.

    clips ─▶ find the face once ─┬▶ self-reenactment ┐
                                 ├▶ dubbing          │
                                 └▶ silence, leak    ├▶ evaluation.json  evaluation.md
    portraits + voices ──────────▶ one-shot          ┘  contact sheets   plots

`talkface evaluate` is its door.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.clips import (
    Clip,
    ClipFrames,
    find_clips,
    find_portraits,
    find_voices,
    read_clip,
    read_voice,
)
from model.evaluation.observation import Judges, Observer
from model.evaluation.report import (
    column_table,
    label_row,
    mean_and_spread,
    plot_openings,
    plot_scatter,
    row_table,
    without_nan,
)
from model.evaluation.still_protocols import Portraits, ReferenceTests
from model.evaluation.video_protocols import (
    DETECTED,
    PREDICTED,
    REAL,
    STATIC,
    Dubbing,
    Reenactment,
    System,
)
from model.media.audio import FPS
from model.media.video import write_contact_sheet
from model.pipelines.talking_face import load_pipeline
from model.training.crops import read_picture
from model.training.data.layouts import Layout

Protocol = Literal["reenactment", "dubbing", "references", "portraits"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("reenactment", "dubbing", "references", "portraits")

Tell = Callable[[str], None]
ItemT = TypeVar("ItemT")

_EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
_REFERENCE_CLIPS: Final = 4  # silence and leak draw 150 frames a clip
_SHEET_CLIPS: Final = 4
_COMPARED: Final = (
    ("LMD (predicted landmarks)", PREDICTED, "lmd"),
    ("LMD (detected)", DETECTED, "lmd"),
    ("sync matching", PREDICTED, "sync_matching"),
    ("LSE-C", PREDICTED, "lse_c"),
    ("LSE-D", PREDICTED, "lse_d"),
    ("PSNR mask", PREDICTED, "psnr_mask"),
    ("SSIM mask", PREDICTED, "ssim_mask"),
    ("PSNR mask (detected)", DETECTED, "psnr_mask"),
    ("opening r", PREDICTED, "opening_r"),
    ("opening r (detected)", DETECTED, "opening_r"),
    ("articulation", PREDICTED, "articulation"),
)


@dataclass(frozen=True)
class Checkpoint:
    """One `--weights`.

    Attributes:
        name: Title of its rows; checkpoints of one name are runs of one system.
        folder: Where it is, None = the one that ships.
    """

    name: str
    folder: Path | None


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, on what.

    Attributes:
        checkpoints: At least one.
        output: Folder of the report.
        clips: Folder of real videos with sound, or None.
        layout: How they are laid out.
        every_clip: Take all of them, not only those that training leaves out.
        portraits: Folder of photographs; None = the example portrait.
        speech: Folder of voices; None = the example speech.
        limit: Clips and photographs at most.
        seconds: Longer recordings are cut there.
        preset: A key of `PRESETS`.
        seeds: Of the noise; every checkpoint is measured with each.
        protocols: Which of `PROTOCOLS`.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoints: tuple[Checkpoint, ...]
    output: Path
    clips: Path | None = None
    layout: Layout = "grid"
    every_clip: bool = False
    portraits: Path | None = None
    speech: Path | None = None
    limit: int = 8
    seconds: float = 5.0
    preset: str = "balanced"
    seeds: tuple[int, ...] = (0,)
    protocols: tuple[Protocol, ...] = PROTOCOLS
    device: str = "auto"

    @property
    def max_frames(self) -> int:
        """`seconds` in video frames."""
        return max(1, round(self.seconds * FPS))


@dataclass
class _Results:
    """What has been measured."""

    reenactment: Reenactment
    dubbing: Dubbing
    references: ReferenceTests
    portraits: Portraits
    skipped: list[str]
    clips: list[str] = field(default_factory=list)
    sheet: list[NDArray[np.uint8]] = field(default_factory=list)


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
    results = _Results(
        Reenactment(), Dubbing(judges), ReferenceTests(judges), Portraits(judges),
        list(judges.skipped),
    )  # fmt: skip
    wants_clips = {"reenactment", "dubbing", "references"} & set(options.protocols)
    if wants_clips and options.clips is None:
        results.skipped.append(
            f"{', '.join(sorted(wants_clips))}: needs real videos; give their folder as --clips"
        )
    elif wants_clips:
        _measure_clips(options, judges, systems, results, tell)
    if "portraits" in options.protocols:
        _measure_portraits(options, systems, results, tell)
    return write_report(options, systems, results)


def load_systems(options: EvaluationOptions, judges: Judges) -> dict[str, System]:
    """Every checkpoint with every seed; names are unique."""
    systems: dict[str, System] = {}
    loaded = [
        (checkpoint.name, load_pipeline(checkpoint.folder, device=options.device))
        for checkpoint in options.checkpoints
    ]
    for _, pipeline in loaded:
        pipeline.detector = judges.detector
    runs = [(name, pipeline, seed) for name, pipeline in loaded for seed in options.seeds]
    for name, pipeline, seed in runs:
        alike = [other for other, _, _ in runs if other == name]
        label = name if len(alike) == 1 else f"{name} ({_count(systems, name) + 1})"
        systems[label] = System(label, pipeline, options.preset, seed)
    return systems


def _count(systems: Mapping[str, System], name: str) -> int:
    return sum(label.rpartition(" (")[0] == name for label in systems)


def _measure_clips(
    options: EvaluationOptions,
    judges: Judges,
    systems: Mapping[str, System],
    results: _Results,
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
            observer = Observer(clip, frames.frames, judges)
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
    results: _Results,
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
    options: EvaluationOptions, systems: Mapping[str, System], results: _Results, tell: Tell
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
        image = read_picture(path)
        image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
        for system in systems.values():
            try:
                results.portraits.add(
                    path.stem, image, voice, other if len(voices) > 1 else None, system
                )
            except InputError as error:
                results.skipped.append(f"{path.name}: {error}")
                break


def write_report(
    options: EvaluationOptions, systems: Mapping[str, System], results: _Results
) -> dict[str, Any]:
    """Write JSON, Markdown, sheets and plots; returns what the JSON holds."""
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    reenactment = results.reenactment.figures()
    tables: dict[str, dict[str, dict[str, float]]] = {
        "reenactment": reenactment,
        "dubbing": results.dubbing.figures(),
        "references": results.references.figures(),
        "portraits": results.portraits.figures(),
    }
    comparison = compare(options, reenactment) if reenactment else {}
    first = next(iter(systems.values()))
    report: dict[str, Any] = without_nan(
        {
            "settings": {
                "preset": options.preset,
                "seeds": options.seeds,
                "weights": {
                    name: {
                        "model": system.pipeline.model_name,
                        "version": system.pipeline.version,
                        "sha256": system.pipeline.weights_sha256,
                        "seed": system.seed,
                    }
                    for name, system in systems.items()
                },
                "device": str(first.pipeline.device),
                "clips": results.clips,
                "seconds": options.seconds,
            },
            "skipped": results.skipped,
            **{name: table for name, table in tables.items() if table},
            "comparison": comparison,
            "per_clip": results.reenactment.per_clip(),
            "per_pair": results.dubbing.per_pair(),
            "per_picture": results.portraits.per_picture,
        }
    )
    (output / "evaluation.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    (output / "evaluation.md").write_text(_markdown(options, results, tables, comparison))
    _draw(output, results)
    return report


def compare(
    options: EvaluationOptions, reenactment: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, str]]:
    """One row a system: mean over its runs, and their standard deviation where there are several.

    Args:
        options: Name the systems.
        reenactment: Figures of every run.
    Returns:
        Name to column title to cell.
    """
    rows: dict[str, dict[str, str]] = {}
    for title in (REAL, STATIC):
        figures = reenactment.get(title, {})
        rows[title] = {
            column: mean_and_spread([figures[key]])
            for column, variant, key in _COMPARED
            if variant == PREDICTED and key in figures
        }
    for name in dict.fromkeys(checkpoint.name for checkpoint in options.checkpoints):
        rows[name] = {}
        for column, variant, key in _COMPARED:
            values = [
                figures[key]
                for title, figures in reenactment.items()
                if _belongs(title, name, variant) and key in figures
            ]
            rows[name][column] = mean_and_spread(values)
    return rows


def _belongs(title: str, name: str, variant: str) -> bool:
    label, _, found = title.rpartition(", ")
    return found == variant and (label == name or label.rpartition(" (")[0] == name)


def _markdown(
    options: EvaluationOptions,
    results: _Results,
    tables: Mapping[str, Mapping[str, Mapping[str, float]]],
    comparison: Mapping[str, Mapping[str, str]],
) -> str:
    count = len(results.clips)
    about = {
        "reenactment": f"Self-reenactment: {count} clips, first frame as the reference, own sound",
        "dubbing": "Dubbing: the same clips with another clip's sound",
        "references": "Silence and leak: stills from the clips, gaps as shares of the mouth's width",
        "portraits": "One-shot: unseen photographs with unseen voices, drawn against wanted mouth",
    }
    parts = [f"# Evaluation\n\nPreset `{options.preset}`, seeds {list(options.seeds)}."]
    if comparison:
        columns = [column for column, _, _ in _COMPARED]
        parts.append(f"## Comparison\n\n{row_table(comparison, columns)}")
    parts += [
        f"## {about[name]}\n\n{column_table(table)}" for name, table in tables.items() if table
    ]
    if results.skipped:
        lines = "\n".join(f"- skipped: {line}" for line in results.skipped)
        parts.append(f"## Not measured\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def _draw(output: Path, results: _Results) -> None:
    reenactment = results.reenactment
    if results.sheet:
        write_contact_sheet(results.sheet, output / "contact_sheet.png", columns=1)
    if results.portraits.sheets:
        rows = [label_row(title, tiles) for title, tiles in results.portraits.sheets.items()]
        write_contact_sheet(rows, output / "portraits.png", columns=1)
    if not reenactment.clips:
        return
    ours = {title: seen for title, seen in reenactment.rows.items() if title not in (REAL, STATIC)}
    real = [clip.opening for clip in reenactment.clips]
    panels = [
        (clip.name, {REAL: wanted, **{title: seen[i].opening for title, seen in ours.items()}})
        for i, (clip, wanted) in enumerate(zip(reenactment.clips, real, strict=True))
    ]
    plot_openings(panels, output / "openings.png")
    drawn: dict[str, Sequence[NDArray[np.float32]]] = {
        title: [one.opening for one in seen] for title, seen in ours.items()
    }
    plot_scatter(real, drawn, output / "scatter.png")
