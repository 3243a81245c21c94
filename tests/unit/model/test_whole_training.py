"""The whole training: its steps exist, take what they are given, and are not done twice."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
from pathlib import Path

import pytest

from model.errors import ConfigError
from model.training.config import load_config
from model.training.launch import STAGES
from model.training.whole import Step, WholeConfig, run_all, steps

CONFIG = WholeConfig(source=Path("DATA"), version="9", share=0.01, limit=3)
WANTED = steps(CONFIG)


def config_of(module: str) -> type:
    """The settings that a step's module reads."""
    found = importlib.import_module(module)
    if hasattr(found, "CONFIG"):
        return found.CONFIG
    [kind] = [
        one
        for one in vars(found).values()
        if isinstance(one, type)
        and dataclasses.is_dataclass(one)
        and one.__name__.endswith("Config")
        and one.__module__ == module
    ]
    return kind


@pytest.mark.parametrize("step", WANTED, ids=lambda step: step.name)
def test_every_step_takes_its_words(step: Step) -> None:
    load_config(config_of(step.module), None, list(step.words))


def test_every_stage_but_the_end_to_end_one_is_a_step() -> None:
    done = {int(step.name[5]) for step in WANTED if step.name.startswith("stage")}
    assert done == set(STAGES) - {3}


def test_what_a_step_reads_was_made_before(tmp_path: Path) -> None:
    """A run's folder stands in a word only behind the step that has it as its output."""
    made: set[str] = set()
    for step in WANTED:
        words = dict(word.split("=", 1) for word in step.words)
        for key, value in words.items():
            if key != "output" and value.startswith("runs/"):
                assert any(value == one or value.startswith(f"{one}/") for one in made), value
        made.add(words.get("output", words.get("prepared", "")))


def test_a_failed_step_is_done_again_and_no_other(tmp_path: Path) -> None:
    wanted = [Step(name, "module", ()) for name in ("first", "second", "third")]
    done: list[str] = []

    def run(step: Step) -> None:
        done.append(step.name)
        if done.count("second") == 1 and step.name == "second":
            raise subprocess.CalledProcessError(1, ["python", "-m", "module"])

    with pytest.raises(subprocess.CalledProcessError):
        run_all(wanted, tmp_path / "ended", run)
    run_all(wanted, tmp_path / "ended", run)
    run_all(wanted, tmp_path / "ended", run)
    assert done == ["first", "second", "second", "third"]


def test_steps_are_processes_whose_failure_is_told(tmp_path: Path) -> None:
    nothing = Step("nothing", "model.training.no_such_builder", ())
    with pytest.raises(subprocess.CalledProcessError):
        run_all([nothing], tmp_path / "ended")
    assert not (tmp_path / "ended" / "nothing").exists()


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_shares_that_leave_nothing_are_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share: expected more than 0"):
        WholeConfig(source=Path("DATA"), version="9", share=share)
