from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.training.loop import Draw, LoopConfig, Stage, learning_rate, train


class Line(ModelMixin, ConfigMixin):
    """y = w x + b."""

    @register_to_config
    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layer(x)
        return answer


def make_config(output: Path, **changes: object) -> LoopConfig:
    config = LoopConfig(
        output=output,
        max_steps=12,
        learning_rate=0.05,
        warmup_steps=2,
        mixed_precision="no",
        log_every=3,
        save_every=4,
        sample_every=6,
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def make_stage(stop_after: int | None = None) -> Stage:
    torch.manual_seed(0)
    line = Line()

    def loss(draw: Draw) -> tuple[torch.Tensor, dict[str, float]]:
        if draw.step == stop_after:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=draw.generator)
        noise = float(draw.rng.normal(0, 0.1))
        error = line(x)[:, 0] - x.sum(dim=1) - noise
        return (error**2).mean(), {"noise": noise}

    def sample(folder: Path, step: int) -> dict[str, float]:
        (folder / f"{step}.txt").write_text("sample")
        return {"weight": float(line.layer.weight.sum())}

    return Stage({"line": line}, loss, sample)


def stage_of(stop_after: int | None = None) -> Callable[[LoopConfig, str], Stage]:
    return lambda config, device: make_stage(stop_after)


def exported(folder: Path) -> torch.Tensor:
    line = Line.from_pretrained(folder / "export" / "line")
    return torch.cat([p.detach().flatten() for p in line.parameters()])


def test_resumed_equals_unbroken(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(stage_of(), make_config(whole))
    with pytest.raises(KeyboardInterrupt):
        train(stage_of(stop_after=9), make_config(broken))
    assert torch.load(broken / "state.pt", weights_only=True)["step"] == 8
    assert train(stage_of(), make_config(broken))
    torch.testing.assert_close(exported(broken), exported(whole), rtol=0, atol=0)
    states = [torch.load(f / "state.pt", weights_only=True) for f in (whole, broken)]
    for key, value in states[0]["networks"].items():
        assert torch.equal(value, states[1]["networks"][key])


def test_it_learns_logs_and_samples(tmp_path: Path) -> None:
    train(stage_of(), make_config(tmp_path, max_steps=60))
    rows = [json.loads(line) for line in (tmp_path / "statistics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] / 2
    assert all("noise" in row for row in rows if "loss" in row)
    assert any("held_out_weight" in row for row in rows)
    assert (tmp_path / "samples" / "6.txt").exists()


def test_time_limit_saves_and_says_so(tmp_path: Path) -> None:
    assert not train(stage_of(), make_config(tmp_path, max_minutes=1e-9))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 1
    assert len(exported(tmp_path)) == 4


def test_draws_depend_on_seed_and_step_only() -> None:
    def values(seed: int, step: int) -> tuple[float, float]:
        draw = Draw.at(seed, step)
        return float(draw.rng.random()), float(torch.rand(1, generator=draw.generator))

    assert values(0, 5) == values(0, 5)
    assert len({values(0, 5), values(0, 6), values(1, 5)}) == 3


def test_learning_rate_rises_and_falls_to_zero() -> None:
    config = make_config(Path("runs/none"), max_steps=100, warmup_steps=10)
    rates = [learning_rate(config, step) for step in range(101)]
    assert max(rates) == pytest.approx(config.learning_rate)
    assert rates[0] < rates[5] < rates[9]
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
