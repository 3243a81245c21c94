from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation.report import (
    column_table,
    format_figure,
    label_row,
    mean_and_spread,
    plot_openings,
    plot_scatter,
    row_table,
    without_nan,
)


def test_a_table_has_a_line_for_every_figure_that_somebody_has() -> None:
    text = column_table({"real": {"lmd": 0.0}, "ours": {"lmd": 0.03, "psnr_mask": 28.71}})
    assert text.splitlines() == [
        "| figure | real | ours |",
        "| --- | ---: | ---: |",
        "| PSNR in the mask, dB | – | 28.7 |",
        "| LMD, lips / inter-ocular distance | 0.000 | 0.030 |",
    ]


def test_systems_stand_in_rows_with_their_spread() -> None:
    text = row_table({"full": {"LMD": mean_and_spread([0.02, 0.03])}, "cut": {}}, ["LMD"])
    assert "| full | 0.025 ± 0.007 |" in text
    assert "| cut | – |" in text


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.5], "0.500"), ([], "–"), ([float("nan"), 1.0], "1.000"), ([2.0, 2.0], "2.000 ± 0.000")],
)
def test_mean_and_spread(values: list[float], expected: str) -> None:
    assert mean_and_spread(values) == expected


def test_json_gets_no_nan() -> None:
    cleaned = without_nan({"a": [1.0, float("nan")], "b": {"c": (float("inf"), "x")}})
    assert json.loads(json.dumps(cleaned, allow_nan=False)) == {
        "a": [1.0, None],
        "b": {"c": [None, "x"]},
    }
    assert format_figure(float("nan")) == format_figure(None) == "–"


def test_plots_are_pictures(tmp_path: Path) -> None:
    curves = [np.linspace(0, 0.3, 20, dtype=np.float32) ** power for power in (1, 2, 3)]
    panels = [(f"clip {i}", {"real": c, "ours": c * 0.8}) for i, c in enumerate(curves)]
    plot_openings(panels, tmp_path / "openings.png")
    plot_scatter(curves, {"ours": [c * 0.8 for c in curves]}, tmp_path / "scatter.png")
    for name in ("openings.png", "scatter.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 5


def test_a_sheets_line_carries_title_and_pictures() -> None:
    tiles = np.full((3, 20, 20, 3), 200, np.uint8)
    row = label_row("a clip, predicted landmarks of a system with a long name", tiles, side_px=50)
    assert row.shape == (50, 200, 3)
    assert (row[:, :50] < 100).any()
    assert (row[:, 50:] == 200).all()
