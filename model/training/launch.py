"""From words to a run: `talkface train` and `python -m model.training.stageN_...` call this."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from model.errors import ConfigError
from model.training.config import dump_config, load_config
from model.training.loop import train
from model.training.stage import Stage

STAGES: Final = {
    0: "model.training.stage0_autoencoder",
    1: "model.training.stage1_landmarks",
    2: "model.training.stage2_diffusion",
    3: "model.training.stage3_end_to_end",
    4: "model.training.stage4_detail",
}


class StageModule(Protocol):
    """A module that brings a stage."""

    CONFIG: type[Any]  # its dataclass, a `LoopConfig`
    build: Callable[[Any, str], Stage[Any]]  # `(config, device)`


def load_stage(number: int) -> StageModule:
    """The module of a stage.

    Raises:
        ConfigError: There is no such stage.
    """
    if number not in STAGES:
        known = ", ".join(map(str, STAGES))
        raise ConfigError(f"stage: expected one of {known}, got {number}")
    module: Any = importlib.import_module(STAGES[number])
    return module


def configure(
    config_type: type[Any],
    config_file: Path | None,
    settings: Sequence[str],
    max_minutes: float | None = None,
) -> Any:
    """The run's config; `max_minutes` counts before `settings`, which count before the file.

    Raises:
        ConfigError: See `load_config`.
    """
    limit = [] if max_minutes is None else [f"max_minutes={max_minutes}"]
    return load_config(config_type, config_file, [*settings, *limit])


def launch(build: Callable[[Any, str], Stage[Any]], config: Any) -> bool:
    """Train, leaving the whole config as `config.yaml` beside the run; returns whether it is complete."""
    if os.environ.get("RANK", "0") == "0":  # one of several processes writes
        config.output.mkdir(parents=True, exist_ok=True)
        (config.output / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    return train(build, config)


def main(config_type: type[Any], build: Callable[[Any, str], Stage[Any]], description: str) -> None:
    """The command line of one stage's module.

    Raises:
        SystemExit: Bad settings, named.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"keys and defaults:\n{dump_config(config_type())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, default=None, help="YAML file of keys and values")
    parser.add_argument("--max-minutes", type=float, default=None)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    words = parser.parse_args()
    try:
        launch(build, configure(config_type, words.config, words.settings, words.max_minutes))
    except ConfigError as error:
        parser.error(str(error))
