"""Training as a user starts it: killed and started again, and in two processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from talkface.__main__ import app
from talkface.exits import Exit

ROOT = Path(__file__).parents[3]
LAUNCH = [
    str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu",
    "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
    "--dynamo_backend", "no", "--main_process_port", "0",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

# Two linear maps called by a method of their own; what the second sees only rank 0 uses in odd
# steps. Each process takes its half of 16 rows, one process alone takes all of them.
TWO_HALVES = """
import os, sys
from pathlib import Path
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from model.training.launch import train
from model.training.stage import LoopConfig, Stage

class Maps(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 1), nn.Linear(3, 1)

    def both(self, x, use_second):
        answer = self.first(x)
        return answer + self.second(x) * use_second[:, None] if use_second.any() else answer

class Halves(Stage):
    find_unused_parameters = True

    def __init__(self, config, device):
        self.maps = Maps()
        super().__init__({"maps": self.maps})

    def draw(self, draw):
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(draw.step))
        use = (torch.arange(16) < 8).float() * (draw.step % 2) + (draw.step % 2 == 0)
        count = 16 // int(os.environ.get("WORLD_SIZE", "1"))
        own = slice(count * draw.rank, count * (draw.rank + 1))
        return x[own], use[own], draw.rank

    def loss(self, batch, step):
        x, use, rank = batch
        answer = self.maps.both(x, use)[:, 0]
        return ((answer - x.sum(dim=1)) ** 2).mean(), {"rank": float(rank)}

assert train(Halves, LoopConfig(output=Path(sys.argv[1]), max_steps=8, batch_size=16, warmup_steps=2,
    learning_rate=0.05, device="cpu", mixed_precision="no", log_every=2, save_every=3))
"""


def rows_of(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "statistics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "elapsed_s"} for row in rows]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    networks: dict[str, torch.Tensor] = torch.load(folder / "state.pt", weights_only=True)[
        "networks"
    ]
    return networks


def finish(command: list[str]) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return answer


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pairs.npz` of coloured noise, 32 px."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    count = 160
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    np.savez(
        folder / "pairs.npz",
        images=coarse.repeat(8, 1).repeat(8, 2),
        landmarks=rng.uniform(0.2, 0.8, (count, 68, 2)).astype(np.float32),
        held_out=np.arange(count) % 2 == 0,
        kind=(np.arange(count) % 4 > 1).astype(np.uint8),
    )
    return folder


def stage0(crops: Path, output: Path, *settings: str) -> list[str]:
    return [
        "talkface", "train", "--stage", "0", f"prepared={crops}", f"output={output}", "device=cpu",
        "window=16", "batch_size=2", "mixed_precision=no", *settings,
    ]  # fmt: skip


@pytest.mark.long
def test_killed_at_any_step_and_started_again_equals_unbroken(crops: Path, tmp_path: Path) -> None:
    settings = ["max_steps=24", "log_every=2", "save_every=5", "sample_every=9", "warmup_steps=3"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = [sys.executable, "-m", *stage0(crops, whole, *settings)]
    command = [sys.executable, "-m", *stage0(crops, broken, *settings)]
    finish(unbroken)

    at = random.randrange(1, 10)  # rows in the log, of fifteen
    log = broken / "statistics.jsonl"
    running = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while running.poll() is None and not (log.exists() and log.read_text().count("\n") >= at):
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it ended before it could be killed"
    finish(command)

    assert rows_of(broken) == rows_of(whole), f"killed after {at} rows"
    for key, value in weights_of(whole).items():
        assert torch.equal(weights_of(broken)[key], value), f"{key}; killed after {at} rows"


@pytest.mark.long
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    script = tmp_path / "two_halves.py"
    script.write_text(TWO_HALVES)
    finish([sys.executable, str(script), str(tmp_path / "one")])
    finish([*LAUNCH, str(script), str(tmp_path / "two")])
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)
    for alone, shared in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert shared["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-4)
        assert (alone["rank"], shared["rank"]) == (0.0, 0.5)  # the mean over processes


def test_a_run_begun_in_one_process_goes_on_in_two(crops: Path, tmp_path: Path) -> None:
    command = stage0(crops, tmp_path, "log_every=1", "max_steps=4", "save_every=3")
    first = CliRunner().invoke(app, [*command[1:], "--max-minutes", "0.0001"])
    assert "stopped before max_steps" in first.stdout
    said = finish([*LAUNCH, "-m", *command]).stdout
    assert said.count("resumed") == 1
    assert said.count("scaling_factor") == 1
    assert [row["step"] for row in rows_of(tmp_path) if "loss" in row] == [1, 2, 3, 4]
    assert (tmp_path / "export" / "autoencoder" / "config.json").exists()
    assert f"output: {tmp_path}" in (tmp_path / "config.yaml").read_text()


def test_an_unknown_key_fails_with_its_name(tmp_path: Path) -> None:
    words = ["train", "--stage", "0", f"output={tmp_path / 'run'}", "learning_rat=1"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == Exit.USAGE
    assert "unknown key 'learning_rat' (did you mean 'learning_rate'?)" in answer.stderr
    assert not (tmp_path / "run").exists()


def test_absent_data_is_named(tmp_path: Path) -> None:
    words = ["train", "--stage", "0", f"output={tmp_path / 'run'}", f"prepared={tmp_path}"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == Exit.FAILED
    assert str(tmp_path / "pairs.npz") in answer.stderr


def test_settings_are_shown_without_training(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("variant: base\nmixed_precision: no\n")
    words = ["train", "--stage", "0", "--config", str(config), "--show", "batch_size=3"]
    shown = CliRunner().invoke(app, words).stdout.splitlines()
    assert {"variant: base", "batch_size: 3", "mixed_precision: 'no'"} <= set(shown)
    assert list(tmp_path.iterdir()) == [config]
