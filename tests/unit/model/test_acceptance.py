from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.errors import InputError
from model.evaluation.acceptance import (
    CRITERIA,
    LANDMARKS,
    Verdict,
    acceptance_table,
    join_reports,
    judge,
    read_landmark_figures,
)
from model.evaluation.protocols.steadiness import FIRST_FRAMES, PHOTOGRAPHS
from model.evaluation.protocols.video import DETECTED, PREDICTED
from model.evaluation.report import TITLES


def verdict_of(name: str, verdicts: list[Verdict]) -> Verdict:
    (found,) = [verdict for verdict in verdicts if verdict.name.startswith(name)]
    return found


def test_what_was_not_measured_is_neither_held_nor_missed() -> None:
    verdicts = judge({}, ["ours"], 256)["ours"]
    assert len(verdicts) == len(CRITERIA)
    assert {verdict.held for verdict in verdicts} == {None}
    assert all("`" in verdict.how for verdict in verdicts)
    table = acceptance_table({"ours": verdicts})
    assert "| flicker: one face, largest change of a pixel | ≤ 0 | – | not measured: `" in table
    assert "**no**" not in table


@pytest.mark.parametrize(("psnr", "held"), [(30.0, True), (29.99, False)])
def test_detected_landmarks_count_and_predicted_do_not(psnr: float, held: bool) -> None:
    rows = {f"ours, {PREDICTED}": {"psnr_mask": 99.0}, f"ours, {DETECTED}": {"psnr_mask": psnr}}
    verdict = verdict_of(
        "clips, detected landmarks: PSNR", judge({"reenactment": rows}, ["ours"], 256)["ours"]
    )
    assert (verdict.got, verdict.held, verdict.asked) == (psnr, held, "≥ 30 dB")


def test_pixels_at_another_size_do_not_count_but_landmarks_do() -> None:
    rows = {"reenactment": {f"ours, {DETECTED}": {"psnr_mask": 35.0, "lmd": 0.02}}}
    verdicts = judge(rows, ["ours"], None)["ours"]
    assert verdict_of("clips, detected landmarks: PSNR", verdicts).held is None
    assert verdict_of("clips, detected landmarks: LMD", verdicts).held is True


def test_the_worst_of_several_rows_and_figures_counts() -> None:
    steady = {
        f"ours, {PHOTOGRAPHS}": {"noise_over_clip": 1.6},
        f"ours, {FIRST_FRAMES}": {"noise_over_clip": 0.4},
    }
    quiet = {"ours": {"silence_shut_mean": 0.001, "silence_open_mean": 0.02}}
    verdicts = judge({"steadiness": steady, "references": quiet}, ["ours"], 256)["ours"]
    noise = verdict_of("flicker: 0.3 px", verdicts)
    assert (noise.got, noise.held) == (1.6, False)
    assert verdict_of("drawn silence: mean", verdicts).got == 0.02


@pytest.mark.parametrize(("articulation", "held"), [(0.79, False), (0.95, True), (1.2, False)])
def test_two_limits(articulation: float, held: bool) -> None:
    served = {"as served": {"articulation": articulation}}
    verdicts = judge({LANDMARKS: served}, ["ours", "theirs"], 256)
    assert [verdict_of("landmarks: articulation", rows).held for rows in verdicts.values()] == [
        held
    ] * 2
    assert verdict_of("landmarks: articulation", verdicts["ours"]).asked == "0.8 to 1.1"


def test_every_drawn_figure_has_a_title_in_the_tables() -> None:
    drawn = {
        key for one in CRITERIA if one.table not in (LANDMARKS, "checkpoint") for key in one.keys
    }
    assert drawn <= set(TITLES)


def test_landmark_figures_are_read_and_other_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"network": {"r": 0.9}, "as served": {"r": 0.93}}))
    assert read_landmark_figures(path)["as served"] == {"r": 0.93}
    path.write_text(json.dumps({"network": {"r": 0.9}}))
    with pytest.raises(InputError, match="--source"):
        read_landmark_figures(path)
    for text in ("no figures", "[1]", '{"as served": {"r": "much"}}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"figures\.json"):
            read_landmark_figures(path)


def report_at(path: Path, crop_px: int | None = 256, sha256: str = "a", **tables: object) -> Path:
    weights = {"ours": {"model": "tiny", "sha256": sha256, "seed": 0, "bytes": 31_900_000}}
    settings = {"preset": "balanced", "weights": weights, "crop_px": crop_px}
    path.write_text(json.dumps({"settings": settings, "skipped": [], **tables}))
    return path


def test_reports_on_one_checkpoint_are_joined(tmp_path: Path) -> None:
    clips = report_at(
        tmp_path / "clips.json", reenactment={f"ours, {DETECTED}": {"psnr_mask": 31.0}}
    )
    driven = report_at(
        tmp_path / "driven.json",
        crop_px=None,
        motion={"ours": {"opening_r": 0.9, "sharpness_mean": None}},
    )
    joined = join_reports([clips, driven])
    assert joined.systems == ("ours",) and joined.crop_px == 256
    verdicts = judge(joined.tables, joined.systems, joined.crop_px)["ours"]
    assert verdict_of("clips, detected landmarks: PSNR", verdicts).held is True
    assert verdict_of("photographs, real motion: opening", verdicts).held is True
    assert verdict_of("photographs, real motion: sharpness, mean", verdicts).held is None
    assert verdict_of("weights in total", verdicts).got == pytest.approx(31.9)


def test_reports_on_different_checkpoints_are_refused(tmp_path: Path) -> None:
    ours = report_at(tmp_path / "ours.json")
    theirs = report_at(tmp_path / "theirs.json", sha256="b")
    with pytest.raises(InputError, match="one checkpoint"):
        join_reports([ours, theirs])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="as a report"):
        join_reports([ours, tmp_path / "other.json"])
