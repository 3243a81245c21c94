"""What an evaluation has measured, and its report: JSON, Markdown, contact sheets, plots."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.evaluation.acceptance import CHECKPOINT, LANDMARKS, acceptance_table, judge
from model.evaluation.metrics.pictures import FINE_PX
from model.evaluation.options import ALIVE, PROTOCOLS, EvaluationOptions
from model.evaluation.protocols import blinks, heads, lively
from model.evaluation.protocols.motion import RealMotion
from model.evaluation.protocols.steadiness import Steadiness
from model.evaluation.protocols.still import Portraits, ReferenceTests
from model.evaluation.protocols.video import (
    DETECTED,
    PREDICTED,
    REAL,
    STATIC,
    Dubbing,
    Reenactment,
    System,
)
from model.evaluation.report import (
    TITLES,
    Table,
    column_table,
    label_row,
    mean_and_spread,
    plot_openings,
    plot_scatter,
    row_table,
    without_nan,
)
from model.media.contact_sheet import write_contact_sheet
from model.pipelines.presets import PRESETS

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


_TITLES: Final = {"heads": heads.TITLES, "blinks": blinks.TITLES, "lively": lively.TITLES}
"""Of figures that other protocols do not share."""


@dataclass
class Results:
    """What has been measured by each protocol, and what not: why, and how to have it measured.

    `alive` are the tables of `heads`, `blinks` and `lively`, `clips` the names of those that were measured,
    `sheet` the rows of the contact sheet.
    """

    reenactment: Reenactment
    dubbing: Dubbing
    references: ReferenceTests
    portraits: Portraits
    motion: RealMotion
    steadiness: Steadiness
    skipped: list[str]
    alive: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    clips: list[str] = field(default_factory=list)
    sheet: list[NDArray[np.uint8]] = field(default_factory=list)


def write_report(
    options: EvaluationOptions, systems: Mapping[str, System], results: Results, landmarks: Table
) -> dict[str, Any]:
    """Write JSON, Markdown, sheets and plots; returns what the JSON holds.

    `landmarks` are what `model.evaluation.landmark_figures` has measured, or nothing.
    """
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    tables: dict[str, dict[str, dict[str, float]]] = {
        name: getattr(results, name).figures() for name in PROTOCOLS if name not in ALIVE
    } | results.alive
    sizes = {
        name: {"megabytes": system.weights_bytes / 1e6}
        for name, system in systems.items()
        if system.weights_bytes is not None
    }
    known = {**tables, LANDMARKS: landmarks, CHECKPOINT: sizes}
    verdicts = judge(known, systems, options.crop_px)
    comparison = compare(options, tables["reenactment"]) if tables["reenactment"] else {}
    acceptance = {
        name: [dataclasses.asdict(verdict) for verdict in rows] for name, rows in verdicts.items()
    }
    report: dict[str, Any] = without_nan(
        {
            "settings": _settings(options, systems, results),
            "skipped": results.skipped,
            **{name: table for name, table in tables.items() if table},
            "acceptance": acceptance,
            "comparison": comparison,
            "per_clip": results.reenactment.per_clip(),
            "per_pair": results.dubbing.per_pair(),
            "per_picture": results.portraits.per_picture,
            "per_driven_picture": results.motion.per_picture,
            "per_steady_picture": results.steadiness.per_picture,
        }
    )
    (output / "evaluation.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    (output / "evaluation.md").write_text(
        _markdown(options, results, tables, comparison, acceptance_table(verdicts))
    )
    _draw(output, results)
    return report


def _settings(
    options: EvaluationOptions, systems: Mapping[str, System], results: Results
) -> dict[str, Any]:
    weights = {
        name: {
            "model": system.pipeline.model_name,
            "version": system.pipeline.version,
            "sha256": system.pipeline.weights_sha256,
            "seed": system.seed,
            "bytes": system.weights_bytes,
        }
        for name, system in systems.items()
    }
    chosen = ("preset", "seeds", "seconds", "crop_px", "stride")
    return {
        **{key: getattr(options, key) for key in chosen},
        "weights": weights,
        "device": str(next(iter(systems.values())).pipeline.device),
        "clips": results.clips,
    }


def compare(
    options: EvaluationOptions, reenactment: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, str]]:
    """One row a system: mean over its runs, and their standard deviation where there are several.

    Of the figures of every run; name to column title to cell.
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
            own = [row for title, row in reenactment.items() if _belongs(title, name, variant)]
            rows[name][column] = mean_and_spread([row[key] for row in own if key in row])
    return rows


