"""The one training loop: batches, loss, step, statistics, samples, checkpoint; resumable at any step.

    process 0    draw(seed, step, 0, 0..k-1) ─▶ batch ─▶ loss ─▶ gradient ─┐
    process 1    draw(seed, step, 1, 0..k-1) ─▶ batch ─▶ loss ─▶ gradient ─┴─▶ mean ─▶ clip ─▶ AdamW ─▶ EMA

All randomness of a step comes from `(seed, step, rank, micro step)`, so a resumed run sees what an
unbroken one would have seen. Statistics go to `statistics.jsonl`, sample pictures to `samples/`,
state to `state.pt`, weights (their moving average) to `export/`; process 0 writes them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from model.errors import ConfigError
from model.training.run_folder import RunFolder
from model.training.stage import (
    Draw,
    Figures,
    LoopConfig,
    Stage,
    map_tensors,
    mixed_seed,
    parameter_groups,
)

_FUSED_ON: tuple[str, ...] = ("cuda",)


class _Loss(nn.Module):
    """Networks and loss as one module.

    Data parallelism so sees one forward pass, whatever methods of the networks the loss calls.
    """

    def __init__(self, stage: Stage[Any]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(dict(stage.modules))
        self._loss = stage.loss

    def forward(self, batch: Any, step: int) -> tuple[torch.Tensor, Figures]:
        return self._loss(batch, step)


class _Batches:
    """Batches in the order of their losses, each drawn in a thread while the one before is trained on.

    A draw depends on nothing but its place, so drawing ahead changes no batch.
    """

    def __init__(
        self, stage: Stage[Any], config: LoopConfig, rank: int, device: torch.device
    ) -> None:
        self._stage, self._config, self._rank, self._device = stage, config, rank, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: Future[Any] | None = None

    def get(self, step: int, micro_step: int) -> Any:
        """The batch of a loss, on the device; begins to draw the next one."""
        batch = (self._ahead or self._thread.submit(self._draw, step, micro_step)).result()
        last = micro_step + 1 == self._config.gradient_accumulation_steps
        following = (step + 1, 0) if last else (step, micro_step + 1)
        ends = following[0] >= self._config.max_steps
        self._ahead = None if ends else self._thread.submit(self._draw, *following)
        return map_tensors(batch, lambda tensor: tensor.to(self._device, non_blocking=True))

    def close(self) -> None:
        """Let go of what was drawn ahead."""
        self._thread.shutdown(cancel_futures=True)

    def _draw(self, step: int, micro_step: int) -> Any:
        batch = self._stage.draw(Draw.at(self._config.seed, step, self._rank, micro_step))
        # Pinned memory is copied to the GPU while it computes.
        pinned = self._device.type == "cuda"
        return map_tensors(batch, torch.Tensor.pin_memory) if pinned else batch


def learning_rate(config: LoopConfig, step: int, peak: float | None = None) -> float:
    """Linear warm-up to `peak` (the config's by default), then half a cosine to zero at `max_steps`."""
    peak = config.learning_rate if peak is None else peak
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class _Run:
    """A stage in training: its networks, optimiser and moving average, and where it stands.

    Every process has one and calls the same methods in the same order; process 0 writes.
    ConfigError: the processes do not see the same `output`.
    """

    def __init__(self, stage: Stage[Any], config: LoopConfig, accelerator: Accelerator) -> None:
        self.stage, self.config, self.accelerator = stage, config, accelerator
        self.module = _Loss(stage)
        self.groups = parameter_groups(stage, config)
        self.parameters = [p for p in self.module.networks.parameters() if p.requires_grad]
        # Fused, it leaves out a step on a flag in the device's own memory: nothing waits for it.
        self.fused = accelerator.device.type in _FUSED_ON and accelerator.scaler is None
        optimizer = torch.optim.AdamW(
            [{"params": group.parameters, "lr": group.learning_rate} for group in self.groups],
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=self.fused,
        )
        self.ema = EMAModel(
            self.parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75, foreach=True
        )
        self.folder = RunFolder(config.output)
        # since the last line of the log
        self.statistics: dict[str, list[torch.Tensor | float]] = {}
        self.step, self._elapsed_before = 0, 0.0
        state = self.folder.load_state()
        if state is not None:
            self.module.networks.load_state_dict(state["networks"])
            for settings in state["optimizer"]["param_groups"]:
                settings["fused"] = self.fused  # a state may come from another device
            optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            self.step = int(state["step"])
            self._elapsed_before = float(state.get("elapsed_s", 0.0))
            if accelerator.is_main_process:
                self.statistics = state.get("statistics", {})
            accelerator.print(f"resumed {config.output} at step {self.step}", flush=True)
        if len(set(gather_object([self.step]))) > 1:
            raise ConfigError(f"output: {config.output} must be one folder for all processes")
        if accelerator.is_main_process:
            self.folder.forget_after(self.step)
        self.adamw = optimizer
        accelerator.ddp_handler.find_unused_parameters = stage.find_unused_parameters
        self.model, self.optimizer = accelerator.prepare(self.module, optimizer)
        if accelerator.scaler is not None and state is not None and state.get("scaler"):
            accelerator.scaler.load_state_dict(state["scaler"])
        self.ema.to(accelerator.device)
        self.batches = _Batches(stage, config, accelerator.process_index, accelerator.device)
        self._started = time.monotonic()

    @property
    def complete(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.config.max_steps

    def take_step(self) -> None:
        """Losses of the step's draws, their mean gradient, one step of the optimiser."""
        # 1. losses and their gradients
        config, accelerator = self.config, self.accelerator
        rates = [learning_rate(config, self.step, group.learning_rate) for group in self.groups]
        for settings, rate in zip(self.optimizer.param_groups, rates, strict=True):
            settings["lr"] = rate
        self.module.train()
        for micro_step in range(config.gradient_accumulation_steps):
            where = (self.step, accelerator.process_index, micro_step)
            batch = self.batches.get(self.step, micro_step)
            # What draws without a generator (dropout) must be repeatable too.
            torch.manual_seed(mixed_seed(config.seed, *where, 1))
            with accelerator.accumulate(self.model):
                loss, figures = self.model(batch, self.step)
                accelerator.backward(loss)
            self._remember({"loss": loss.detach(), **figures})

        # 2. step
        accelerator.unscale_gradients()
        norms = {
            f"gradient_norm_{one.name}".rstrip("_"): nn.utils.clip_grad_norm_(
                one.parameters, one.clip
            )
            for one in self.groups
        }
        self._remember(norms)
        if self._step_optimizer(torch.stack(list(norms.values())).isfinite().all()):
            self.ema.step(self.parameters)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _step_optimizer(self, finite: torch.Tensor) -> bool:
        """Step, unless a gradient is not `finite` (a flag on the device).

        Returns:
            Whether the moving average goes on. It does where the flag stays on the device: if the
            step is left out there, it meets the same weights once more.
        """
        if self.fused:
            # what a gradient scaler would set
            self.adamw.found_inf = (~finite).float()  # type: ignore[attr-defined]
        # fp16: the scaler itself skips a step that overflows, and must see it to lower its scale.
        elif self.accelerator.scaler is None and not finite:
            return False
        self.optimizer.step()
        return not self.optimizer.step_was_skipped

    def out_of_time(self) -> bool:
        """Whether `max_minutes` are over in any process, so that all stop at the same step."""
        if not self.config.max_minutes:
            return False
        if time.monotonic() - self._started > 60 * self.config.max_minutes:
            self.accelerator.set_trigger()
        return bool(self.accelerator.check_trigger())

    def log(self) -> float:
        """Write the means since the last line, over all processes; returns the loss."""
        means = {key: float(np.mean(values)) for key, values in self._merged().items()}
        if self.accelerator.is_main_process:
            row = {"step": self.step, "elapsed_s": self._elapsed_s()}
            self.folder.log({**row, "lr": learning_rate(self.config, self.step), **means})
        self.statistics.clear()
        return means["loss"]

    def sample(self) -> None:
        """Let the stage draw samples with the moving average."""
        if not self.accelerator.is_main_process:
            return
        self.folder.samples.mkdir(exist_ok=True)
        self.module.eval()
        with _ema_weights(self.ema, self.parameters), torch.no_grad():
            figures = self.stage.sample(self.folder.samples, self.step)
        if figures:
            held_out = {f"held_out_{key}": value for key, value in figures.items()}
            self.folder.log({"step": self.step, **held_out})

    def save(self) -> None:
        """Write the state, then the weights for use."""
        pending, scaler = self._merged(), self.accelerator.scaler
        if not self.accelerator.is_main_process:
            return
        self.folder.save_state(
            {
                "networks": self.module.networks.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "step": self.step,
                "statistics": pending,
                "elapsed_s": self._elapsed_s(),
            }
        )
        self.export()

    def export(self) -> None:
        """Write the moving average as diffusers folders."""
        with _ema_weights(self.ema, self.parameters):
            for name, network in self.stage.modules.items():
                network.save_pretrained(self.folder.export / name)  # type: ignore[operator]

    def _remember(self, figures: Figures) -> None:
        for key, value in figures.items():
            kept = value.detach() if isinstance(value, torch.Tensor) else value
            self.statistics.setdefault(key, []).append(kept)

    def _read(self) -> dict[str, list[float]]:
        """The statistics as numbers, in one transfer from the device."""
        listed = [value for values in self.statistics.values() for value in values]
        scalars = [value for value in listed if isinstance(value, torch.Tensor)]
        place = {"device": self.accelerator.device, "dtype": torch.float64}
        stacked = torch.stack([scalar.to(**place) for scalar in scalars]) if scalars else None
        numbers = iter(() if stacked is None else stacked.tolist())
        return {
            key: [next(numbers) if isinstance(x, torch.Tensor) else float(x) for x in values]
            for key, values in self.statistics.items()
        }

    def _merged(self) -> dict[str, list[float]]:
        """The values of all processes; every process must call it."""
        merged: dict[str, list[float]] = {}
        for part in gather_object([self._read()]):
            for key, values in part.items():
                merged.setdefault(key, []).extend(values)
        return merged

    def _elapsed_s(self) -> float:
        return round(self._elapsed_before + time.monotonic() - self._started, 1)


def run(stage: Stage[Any], config: LoopConfig, accelerator: Accelerator) -> bool:
    """Train until `max_steps` or `max_minutes`; returns whether the run is complete.

    The stage's modules lie on the accelerator's device (`join_processes`).

    Raises:
        ConfigError: The processes do not see the same `output`.
    """
    training = _Run(stage, config, accelerator)
    main = accelerator.is_main_process
    if training.complete and main:  # killed, perhaps, between the last state and its export
        training.export()
    steps = {"total": config.max_steps, "initial": training.step}
    bar = tqdm(**steps, mininterval=10, desc=config.output.name, disable=not main)
    last = training.complete
    with closing(bar), closing(training.batches):
        while not last:
            training.take_step()
            bar.update()
            step = training.step
            last = training.complete or training.out_of_time()
            if step % config.log_every == 0 or last:
                bar.set_postfix(loss=f"{training.log():.4f}")
            # Samples before the checkpoint: what comes after a state is done again when resumed.
            if step % config.sample_every == 0 or last:
                training.sample()
            if step % config.save_every == 0 or last:
                training.save()
            if step % config.sample_every == 0 or last:
                accelerator.wait_for_everyone()
    if training.complete and main:
        stage.finish(training.folder.export)
    return training.complete


@contextmanager
def _ema_weights(ema: EMAModel, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Within this context the parameters hold their exponential moving average."""
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)
