"""The one training loop: batch, loss, step, statistics, samples, checkpoint; resumable at any step.

Every draw of a step comes from a generator seeded with `(seed, step)`, so a resumed run sees what an
unbroken one would have seen. Statistics go to `statistics.jsonl`, sample pictures to `samples/`,
state to `state.pt`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm


@dataclass(frozen=True)
class LoopConfig:
    """What every stage shares.

    Attributes:
        output: Folder of the run; a run found there is resumed.
        max_steps: Optimiser steps after which the run is complete (the learning rate decays to zero over them).
        max_minutes: Wall-clock bound of this call; 0 for none. State is saved when it is reached.
        batch_size: Samples a step.
        learning_rate: Peak, after `warmup_steps`, decaying as a cosine.
        gradient_clip: Largest norm of all gradients together.
        ema_decay: Of the exported weights.
        num_threads: torch threads on a CPU; 0 leaves torch's choice.
    """

    output: Path = Path("runs/unnamed")
    max_steps: int = 1000
    max_minutes: float = 0.0
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    device: str = "cpu"
    bf16: bool = True
    num_threads: int = 0
    log_every: int = 10
    save_every: int = 200
    sample_every: int = 200


@dataclass(frozen=True)
class Draw:
    """Randomness of one step: a numpy and a torch generator, both from `(seed, step)`."""

    step: int
    rng: np.random.Generator
    generator: torch.Generator

    @classmethod
    def at(cls, seed: int, step: int) -> Draw:
        """The draw of `step`."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return cls(step, np.random.default_rng([seed, step]), generator)


@dataclass
class Stage:
    """What a stage brings to the loop.

    Attributes:
        modules: Trained networks by name; exported as diffusers folders under `output/export/<name>`.
        loss: `(draw) -> (loss, statistics)`; draws its own batch.
        sample: `(folder, step) -> figures`, with EMA weights in the modules; writes pictures.
    """

    modules: Mapping[str, nn.Module]
    loss: Callable[[Draw], tuple[torch.Tensor, dict[str, float]]]
    sample: Callable[[Path, int], dict[str, float]] | None = None


ConfigT = TypeVar("ConfigT")


def parse_config(config_type: type[ConfigT], description: str | None = None) -> ConfigT:
    """Build a frozen dataclass from `key=value` words on the command line.

    Raises:
        SystemExit: Unknown key or a value of the wrong type, named.
    """
    fields = {f.name: f for f in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    defaults = config_type()
    known = "\n".join(f"  {name}={getattr(defaults, name)}" for name in fields)
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"keys and defaults:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--max-minutes", type=float, default=None)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    values: dict[str, Any] = {}
    for word in arguments.settings:
        key, equals, text = word.partition("=")
        if not equals or key not in fields:
            parser.error(
                f"unknown setting {word!r}; expected key=value with one of: {', '.join(fields)}"
            )
        default = getattr(defaults, key)
        try:
            values[key] = (
                text.lower() in ("1", "true", "yes")
                if isinstance(default, bool)
                else type(default)(text)
            )
        except ValueError:
            parser.error(f"{key}={text!r}; expected {type(default).__name__}")
    if arguments.max_minutes is not None:
        values["max_minutes"] = arguments.max_minutes
    return config_type(**values)


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine to zero at `max_steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def run(stage: Stage, config: LoopConfig) -> bool:
    """Train until `max_steps` or `max_minutes`; returns whether the run is complete."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    config.output.mkdir(parents=True, exist_ok=True)
    networks = nn.ModuleDict(dict(stage.modules))
    parameters = [p for p in networks.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    state_path = config.output / "state.pt"
    step = 0
    if state_path.exists():
        state = torch.load(state_path, map_location="cpu", weights_only=True)
        networks.load_state_dict(state["networks"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        step = int(state["step"])
        print(f"resumed {state_path} at step {step}", flush=True)
    ema.to(config.device)

    def save() -> None:
        partial = state_path.with_suffix(".partial")
        torch.save(
            {
                "networks": networks.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.state_dict(),
                "step": step,
            },
            partial,
        )
        os.replace(partial, state_path)
        with _EmaWeights(ema, parameters):
            for name, module in stage.modules.items():
                module.save_pretrained(config.output / "export" / name)  # type: ignore[operator]

    started = time.monotonic()
    statistics: dict[str, list[float]] = {}
    out_of_time = False
    with (
        (config.output / "statistics.jsonl").open("a") as log,
        tqdm(total=config.max_steps, initial=step, mininterval=10, desc=config.output.name) as bar,
    ):
        while step < config.max_steps and not out_of_time:
            # 1. batch and loss
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            networks.train()
            with torch.autocast(
                config.device.split(":")[0], dtype=torch.bfloat16, enabled=config.bf16
            ):
                loss, figures = stage.loss(Draw.at(config.seed, step))

            # 2. step
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.gradient_clip))
            if math.isfinite(norm):
                optimizer.step()
                ema.step(parameters)
            step += 1
            bar.update()

            # 3. statistics
            for key, value in {"loss": loss.item(), "gradient_norm": norm, **figures}.items():
                statistics.setdefault(key, []).append(value)
            out_of_time = (
                bool(config.max_minutes) and time.monotonic() - started > 60 * config.max_minutes
            )
            last = step == config.max_steps or out_of_time
            if step % config.log_every == 0 or last:
                row = {key: float(np.mean(values)) for key, values in statistics.items()}
                elapsed = round(time.monotonic() - started, 1)
                log.write(
                    json.dumps(
                        {
                            "step": step,
                            "elapsed_s": elapsed,
                            "lr": learning_rate(config, step),
                            **row,
                        }
                    )
                    + "\n"
                )
                log.flush()
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                statistics.clear()

            # 4. checkpoint and samples
            if step % config.save_every == 0 or last:
                save()
            if stage.sample is not None and (step % config.sample_every == 0 or last):
                (config.output / "samples").mkdir(exist_ok=True)
                networks.eval()
                with _EmaWeights(ema, parameters), torch.no_grad():
                    figures = stage.sample(config.output / "samples", step)
                log.write(
                    json.dumps({"step": step, **{f"held_out_{k}": v for k, v in figures.items()}})
                    + "\n"
                )
                log.flush()
    return step >= config.max_steps


class _EmaWeights:
    """Within this context the parameters hold their exponential moving average."""

    def __init__(self, ema: EMAModel, parameters: list[nn.Parameter]) -> None:
        self._ema, self._parameters = ema, parameters

    def __enter__(self) -> None:
        self._ema.store(self._parameters)
        self._ema.copy_to(self._parameters)

    def __exit__(self, *_: object) -> None:
        self._ema.restore(self._parameters)
