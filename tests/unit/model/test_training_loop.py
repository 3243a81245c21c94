from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.errors import ConfigError
from model.training.launch import train
from model.training.loop import learning_rate
from model.training.stage import Draw, LoopConfig, Stage


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


class LineStage(Stage[torch.Tensor]):
    """Learns the sum of three numbers."""

    def __init__(self, config: LoopConfig, device: str = "cpu") -> None:
        self.config, self.line = config, Line()
        super().__init__({"line": self.line})

    def draw(self, draw: Draw) -> torch.Tensor:
        return torch.randn(8, 3, generator=draw.generator)

    def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return ((self.line(batch)[:, 0] - batch.sum(dim=1)) ** 2).mean(), {}


class NoisyStage(Stage[tuple[torch.Tensor, float]]):
    """A line under noise; it stops where it is told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        torch.manual_seed(0)
        self.line, self.stop_after = Line(), stop_after
        super().__init__({"line": self.line})

    def draw(self, draw: Draw) -> tuple[torch.Tensor, float]:
        return torch.randn(8, 3, generator=draw.generator), float(draw.rng.normal(0, 0.1))

    def loss(
        self, batch: tuple[torch.Tensor, float], step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        if step == self.stop_after:
            raise KeyboardInterrupt
        x, noise = batch
        return ((self.line(x)[:, 0] - x.sum(dim=1) - noise) ** 2).mean(), {"noise": noise}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        (folder / f"{step}.txt").write_text("sample")
        return {"weight": float(self.line.layer.weight.sum())}


def stage_of(stop_after: int | None = None) -> Callable[[LoopConfig, str], NoisyStage]:
    return lambda config, device: NoisyStage(stop_after)


def rows_of(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "statistics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


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


def test_draws_of_rank_and_micro_step_differ_and_the_first_is_the_plain_one() -> None:
    def values(*where: int) -> tuple[float, float]:
        draw = Draw.at(3, *where)
        return float(draw.rng.random()), float(torch.rand(1, generator=draw.generator))

    assert values(5) == values(5, 0, 0)
    drawn = {values(5, rank, micro) for rank in range(3) for micro in range(3)}
    assert len({a for a, _ in drawn}) == len({b for _, b in drawn}) == 9


class RowStage(LineStage):
    """Reads consecutive rows: 16 a step, whoever reads them."""

    def draw(self, draw: Draw) -> torch.Tensor:
        inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
        first = 16 * (draw.step % 4) + self.config.batch_size * draw.micro_step
        return inputs[first : first + self.config.batch_size]


def test_twice_eight_accumulated_equals_sixteen(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert train(RowStage, make_config(whole, batch_size=16))
    assert train(RowStage, make_config(halves, batch_size=8, gradient_accumulation_steps=2))
    torch.testing.assert_close(exported(halves), exported(whole), rtol=1e-5, atol=1e-6)
    for one, two in zip(rows_of(whole), rows_of(halves), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-5)


def test_dropout_is_the_same_after_a_resume(tmp_path: Path) -> None:
    class Dropped(LineStage):
        def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            return (self.line(torch.dropout(batch, 0.5, train=True)) ** 2).mean(), {}

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(Dropped, make_config(whole))
    while not train(Dropped, make_config(broken, max_minutes=1e-9)):
        torch.rand(5)  # whatever else the process draws
    losses = [
        torch.load(f / "state.pt", weights_only=True)["networks"]["line.layer.weight"]
        for f in (whole, broken)
    ]
    assert torch.equal(*losses)


def test_named_modules_have_their_own_rate_and_clip(tmp_path: Path) -> None:
    lines = {name: Line() for name in ("slow", "tight", "plain")}
    start = {name: line.layer.weight.detach().clone() for name, line in lines.items()}

    class Three(LineStage):
        def __init__(self, config: LoopConfig, device: str) -> None:
            rates, clips = {"slow": 1e-9}, {"tight": 1e-12}
            Stage.__init__(self, lines, learning_rates=rates, gradient_clips=clips)

        def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            target = 10 * batch.sum(dim=1)
            terms = [((line(batch)[:, 0] - target) ** 2).mean() for line in lines.values()]
            return sum(terms, torch.zeros(())), {}

    train(Three, make_config(tmp_path, max_steps=1, weight_decay=0.0, learning_rate=0.1))
    moved = {
        name: float((line.layer.weight.detach() - start[name]).abs().max())
        for name, line in lines.items()
    }
    assert moved["slow"] < 1e-8 < 1e-3 < moved["plain"]
    assert moved["tight"] < moved["plain"] / 50  # AdamW's epsilon outweighs so small a gradient
    row = rows_of(tmp_path)[0]
    assert {"gradient_norm", "gradient_norm_slow", "gradient_norm_tight"} <= set(row)


def test_a_rate_for_an_absent_module_is_refused() -> None:
    with pytest.raises(ConfigError, match="no module 'unet'"):
        Stage.__init__(NoisyStage(), {"line": Line()}, learning_rates={"unet": 1.0})


def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    class Infinite(LineStage):
        def draw(self, draw: Draw) -> torch.Tensor:
            return torch.full((1, 3), float("inf"))

    assert train(Infinite, make_config(tmp_path, max_steps=3))
    assert torch.isfinite(exported(tmp_path)).all()


def test_a_complete_run_exports_and_finishes_when_called_again(tmp_path: Path) -> None:
    finished: list[Path] = []

    class Finished(LineStage):
        def finish(self, export: Path) -> None:
            finished.append(export)

    assert train(Finished, make_config(tmp_path))
    shutil.rmtree(tmp_path / "export")  # as if killed between the last state and its export
    assert train(Finished, make_config(tmp_path))
    assert finished == [tmp_path / "export"] * 2
    assert len(exported(tmp_path)) == 4


def test_one_process_trains_in_several_precisions(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    class Seen(LineStage):
        def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            answer = self.line(batch)
            seen.append(answer.dtype)
            return answer.float().mean(), {}

    for precision in ("bf16", "no"):
        train(Seen, make_config(tmp_path / precision, max_steps=1, mixed_precision=precision))
    assert seen == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "cpu", "mixed_precision": "fp16"}, "'fp16' needs a GPU"),
        pytest.param(
            {"device": "cuda"},
            "torch finds no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_the_machine_cannot_do_is_refused(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(stage_of(), make_config(tmp_path, **changes))


def test_several_processes_that_would_be_one_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(ConfigError, match="--multi_gpu --num_processes N"):
        train(stage_of(), make_config(tmp_path))


def test_batches_are_drawn_in_a_thread_one_ahead_and_in_order(tmp_path: Path) -> None:
    drawn: list[tuple[int, int]] = []
    trained: list[tuple[int, int]] = []
    threads: set[str] = set()

    class Watched(LineStage):
        def draw(self, draw: Draw) -> torch.Tensor:
            threads.add(threading.current_thread().name)
            drawn.append((draw.step, draw.micro_step))
            return torch.full((1, 3), float(10 * draw.step + draw.micro_step))

        def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            trained.append((step, int(batch[0, 0]) - 10 * step))
            return super().loss(batch, step)

    train(Watched, make_config(tmp_path, max_steps=3, gradient_accumulation_steps=2))
    assert drawn == trained == [(step, micro) for step in range(3) for micro in range(2)]
    assert threading.current_thread().name not in threads
