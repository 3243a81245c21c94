"""Training's fp16: its gradient scaler survives a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.training.launch import train
from model.training.stage import Draw, LoopConfig, Stage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class Line(ModelMixin, ConfigMixin):
    """y = w x + b."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1)


class LineStage(Stage[torch.Tensor]):
    def __init__(self, config: LoopConfig, device: str) -> None:
        self.line = Line().to(device)
        super().__init__({"line": self.line})

    def draw(self, draw: Draw) -> torch.Tensor:
        return torch.randn(16, 8, generator=draw.generator)

    def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        answer = self.line.layer(batch)[:, 0]
        assert answer.is_cuda
        assert answer.dtype == torch.float16
        return ((answer.float() - batch.sum(dim=1)) ** 2).mean(), {}


build = LineStage


def test_fp16_resumed_equals_unbroken(tmp_path: Path) -> None:
    def config(name: str, max_minutes: float = 0.0) -> LoopConfig:
        return LoopConfig(
            output=tmp_path / name,
            max_minutes=max_minutes,
            max_steps=20,
            learning_rate=0.05,
            warmup_steps=2,
            device="cuda",
            mixed_precision="fp16",
        )

    assert train(build, config("whole"))
    while not train(build, config("broken", max_minutes=1e-9)):
        pass
    whole, broken = (
        torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "broken")
    )
    assert whole["scaler"]["_growth_tracker"] > 1
    assert whole["scaler"] == broken["scaler"]
    for key, value in whole["networks"].items():
        torch.testing.assert_close(broken["networks"][key], value, rtol=0, atol=0)
