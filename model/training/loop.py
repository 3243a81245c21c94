"""The one training loop: batches, loss, step, statistics, samples, checkpoint; resumable at any step.

    process 0    draw(seed, step, 0, 0..k-1) ─▶ loss ─▶ gradient ─┐
    process 1    draw(seed, step, 1, 0..k-1) ─▶ loss ─▶ gradient ─┴─▶ mean ─▶ clip ─▶ AdamW ─▶ EMA

All randomness of a step comes from `(seed, step, rank, micro step)`, so a resumed run sees what an
unbroken one would have seen. Statistics go to `statistics.jsonl`, sample pictures to `samples/`,
state to `state.pt`, weights (their moving average) to `export/`; process 0 writes them.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    gather_object,
)
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from model.errors import ConfigError

_LONGEST_SAMPLE: Final = timedelta(hours=2)  # the other processes wait while process 0 samples


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
        torch_seed = seed * 1_000_003 + step if len(entropy) == 2 else _torch_seed(*entropy)
        generator = torch.Generator().manual_seed(torch_seed)
        return cls(step, np.random.default_rng(entropy), generator, rank, micro_step)


def _torch_seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


@dataclass
class Stage:
    """What a stage brings to the loop.

    Attributes:
        modules: Trained networks by name; exported as diffusers folders under `output/export/<name>`.
        loss: `(draw) -> (loss, statistics)`; draws its own batch.
        sample: `(folder, step) -> figures`, with EMA weights in the modules; writes pictures.
        finish: Called once with `output/export` when the run is complete and exported.
        learning_rates: Peak of a module, by name; the others share the config's.
        gradient_clips: Largest norm of a module's own gradient, by name. A module named here or in
            `learning_rates` is clipped by itself, the others together.
    """

    modules: Mapping[str, nn.Module]
    loss: Callable[[Draw], tuple[torch.Tensor, dict[str, float]]]
    sample: Callable[[Path, int], dict[str, float]] | None = None
    finish: Callable[[Path], None] | None = None
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    gradient_clips: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a rate or clip for a module that does not exist."""
        for name in (*self.learning_rates, *self.gradient_clips):
            if name not in self.modules:
                known = ", ".join(self.modules)
                raise ConfigError(f"no module {name!r}; expected one of: {known}")


