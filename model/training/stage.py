"""What a stage brings to the loop: networks, where their batches come from, and the loss of a batch.

    draw(seed, step, rank, micro step) ─▶ Stage.draw ─▶ batch ─▶ Stage.loss ─▶ scalar
            in a thread of its own, one batch ahead │ training thread

Everything random in a batch comes from its `Draw`. `loss` is given no generator: what it draws itself
(dropout, a posterior's sample) comes from torch's own, which the loop seeds for every loss.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from model.errors import ConfigError

BatchT = TypeVar("BatchT")

Figures = Mapping[str, torch.Tensor | float]
"""Statistics of a loss. Tensors are scalars without a graph, on any device: reading one would wait for it."""


@dataclass(frozen=True)
class LoopConfig:
    """What every stage shares.

    Attributes:
        output: Folder of the run; a run found there is resumed.
        max_steps: Optimiser steps after which the run is complete (the learning rate decays to zero over them).
        max_minutes: Wall-clock bound of this call; 0 for none. State is saved when it is reached.
        batch_size: Samples of one loss.
        gradient_accumulation_steps: Losses of one step in every process; a step sees
            `batch_size * gradient_accumulation_steps * processes` samples.
        learning_rate: Peak, after `warmup_steps`, decaying as a cosine.
        gradient_clip: Largest norm of all gradients together.
        ema_decay: Of the exported weights.
        device: "auto" takes a GPU where there is one; each of several processes takes its own.
        mixed_precision: Arithmetic of the losses; weights stay fp32. fp16 needs a GPU.
        num_threads: torch threads on a CPU; 0 leaves torch's choice.
    """

    output: Path = Path("runs/unnamed")
    max_steps: int = 1000
    max_minutes: float = 0.0
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    num_threads: int = 0
    log_every: int = 10
    save_every: int = 200
    sample_every: int = 200

    def __post_init__(self) -> None:
        """Refuse counts that no loop can run with."""
        smallest = {
            **dict.fromkeys(("max_steps", "batch_size", "gradient_accumulation_steps"), 1),
            **dict.fromkeys(("log_every", "save_every", "sample_every"), 1),
            **dict.fromkeys(("max_minutes", "warmup_steps", "num_threads", "seed"), 0),
        }
        for key, least in smallest.items():
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: expected at least {least}, got {getattr(self, key)}")


def autocast(config: LoopConfig, device: str) -> torch.autocast:
    """The run's arithmetic, for what a stage computes outside its loss (samples)."""
    dtype = torch.float16 if config.mixed_precision == "fp16" else torch.bfloat16
    return torch.autocast(
        torch.device(device).type, dtype=dtype, enabled=config.mixed_precision != "no"
    )


@dataclass(frozen=True)
class Draw:
    """Randomness of one loss: a numpy and a torch generator, both from `(seed, step, rank, micro_step)`."""

    step: int
    rng: np.random.Generator
    generator: torch.Generator
    rank: int = 0
    micro_step: int = 0

    @classmethod
    def at(cls, seed: int, step: int, rank: int = 0, micro_step: int = 0) -> Draw:
        """The draw of one process's `micro_step`-th loss within `step`."""
        entropy = [seed, step] if rank == micro_step == 0 else [seed, step, rank, micro_step]
        torch_seed = seed * 1_000_003 + step if len(entropy) == 2 else mixed_seed(*entropy)
        generator = torch.Generator().manual_seed(torch_seed)
        return cls(step, np.random.default_rng(entropy), generator, rank, micro_step)


def mixed_seed(*entropy: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


class Stage(ABC, Generic[BatchT]):
    """One training: its networks, its batches, its loss.

    Args:
        modules: Trained networks by name; exported as diffusers folders under `output/export/<name>`.
        learning_rates: Peak of a module, by name; the others share the config's.
        gradient_clips: Largest norm of a module's own gradient, by name. A module named here or in
            `learning_rates` is clipped by itself, the others together.
    Attributes:
        find_unused_parameters: Whether some parameters get no gradient from a loss. Only then does
            data parallelism look for them, at every step.
    Raises:
        ConfigError: A rate or a clip is for a module that does not exist.
    """

    find_unused_parameters: bool = False

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        *,
        learning_rates: Mapping[str, float] | None = None,
        gradient_clips: Mapping[str, float] | None = None,
    ) -> None:
        self.modules = dict(modules)
        self.learning_rates, self.gradient_clips = learning_rates or {}, gradient_clips or {}
        for name in (*self.learning_rates, *self.gradient_clips):
            if name not in self.modules:
                known = ", ".join(self.modules)
                raise ConfigError(f"no module {name!r}; expected one of: {known}")

    @abstractmethod
    def draw(self, draw: Draw) -> BatchT:
        """A batch in CPU memory: tensors, or dataclasses, tuples and lists of them.

        Called in a thread of its own, while another batch is trained on: it neither touches the
        networks nor torch's own generator. The loop moves tensors to the device; all else stays.
        """

    @abstractmethod
    def loss(self, batch: BatchT, step: int) -> tuple[torch.Tensor, Figures]:
        """The loss of a batch on the device at `step`, and its statistics."""

    def sample(self, folder: Path, step: int) -> Mapping[str, float]:
        """Held-out figures, with EMA weights in the modules; writes pictures into `folder`.

        Nothing where nothing is held out.
        """
        return {}

    def finish(self, export: Path) -> None:
        """Called once with `output/export` when the run is complete and exported."""


def map_tensors(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`batch` with every tensor changed, in dataclasses, tuples and lists of any depth."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, tuple | list):
        return type(batch)(map_tensors(item, change) for item in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        return type(batch)(**{name: map_tensors(x, change) for name, x in fields.items()})
    return batch


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters of one module that are trained, their peak rate and their gradient's largest norm.

    The name is empty for all that have nothing of their own together.
    """

    name: str
    parameters: list[nn.Parameter]
    learning_rate: float
    clip: float


def parameter_groups(stage: Stage[Any], config: LoopConfig) -> list[ParameterGroup]:
    """One group for each module with a rate or a clip of its own, one for the rest."""
    named = {*stage.learning_rates, *stage.gradient_clips}
    members = {
        "": [module for name, module in stage.modules.items() if name not in named],
        **{name: [module] for name, module in stage.modules.items() if name in named},
    }
    groups = []
    for name, own in members.items():
        parameters = [p for p in nn.ModuleList(own).parameters() if p.requires_grad]
        if parameters:
            rate = stage.learning_rates.get(name, config.learning_rate)
            clip = stage.gradient_clips.get(name, config.gradient_clip)
            groups.append(ParameterGroup(name, parameters, rate, clip))
    return groups
