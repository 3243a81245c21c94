"""Figures on paper: tables, plots, contact sheets.

Nothing heavy is imported here; matplotlib comes when a plot is drawn.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.media.audio import FPS

Curve = NDArray[np.float32]
Table = Mapping[str, Mapping[str, float]]
"""Row or column title to figures by name."""

TITLES: Final = {
    "fid": "FID",
    "lpips": "LPIPS",
    "psnr_mask": "PSNR in the mask, dB",
    "ssim_mask": "SSIM in the mask",
    "psnr_face": "PSNR of the face crop, dB",
    "ssim_face": "SSIM of the face crop",
    "csim": "CSIM",
    "sharpness": "sharpness of the mouth / real",
    "sharpness_mean": "sharpness of the mouth / the photograph's, mean",
    "sharpness_median": "the same, median of the photographs",
    "sharp_share": "share of photographs with at least 0.6",
    "lmd": "LMD, lips / inter-ocular distance",
    "opening_r": "mouth opening, r at lag 0",
    "r_median": "the same of one photograph, median",
    "r_least": "the same, least",
    "r_best_lag": "r at the best lag within ±4 frames",
    "best_lag": "best lag, frames (positive: late)",
    "slope": "drawn over wanted opening, slope",
    "articulation": "articulation ratio",
    "closure": "closure on /b p m/",
    "sync_matching": "sync: matching with the sound, cosine",
    "sync_matching_old": "sync: matching with the video's former sound",
    "prefers_new": "share of pairs whose mouth prefers the new sound",
    "lse_c": "LSE-C (our sync network)",
    "lse_d": "LSE-D (our sync network)",
    "sync_offset": "sync offset, frames, median",
    "syncnet_lse_c": "LSE-C (SyncNet)",
    "syncnet_lse_d": "LSE-D (SyncNet)",
    "swap_difference": "swap: mean change of the opening by another voice",
    "swap_share": "the same / the mouth's own motion (0: it does not listen)",
    "silence_mean": "silence, mean gap",
    "silence_std": "silence, standard deviation",
    "silence_shut_mean": "silence, mean gap, shut reference",
    "silence_shut_std": "silence, standard deviation, shut reference",
    "silence_open_mean": "silence, mean gap, open reference",
    "silence_open_std": "silence, standard deviation, open reference",
    "leak_r": "leak: correlation of jaw and lips, open against shut reference",
    "leak_difference": "leak: mean distance / mouth width",
    "outside_equal": "frames equal to the source outside the mask",
    "outside_psnr": "PSNR outside the mask in the MP4, dB",
    "constant_change": "one face again and again: largest change of a pixel",
    "noise_change": "0.3 px of noise: mean change in the mask",
    "clip_change": "real clip: mean change in the mask",
    "still_change": "the same where its lips move least",
    "noise_over_clip": "change by noise / the real clip's",
    "noise_over_still": "change by noise / the real clip's where it is still",
    "border_ratio": "change where a batch begins / the same frames within a batch",
    "batch_change": "another batch size: largest change of a pixel",
    "skin_change": "skin around moving lips, jaw still: mean change (real clip: where it is still)",
    "skin_over_still": "the same / the real clip's",
    "faces_found": "frames in which a face is found again",
    "pairs": "pairs",
    "pictures": "photographs",
}
"""What the figures are called, in the order in which they are printed."""

_SAME: Final = 1e-9
_LETTER_PX: Final = 6  # usual width of a letter on a contact sheet


def markdown_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], aligned: Sequence[str] | None = None
) -> str:
    """Markdown: `heads`, then `rows`; `aligned` says how, by default all but the first column to the right."""
    marks = aligned or ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, marks, *rows))


def column_table(columns: Table, titles: Mapping[str, str] = TITLES) -> str:
    """Markdown: one line a figure, one column a system; figures that nobody has are left out."""
    rows = [
        [title, *(format_figure(figures.get(key)) for figures in columns.values())]
        for key, title in titles.items()
        if any(key in figures for figures in columns.values())
    ]
    return markdown_table(["figure", *columns], rows)


def row_table(rows: Mapping[str, Mapping[str, str]], columns: Sequence[str], head: str = "") -> str:
    """Markdown: one line a system, one column a figure; `rows` hold finished cells."""
    lines = [[title, *(cells.get(c, "–") for c in columns)] for title, cells in rows.items()]
    return markdown_table([head, *columns], lines)


def write_figures(output: Path, figures: Mapping[str, Any], text: str) -> None:
    """Write `figures.json` and `figures.md` into the folder `output`."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    (output / "figures.md").write_text(text)


