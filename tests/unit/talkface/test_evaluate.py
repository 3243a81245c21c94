from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from talkface.__main__ import app


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--protocols", "dance"], "reenactment"),
        (["--preset", "slow"], "balanced"),
        (["--layout", "lrs3"], "voxceleb"),
        (["--half", "better"], "choosing"),
        (["--weights", "best=/nowhere"], "/nowhere is not a folder"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_right(arguments: list[str], told: str) -> None:
    answer = CliRunner().invoke(app, ["evaluate", *arguments])
    assert answer.exit_code == 2
    assert told in " ".join(answer.output.replace("│", " ").split())


def test_a_folder_without_videos_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["evaluate", "--clips", str(tmp_path)])
    assert answer.exit_code == 1
    assert "holds no film" in answer.output and "Traceback" not in answer.output


def test_the_examples_alone_give_a_report(tmp_path: Path) -> None:
    command = ["evaluate", "--preset", "preview", "--seconds", "1", "--output", str(tmp_path)]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    assert "One-shot" in answer.output and "skipped: FID" in answer.output
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["portraits"]["ours"]["outside_equal"] == 1.0
    assert report["settings"]["weights"]["ours"]["model"].startswith("talkface-tiny")


def test_what_needs_a_source_says_so(tmp_path: Path) -> None:
    command = ["evaluate", "--protocols", "heads,blinks,lively", "--output", str(tmp_path)]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    assert "blinks, heads, lively: needs" in answer.output and "--source" in answer.output