class _Loss(nn.Module):
    """Networks and loss as one module.

    Data parallelism so sees one forward pass, whatever methods of the networks the loss calls.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(dict(stage.modules))
        self._loss = stage.loss

    def forward(self, draw: Draw) -> tuple[torch.Tensor, dict[str, float]]:
        return self._loss(draw)


@dataclass(frozen=True)
class _Group:
    """Parameters that share a learning rate and are clipped together."""

    name: str  # "" for what the stage does not name
    parameters: list[nn.Parameter]
    learning_rate: float
    clip: float


def _groups(stage: Stage, config: LoopConfig) -> list[_Group]:
    named = {*stage.learning_rates, *stage.gradient_clips}
    members = {
        "": [name for name in stage.modules if name not in named],
        **{name: [name] for name in stage.modules if name in named},
    }
    groups = []
    for label, names in members.items():
        modules = nn.ModuleList([stage.modules[name] for name in names])
        parameters = [p for p in modules.parameters() if p.requires_grad]
        rate = stage.learning_rates.get(label, config.learning_rate)
        clip = stage.gradient_clips.get(label, config.gradient_clip)
        if parameters:
            groups.append(_Group(label, parameters, rate, clip))
    return groups


def learning_rate(config: LoopConfig, step: int, peak: float | None = None) -> float:
    """Linear warm-up to `peak` (the config's by default), then half a cosine to zero at `max_steps`."""
    peak = config.learning_rate if peak is None else peak
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def autocast(config: LoopConfig, device: str) -> torch.autocast:
    """The run's arithmetic, for what a stage computes outside its loss (samples)."""
    dtype = torch.float16 if config.mixed_precision == "fp16" else torch.bfloat16
    return torch.autocast(
        torch.device(device).type, dtype=dtype, enabled=config.mixed_precision != "no"
    )


def start(config: LoopConfig) -> Accelerator:
    """Join the run's other processes, if any, and choose this one's device.

    Raises:
        ConfigError: The device does not exist here, cannot compute in fp16, or `accelerate launch`
            was asked for several processes in the one way in which it starts a single one.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: got 'cuda', but torch finds no GPU here; use device=cpu")
    if (
        os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
        and "MASTER_ADDR" in os.environ
        and not {"LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"} & set(os.environ)
    ):
        raise ConfigError(
            "`accelerate launch --cpu --num_processes N` starts one process where there is no MPI; "
            "use `accelerate launch --multi_gpu --num_processes N -m talkface train ... device=cpu`"
        )
    # The state is one per process; a process that trains twice may change its arithmetic.
    if AcceleratorState._shared_state:
        AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision=config.mixed_precision,
        # A plugin: the bare number would yield to an environment variable of `accelerate launch`.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=config.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_LONGEST_SAMPLE),
        ],
    )
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("mixed_precision: 'fp16' needs a GPU; use 'bf16' or 'no' on a CPU")
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    return accelerator


def device_name(accelerator: Accelerator) -> str:
    """One of cpu, cuda, cuda:1 ...; accelerate's own name of a CPU differs with the number of processes."""
    return "cpu" if accelerator.device.type == "cpu" else str(accelerator.device)


def run(stage: Stage, config: LoopConfig, accelerator: Accelerator) -> bool:
    """Train until `max_steps` or `max_minutes`; returns whether the run is complete.

    Args:
        stage: Its modules lie on the accelerator's device.
        config: Of the run.
        accelerator: From `start(config)`.
    Raises:
        ConfigError: The processes do not see the same `output`.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    module = _Loss(stage)
    groups = _groups(stage, config)
    parameters = [p for p in module.networks.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(
        [{"params": group.parameters, "lr": group.learning_rate} for group in groups],
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
    )
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    state_path, log_path = config.output / "state.pt", config.output / "statistics.jsonl"
    step, elapsed_before = 0, 0.0
    statistics: dict[str, list[float]] = {}
    state: dict[str, Any] = {}
    if state_path.exists():
        state = torch.load(state_path, map_location="cpu", weights_only=True)
        module.networks.load_state_dict(state["networks"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        step, elapsed_before = int(state["step"]), float(state.get("elapsed_s", 0.0))
        if accelerator.is_main_process:
            statistics = state.get("statistics", {})
        accelerator.print(f"resumed {state_path} at step {step}", flush=True)
    if len(set(gather_object([step]))) > 1:
        raise ConfigError(f"output: {config.output} must be one folder for all processes")
    if accelerator.is_main_process:
        _forget_after(log_path, step)
    model, optimizer = accelerator.prepare(module, optimizer)
    if accelerator.scaler is not None and state.get("scaler"):
        accelerator.scaler.load_state_dict(state["scaler"])
    del state  # a second copy of all weights
    ema.to(accelerator.device)
    started = time.monotonic()

    def elapsed_s() -> float:
        return round(elapsed_before + time.monotonic() - started, 1)

    def log(row: dict[str, float]) -> None:
        with log_path.open("a") as file:
            file.write(json.dumps({"step": step, **row}) + "\n")

    def export() -> None:
        with _EmaWeights(ema, parameters):
            for name, network in stage.modules.items():
                network.save_pretrained(config.output / "export" / name)  # type: ignore[operator]

    def save() -> None:
        pending = _merged(statistics)
        if not accelerator.is_main_process:
            return
        partial = state_path.with_suffix(".partial")
        scaler = accelerator.scaler
        torch.save(
            {
                "networks": module.networks.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "step": step,
                "statistics": pending,
                "elapsed_s": elapsed_s(),
            },
            partial,
        )
        os.replace(partial, state_path)
        export()

    last = step >= config.max_steps
    if last and accelerator.is_main_process:  # killed between the last state and its export
        export()
    bar = tqdm(
        total=config.max_steps,
        initial=step,
        mininterval=10,
        desc=config.output.name,
        disable=not accelerator.is_main_process,
    )
    while not last:
        # 1. losses and their gradients
        rates = [learning_rate(config, step, group.learning_rate) for group in groups]
        for settings, rate in zip(optimizer.param_groups, rates, strict=True):
            settings["lr"] = rate
        module.train()
        row: dict[str, float] = {}
        for micro_step in range(config.gradient_accumulation_steps):
            where = (step, accelerator.process_index, micro_step)
            # What draws without a generator (dropout) must be repeatable too.
            torch.manual_seed(_torch_seed(config.seed, *where, 1))
            with accelerator.accumulate(model):
                loss, figures = model(Draw.at(config.seed, *where))
                accelerator.backward(loss)
            for key, value in {"loss": loss.item(), **figures}.items():
                statistics.setdefault(key, []).append(value)

        # 2. step
        accelerator.unscale_gradients()
        for group in groups:
            norm = float(nn.utils.clip_grad_norm_(group.parameters, group.clip))
            row["gradient_norm" + (f"_{group.name}" if group.name else "")] = norm
        # fp16: the scaler itself skips a step that overflows, and must see it to lower its scale.
        if accelerator.scaler is not None or all(map(math.isfinite, row.values())):
            optimizer.step()
            if not optimizer.step_was_skipped:
                ema.step(parameters)
        optimizer.zero_grad(set_to_none=True)
        step += 1
        bar.update()

        # 3. statistics
        for key, value in row.items():
            statistics.setdefault(key, []).append(value)
        last = step == config.max_steps or _out_of_time(config, started, accelerator)
        if step % config.log_every == 0 or last:
            means = {key: float(np.mean(values)) for key, values in _merged(statistics).items()}
            if accelerator.is_main_process:
                log({"elapsed_s": elapsed_s(), "lr": learning_rate(config, step), **means})
                bar.set_postfix(loss=f"{means['loss']:.4f}")
            statistics.clear()

        # 4. samples, then the checkpoint: what comes after a state is done again when resumed
        sampled = stage.sample is not None and (step % config.sample_every == 0 or last)
        if stage.sample is not None and sampled and accelerator.is_main_process:
            (config.output / "samples").mkdir(exist_ok=True)
            module.eval()
            with _EmaWeights(ema, parameters), torch.no_grad():
                figures = stage.sample(config.output / "samples", step)
            log({f"held_out_{key}": value for key, value in figures.items()})
        if step % config.save_every == 0 or last:
            save()
        if sampled or last:
            accelerator.wait_for_everyone()
    bar.close()
    complete = step >= config.max_steps
    if complete and stage.finish is not None and accelerator.is_main_process:
        stage.finish(config.output / "export")
    return complete


def train(build: Callable[[Any, str], Stage], config: LoopConfig) -> bool:
    """Start, build the stage, run it; returns whether the run is complete.

    Args:
        build: `(config, device) -> Stage`, of the stage's module.
        config: Of that module's `CONFIG`.
    """
    accelerator = start(config)
    torch.manual_seed(config.seed)  # the first weights
    complete = run(build(config, device_name(accelerator)), config, accelerator)
    accelerator.end_training()
    return complete


def _merged(statistics: dict[str, list[float]]) -> dict[str, list[float]]:
    """The values of all processes; every process must call it."""
    merged: dict[str, list[float]] = {}
    for part in gather_object([statistics]):
        for key, values in part.items():
            merged.setdefault(key, []).extend(values)
    return merged


def _out_of_time(config: LoopConfig, started: float, accelerator: Accelerator) -> bool:
    """Whether `max_minutes` are over in any process, so that all stop at the same step."""
    if not config.max_minutes:
        return False
    if time.monotonic() - started > 60 * config.max_minutes:
        accelerator.set_trigger()
    return accelerator.check_trigger()


def _forget_after(log_path: Path, step: int) -> None:
    """Drop rows that a killed run wrote after its last state: they are about to be written again."""
    if not log_path.exists():
        return
    kept = []
    for line in log_path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the kill came in the middle of a line
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    partial = log_path.with_suffix(".partial")
    partial.write_text("".join(kept))
    os.replace(partial, log_path)


class _EmaWeights:
    """Within this context the parameters hold their exponential moving average."""

    def __init__(self, ema: EMAModel, parameters: list[nn.Parameter]) -> None:
        self._ema, self._parameters = ema, parameters

    def __enter__(self) -> None:
        self._ema.store(self._parameters)
        self._ema.copy_to(self._parameters)

    def __exit__(self, *_: object) -> None:
        self._ema.restore(self._parameters)