def format_figure(value: float | None) -> str:
    """Three decimals below ten, one above; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def mean_and_spread(values: Sequence[float]) -> str:
    """`0.123` of one run, `0.123 ± 0.004` (standard deviation) of several."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "–"
    text = format_figure(float(np.mean(finite)))
    if len(finite) < 2:
        return text
    spread = float(np.std(finite, ddof=1))
    return f"{text} ± {format_figure(spread if spread > _SAME else 0.0)}"


def without_nan(value: Any) -> Any:
    """JSON knows no nan: None instead, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plot_openings(clips: Sequence[tuple[str, Mapping[str, Curve]]], path: Path) -> None:
    """Mouth openings over time as PNG, one panel a clip, six at most.

    `clips` are titles with curves `(T,)` by name, the same names for all; the first is drawn black.
    """
    shown = clips[:6]
    lines = -(-len(shown) // 2)
    figure, axes = _subplots(lines, 2, (12, 1 + 2.4 * lines), sharey=True)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (title, curves) in zip(axes.flat, shown, strict=False):
        for name, curve in curves.items():
            seconds = np.arange(len(curve)) / FPS
            is_first = name == next(iter(curves))
            axis.plot(seconds, curve, label=name, **({"color": "black"} if is_first else {}))
        axis.set_title(title, fontsize=9)
        axis.set_ylabel("lip gap / mouth width")
        axis.set_xlabel("seconds")
    axes[0, 0].legend(fontsize=8)
    _save(figure, path)


def plot_scatter(real: Sequence[Curve], drawn: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Drawn against real opening `(T,)` of each clip, every frame a dot, one panel a system, as PNG."""
    figure, axes = _subplots(1, len(drawn), (4 * len(drawn), 4))
    wanted = np.concatenate(list(real))
    limit = float(np.nanmax(wanted)) * 1.15
    for axis, (title, curves) in zip(axes.flat, drawn.items(), strict=True):
        found = np.concatenate(list(curves))
        axis.plot((0, limit), (0, limit), color="grey", linewidth=1)
        axis.scatter(wanted[: len(found)], found, s=3, alpha=0.4)
        axis.set(xlim=(0, limit), ylim=(0, limit), xlabel="real opening", ylabel="drawn opening")
        axis.set_title(title, fontsize=9)
    _save(figure, path)


def label_row(title: str, tiles: NDArray[np.uint8], side_px: int = 160) -> NDArray[np.uint8]:
    """A line of a contact sheet, `(side_px, (K + 1) * side_px, 3)` uint8: its title, then its pictures.

    The title is broken into lines at spaces; `tiles` are `(K, S, S, 3)`, uint8 RGB.
    """
    from PIL import Image, ImageDraw

    row = Image.new("RGB", ((len(tiles) + 1) * side_px, side_px), "white")
    lines = textwrap.wrap(title, (side_px - 12) // _LETTER_PX, break_long_words=False)
    ImageDraw.Draw(row).multiline_text((6, 6), "\n".join(lines), fill="black")
    for index, tile in enumerate(tiles, start=1):
        picture = Image.fromarray(tile).resize((side_px, side_px), Image.Resampling.LANCZOS)
        row.paste(picture, (index * side_px, 0))
    return np.asarray(row, np.uint8)


def _subplots(lines: int, columns: int, inches: tuple[float, float], **options: Any) -> Any:
    # A figure by itself, without pyplot: nothing has to choose a display, or be closed.
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches)
    return figure, figure.subplots(lines, columns, squeeze=False, **options)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=90)