def _belongs(title: str, name: str, variant: str) -> bool:
    label, _, found = title.rpartition(", ")
    return found == variant and (label == name or label.rpartition(" (")[0] == name)


def _markdown(
    options: EvaluationOptions,
    results: Results,
    tables: Mapping[str, Mapping[str, Mapping[str, float]]],
    comparison: Mapping[str, Mapping[str, str]],
    acceptance: str,
) -> str:
    count = len(results.clips)
    about = {
        "reenactment": f"Self-reenactment: {count} clips, first frame as the reference, own sound",
        "dubbing": "Dubbing: the same clips with another clip's sound",
        "references": "Silence and leak: stills from the clips, gaps as shares of the mouth's width",
        "portraits": "One-shot: unseen photographs with unseen voices, drawn against wanted mouth",
        "motion": "Real motion: unseen photographs with the mouths of unseen clips, one frame in "
        f"{options.stride}, sharpness at {FINE_PX} px",
        "steadiness": "Steadiness: photographs and stills of clips, changes from frame to frame at "
        f"{FINE_PX} px, grey levels",
        "heads": f"Heads that move, measured on their landmarks; half `{options.half}`",
        "blinks": f"Blinks; half `{options.half}`",
        "lively": "Natural motion beside a still head, the same mouths; half "
        f"`{options.half}`, preset `{options.preset}`",
    }
    size = "the face's own size" if options.crop_px is None else f"{options.crop_px} px"
    parts = [
        f"# Evaluation\n\nPreset `{options.preset}`, seeds {list(options.seeds)}, "
        f"videos compared at {size}."
    ]
    if comparison and not PRESETS[options.preset].num_inference_steps:
        parts.append(
            f"Preset `{options.preset}` moves each frame's own mouth: with detected landmarks that is "
            "the frame laid on itself, and its row says nothing."
        )
    if comparison:
        table = row_table(comparison, [column for column, _, _ in _COMPARED])
        parts.append(f"## Comparison\n\n{table}")
    parts += [
        f"## {about[name]}\n\n{column_table(table, _TITLES.get(name, TITLES))}"
        for name, table in tables.items()
        if table
    ]
    parts.append(f"## What a checkpoint must reach\n\n{acceptance}")
    if results.skipped:
        lines = "\n".join(f"- skipped: {line}" for line in results.skipped)
        parts.append(f"## Not measured\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def _draw(output: Path, results: Results) -> None:
    reenactment = results.reenactment
    if results.sheet:
        write_contact_sheet(results.sheet, output / "contact_sheet.png", columns=1)
    for name, photographs in (("portraits", results.portraits), ("motion", results.motion)):
        if photographs.sheets:
            rows = [label_row(title, tiles) for title, tiles in photographs.sheets.items()]
            write_contact_sheet(rows, output / f"{name}.png", columns=1 + (len(rows) > 8))
    if not reenactment.clips:
        return
    ours = {title: seen for title, seen in reenactment.rows.items() if title not in (REAL, STATIC)}
    real = [clip.opening for clip in reenactment.clips]
    panels = [
        (clip.name, {REAL: wanted, **{title: seen[i].opening for title, seen in ours.items()}})
        for i, (clip, wanted) in enumerate(zip(reenactment.clips, real, strict=True))
    ]
    plot_openings(panels, output / "openings.png")
    drawn = {title: [one.opening for one in seen] for title, seen in ours.items()}
    plot_scatter(real, drawn, output / "scatter.png")
