"""What a checkpoint must reach before it ships, beside what it has reached.

    python -m model.evaluation.acceptance --landmark-figures FILE out/*/evaluation.json

Nothing is measured here. `talkface evaluate` prints this table of what it has just measured; the
command above joins several of its reports on the same weights. A figure that no protocol has given
is "not measured", with the command that gives it; it counts neither as held nor as missed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model.errors import InputError
from model.evaluation.metrics.pictures import FINE_PX
from model.evaluation.protocols.motion import SHARP_ENOUGH
from model.evaluation.protocols.steadiness import FIRST_FRAMES, PHOTOGRAPHS
from model.evaluation.protocols.video import DETECTED
from model.evaluation.report import Table, format_figure, markdown_table

LANDMARKS: Final = "landmarks"
"""Table of what `model.evaluation.landmark_figures` has measured."""
CHECKPOINT: Final = "checkpoint"
"""Table of what is known of the files themselves."""
_SERVED: Final = "as served"
_OWN: Final = "{system}"
_DRAWN: Final = f"{{system}}, {DETECTED}"
_STILLS: Final = (f"{{system}}, {PHOTOGRAPHS}", f"{{system}}, {FIRST_FRAMES}")


@dataclass(frozen=True)
class Criterion:
    """One figure and its limits.

    Attributes:
        name: What is measured.
        table: In which table it stands.
        keys: Its names there; of several figures the worst counts.
        how: How to have it measured.
        least: Lower limit.
        most: Upper limit.
        unit: Behind the limit, when it is printed.
        rows: Rows in which it stands, `{system}` for the system's name; the worst counts.
        crop_px: Counts only if videos were compared at this size; None = at any.
    """

    name: str
    table: str
    keys: tuple[str, ...]
    how: str
    least: float = -math.inf
    most: float = math.inf
    unit: str = ""
    rows: tuple[str, ...] = (_OWN,)
    crop_px: int | None = None

    @property
    def asked(self) -> str:
        """The limits, as a table shows them."""
        if not self.bounded:
            return "–"
        if self.least == self.most:
            return f"{self.least:g}{self.unit}"
        if not math.isfinite(self.most):
            return f"≥ {self.least:g}{self.unit}"
        if not math.isfinite(self.least):
            return f"≤ {self.most:g}{self.unit}"
        return f"{self.least:g} to {self.most:g}{self.unit}"

    @property
    def bounded(self) -> bool:
        """Whether there is a limit."""
        return math.isfinite(self.least) or math.isfinite(self.most)

    def excess(self, value: float) -> float:
        """How far `value` lies beyond the limits; negative within them."""
        return max(self.least - value, value - self.most)


@dataclass(frozen=True)
class Verdict:
    """One criterion for one system: what was measured, its limits, how to have it measured.

    `got` and `held`, whether it is within the limits, are None where there is no figure.
    """

    name: str
    asked: str
    got: float | None
    held: bool | None
    how: str


_FIGURES: Final = "`python -m model.evaluation.landmark_figures`, then `--landmark-figures`"
_CLIPS: Final = f"`--protocols reenactment --crop-px {FINE_PX} --clips`"
_STEADY: Final = "`--protocols steadiness --clips`"
_REFERENCES: Final = "`--protocols references --clips`"
_MOTION: Final = "`--protocols motion --clips`"
_SERVED_ROW: Final = (_SERVED,)

CRITERIA: Final = (
    # 1. speech to landmarks
    Criterion("landmarks: opening, r at lag 0, clips", LANDMARKS, ("r",), _FIGURES,
              least=0.92, rows=_SERVED_ROW),
    Criterion("landmarks: best lag, frames", LANDMARKS, ("best_lag",), _FIGURES,
              least=0, most=0, rows=_SERVED_ROW),
    Criterion("landmarks: closure on /b p m/, clips", LANDMARKS, ("closure",), _FIGURES,
              least=0.85, rows=_SERVED_ROW),
    Criterion("landmarks: closure on /b p m/, other voices", LANDMARKS, ("voices_closure",),
              _FIGURES, least=0.80, rows=_SERVED_ROW),
    Criterion("landmarks: articulation, clips", LANDMARKS, ("articulation",), _FIGURES,
              least=0.8, most=1.1, rows=_SERVED_ROW),
    Criterion("landmarks: silence, mean gap, worst reference", LANDMARKS,
              ("silence_shut_mean", "silence_open_mean", "silence_portraits_mean"), _FIGURES,
              most=0.03, rows=_SERVED_ROW),
    Criterion("landmarks: silence, standard deviation, worst reference", LANDMARKS,
              ("silence_shut_std", "silence_open_std", "silence_portraits_std"), _FIGURES,
              most=0.02, rows=_SERVED_ROW),
    Criterion("landmarks: leak, correlation", LANDMARKS, ("leak_r",), _FIGURES,
              least=0.9, rows=_SERVED_ROW),
    Criterion("landmarks: leak, mean distance", LANDMARKS, ("leak_difference",), _FIGURES,
              most=0.03, rows=_SERVED_ROW),
    # 2. landmarks to pixels
    Criterion(f"clips, detected landmarks: PSNR in the mask at {FINE_PX} px", "reenactment",
              ("psnr_mask",), _CLIPS, least=30, unit=" dB", rows=(_DRAWN,), crop_px=FINE_PX),
    Criterion(f"clips, detected landmarks: SSIM in the mask at {FINE_PX} px", "reenactment",
              ("ssim_mask",), _CLIPS, least=0.90, rows=(_DRAWN,), crop_px=FINE_PX),
    Criterion("clips, detected landmarks: LMD of the lips", "reenactment", ("lmd",), _CLIPS,
              most=0.03, rows=(_DRAWN,)),
    Criterion("photographs, real motion: opening, r", "motion", ("opening_r",), _MOTION,
              least=0.85),
    Criterion("photographs, real motion: best lag, frames", "motion", ("best_lag",), _MOTION,
              least=0, most=0),
    Criterion("photographs, real motion: sharpness, mean", "motion", ("sharpness_mean",),
              _MOTION, least=SHARP_ENOUGH),
    Criterion("photographs, real motion: sharpness, median", "motion", ("sharpness_median",),
              _MOTION, least=SHARP_ENOUGH),
    # 3. speech to pixels
    Criterion("drawn silence: mean gap, worst reference", "references",
              ("silence_shut_mean", "silence_open_mean"), _REFERENCES, most=0.03),
    Criterion("drawn silence: standard deviation, worst reference", "references",
              ("silence_shut_std", "silence_open_std"), _REFERENCES, most=0.02),
    Criterion("drawn leak: correlation", "references", ("leak_r",), _REFERENCES, least=0.9),
    Criterion("drawn leak: mean distance", "references", ("leak_difference",), _REFERENCES,
              most=0.03),
    Criterion("swap, photographs: change / the mouth's own motion", "portraits",
              ("swap_share",), "`--protocols portraits --portraits --speech`", least=0.5),
    Criterion("swap, dubbed videos: change / the mouth's own motion", "dubbing",
              ("swap_share",), "`--protocols reenactment,dubbing --clips`", least=0.5),
    Criterion("swap, dubbed videos: mouths that prefer the new sound", "dubbing",
              ("prefers_new",), "`--protocols dubbing --clips`", least=0.9),
    # 4. over time
    Criterion("flicker: one face, largest change of a pixel", "steadiness",
              ("constant_change",), _STEADY, most=0, rows=_STILLS),
    Criterion("flicker: 0.3 px of noise, change / a real clip's", "steadiness",
              ("noise_over_clip",), _STEADY, most=1.5, rows=_STILLS),
    Criterion("flicker: the same / a real clip's stillest half second", "steadiness",
              ("noise_over_still",), _STEADY, most=1.5, rows=_STILLS),
    Criterion("batch borders: change / the same frames within a batch", "steadiness",
              ("border_ratio",), _STEADY, most=1.05, rows=_STILLS),
    Criterion("skin around moving lips: change / a still real face's", "steadiness",
              ("skin_over_still",), _STEADY, most=1.5, rows=_STILLS),
    # 5. the rest
    Criterion("weights in total", CHECKPOINT, ("megabytes",), "`talkface doctor`",
              most=40, unit=" MB"),
    Criterion("`balanced` within the benchmark's speed", CHECKPOINT, ("seconds",),
              "`python benchmarks/pipeline.py`"),
    Criterion("contact sheets, looked at", CHECKPOINT, ("sheets",),
              "`python -m model.evaluation.contact_sheets`, and eyes"),
)  # fmt: skip
"""In the order in which they are printed."""


def judge(
    tables: Mapping[str, Table], systems: Iterable[str], crop_px: int | None
) -> dict[str, list[Verdict]]:
    """Every criterion for every system.

    Args:
        tables: Table to row to figures; what is absent was not measured.
        systems: Their names.
        crop_px: Side at which videos were compared; None = the face's own size.
    """
    return {
        system: [_judge(one, tables, system, crop_px) for one in CRITERIA] for system in systems
    }


def _judge(
    criterion: Criterion, tables: Mapping[str, Table], system: str, crop_px: int | None
) -> Verdict:
    table = tables.get(criterion.table, {})
    rows = [table.get(row.format(system=system), {}) for row in criterion.rows]
    values = [row[key] for row in rows for key in criterion.keys if key in row]
    values = [value for value in values if math.isfinite(value)]
    if not values or not criterion.bounded or criterion.crop_px not in (None, crop_px):
        return Verdict(criterion.name, criterion.asked, None, None, criterion.how)
    worst = max(values, key=criterion.excess)
    held = criterion.excess(worst) <= 0
    return Verdict(criterion.name, criterion.asked, worst, held, criterion.how)


def acceptance_table(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """Markdown: one line a criterion, what is asked, and for each system what it got and whether that holds."""
    heads = ["figure", "asked", *(cell for name in verdicts for cell in (name, "held?"))]
    rows = [
        [row[0].name, row[0].asked]
        + [cell for verdict in row for cell in (format_figure(verdict.got), _word(verdict))]
        for row in zip(*verdicts.values(), strict=True)
    ]
    return markdown_table(heads, rows, ["---", "---:", *["---:", "---"] * len(verdicts)])


def _word(verdict: Verdict) -> str:
    if verdict.held is None:
        return f"not measured: {verdict.how}"
    return "yes" if verdict.held else "**no**"


def read_landmark_figures(path: Path) -> Table:
    """The table that `model.evaluation.landmark_figures` wrote as `figures.json`.

    Raises:
        InputError: It is not that file.
    """
    try:
        table = json.loads(path.read_text())
        figures: Table = {
            str(row): {str(key): float(value) for key, value in values.items()}
            for row, values in table.items()
        }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path} is not readable as figures ({error}); expected the figures.json that "
            "`python -m model.evaluation.landmark_figures` writes"
        ) from error
    if _SERVED not in figures:
        raise InputError(
            f"{path} has the columns {', '.join(figures)}; expected {_SERVED!r} among them. Give "
            "`model.evaluation.landmark_figures` the recordings as --source."
        )
    return figures


@dataclass(frozen=True)
class Reports:
    """What several `evaluation.json` say of the same weights: figures by table and row, and systems.

    Videos were compared at `crop_px`; None = the face's own size.
    """

    tables: dict[str, Table]
    systems: tuple[str, ...]
    crop_px: int | None


def join_reports(paths: Sequence[Path]) -> Reports:
    """Read the reports of several evaluations; of a table that two have, the later one counts.

    Raises:
        InputError: There is none, one is no report, or they are not about the same weights, seeds and preset.
    """
    if not paths:
        raise InputError("no report was given; expected at least one evaluation.json")
    tables: dict[str, Table] = {}
    about: dict[str, Any] = {}
    sizes: dict[str, dict[str, float]] = {}
    crop_px: int | None = None
    for path in paths:
        try:
            report = json.loads(path.read_text())
            settings = report["settings"]
            weights = settings["weights"]
            identity = {name: (one["sha256"], one["seed"]) for name, one in weights.items()}
            measured = {"preset": settings["preset"], "weights": identity}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not readable as a report ({error!r}); expected an evaluation.json"
            ) from error
        if about and measured != about:
            raise InputError(
                f"{path} is about other weights, seeds or another preset than {paths[0]}; expected "
                "reports on one checkpoint"
            )
        about = measured
        bytes_of = {name: one["bytes"] for name, one in weights.items() if one.get("bytes")}
        sizes |= {name: {"megabytes": size / 1e6} for name, size in bytes_of.items()}
        for name in {one.table for one in CRITERIA} & set(report):
            tables[name] = {
                row: {key: value for key, value in cells.items() if value is not None}
                for row, cells in report[name].items()
            }
        if "reenactment" in report:
            crop_px = settings["crop_px"]
    tables[CHECKPOINT] = sizes
    return Reports(tables, tuple(about["weights"]), crop_px)


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", type=Path, nargs="+", help="evaluation.json files")
    parser.add_argument("--landmark-figures", type=Path, help="figures.json")
    arguments = parser.parse_args()
    joined = join_reports(arguments.reports)
    given = arguments.landmark_figures
    tables = {**joined.tables, LANDMARKS: {} if given is None else read_landmark_figures(given)}
    print(acceptance_table(judge(tables, joined.systems, joined.crop_px)))


if __name__ == "__main__":
    main()
