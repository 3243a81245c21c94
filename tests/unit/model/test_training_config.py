from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from typer.testing import CliRunner

from model.errors import ConfigError
from model.training.config import dump_config, load_config, run_program
from model.training.launch import STAGES, load_stage
from model.training.stage import LoopConfig
from talkface.__main__ import app

CONFIGS = Path(__file__).parents[3] / "model" / "training" / "configs"


@dataclass(frozen=True)
class Settings:
    count: int = 1
    rate: float = 0.5
    on: bool = False
    name: str = "x"
    folder: Path = Path("runs")
    start: Path | None = None
    precision: Literal["no", "bf16"] = "bf16"
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[str, float] = ("a", 1.0)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_words_count_before_the_file_and_the_file_before_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "count: 3\nrate: 2\nfolder: a/b\n")
    config = load_config(Settings, path, ["count=4", "on=true"])
    assert config == Settings(count=4, rate=2.0, folder=Path("a/b"), on=True)
    assert type(config.rate) is float


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("rate=1e-3", "rate", 0.001),
        ("rate=5", "rate", 5.0),
        ("name=1", "name", "1"),
        ("name=a=b", "name", "a=b"),
        ("precision=no", "precision", "no"),
        ("start=a/b", "start", Path("a/b")),
        ("start=null", "start", None),
        ("widths=1,2,3", "widths", (1, 2, 3)),
        ("widths=[4]", "widths", (4,)),
        ("pair=b,2", "pair", ("b", 2.0)),
    ],
)
def test_words_become_the_fields_type(word: str, key: str, value: object) -> None:
    assert getattr(load_config(Settings, None, [word]), key) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("countt: 1", "unknown key 'countt' (did you mean 'count'?)"),
        ("count: true", "count: expected a whole number, got True (bool)"),
        ("count: 1.5", "count: expected a whole number, got 1.5 (float)"),
        ("count: '1'", "count: expected a whole number, got '1' (str)"),
        ("count:", "count: expected a whole number, got null"),
        ("rate: fast", "rate: expected a finite number, got 'fast' (str)"),
        ("rate: true", "rate: expected a finite number, got True (bool)"),
        ("on: 1", "on: expected true or false, got 1 (int)"),
        ("on: yes", "on: expected true or false, got 'yes' (str)"),
        ("name: 3", "name: expected text, got 3 (int)"),
        ("folder: 3", "folder: expected a path, got 3 (int)"),
        ("precision: fp8", "precision: expected one of 'no', 'bf16', got 'fp8' (str)"),
        ("start: 3", "start: expected a path or null, got 3 (int)"),
        ("widths: [1, a]", "widths[1]: expected a whole number, got 'a' (str)"),
        ("widths: 3", "widths: expected a list of a whole number, got 3 (int)"),
        ("pair: [a]", "pair: expected [text, a finite number], got ['a'] (list)"),
        ("count: 1\ncount: 2", "count: stands twice"),
        ("- count", "expected lines `key: value`, got ['count'] (list)"),
        ("count: [", "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_by_the_keys_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Settings, written(tmp_path, text))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("countt=1", "unknown key 'countt'"),
        ("count", "count: no value; expected count=VALUE"),
        ("count=many", "count: expected a whole number, got 'many' (str)"),
        ("on=1", "on: expected true or false"),
        ("folder=", "folder: expected a path"),
        ("rate=.inf", "rate: expected a finite number"),
        ("count=[", "count: expected a whole number"),
    ],
)
def test_a_bad_word_is_refused_by_the_keys_name(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Settings, None, [word])
    assert said in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_config(Settings, tmp_path / "absent.yaml")


def test_yaml_in_a_file_reads_no_as_the_word(tmp_path: Path) -> None:
    path = written(tmp_path, "precision: no\nrate: 1e-4\n")
    assert load_config(Settings, path) == Settings(precision="no", rate=1e-4)


def test_what_is_dumped_is_read_back(tmp_path: Path) -> None:
    config = Settings(
        count=7, rate=1e-7, name="no", start=Path("x"), precision="no", widths=(), pair=("1", 0.0)
    )
    assert load_config(Settings, written(tmp_path, dump_config(config))) == config


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size: expected at least 1, got 0"):
        load_config(LoopConfig, None, ["batch_size=0"])


def test_the_command_lines_limit_counts_before_all() -> None:
    words = ["train", "--stage", "0", "max_minutes=9", "--max-minutes", "1.5", "--show"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0 and "max_minutes: 1.5" in said.output


def test_there_is_no_stage_nine() -> None:
    with pytest.raises(ConfigError, match=r"expected one of 0, 1, 2, 3, 4, 5, got 9"):
        load_stage(9)


@pytest.mark.parametrize("number", STAGES)
def test_every_stage_has_a_config_with_defaults(number: int, tmp_path: Path) -> None:
    config = load_stage(number).CONFIG()
    assert isinstance(config, LoopConfig)
    assert load_config(type(config), written(tmp_path, dump_config(config))) == config


def stage_in_its_command(path: Path) -> int:
    """Of the command in the first line, which names the file itself."""
    command = path.read_text().splitlines()[0]
    assert command.endswith(f"--config model/training/configs/{path.name}")
    return int(command.partition("talkface train --stage ")[2][0])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_load_into_their_stage(path: Path) -> None:
    module = load_stage(stage_in_its_command(path))
    assert load_config(module.CONFIG, path).output.parts[0] == "runs"


def test_no_two_shipped_configs_share_an_output() -> None:
    outputs = [
        load_config(load_stage(stage_in_its_command(path)).CONFIG, path).output
        for path in CONFIGS.glob("*.yaml")
    ]
    assert len(set(outputs)) == len(outputs) >= len(STAGES)


@dataclass(frozen=True)
class Needy:
    source: Path
    size: int = 128


def test_a_key_without_default_must_be_given() -> None:
    assert load_config(Needy, None, ["source=films"]) == Needy(Path("films"))
    with pytest.raises(ConfigError, match="source: no value; expected source=VALUE"):
        load_config(Needy, None, ["size=64"])


BUILDERS = sorted(
    path.stem for path in (CONFIGS.parent / "builders").glob("*.py") if path.stem != "__init__"
)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_takes_key_value(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"model.training.builders.{name}"
    monkeypatch.setattr(sys, "argv", [name, "sise=64"])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    assert "unknown key 'sise'" in capsys.readouterr().err


def test_help_lists_keys_and_defaults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["needy", "--help"])
    with pytest.raises(SystemExit):
        run_program(Needy, print, "Needs films.")
    said = capsys.readouterr().out
    assert "source: needed" in said
    assert "size: 128" in said
