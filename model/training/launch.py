"""From words to a run: `talkface train` and `python -m model.training.stageN_...` call this.

Here a process also joins the others of its run and chooses the device it computes on.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)

from model.errors import ConfigError
from model.training.config import dump_config, run_program
from model.training.loop import run
from model.training.stage import LoopConfig, Stage

_LONGEST_SAMPLE: Final = timedelta(hours=2)  # the other processes wait while process 0 samples
STAGES: Final = {
    0: "model.training.stage0_autoencoder",
    1: "model.training.stage1_landmarks",
    2: "model.training.stage2_diffusion",
    3: "model.training.stage3_end_to_end",
    4: "model.training.stage4_detail",
    5: "model.training.stage5_distilled_autoencoder",
}


def load_stage(number: int) -> Any:
    """The module of a stage: its `CONFIG` and `build(config, device)`; ConfigError if there is no such stage."""
    if number not in STAGES:
        known = ", ".join(map(str, STAGES))
        raise ConfigError(f"stage: expected one of {known}, got {number}")
    return importlib.import_module(STAGES[number])


def launch(build: Callable[[Any, str], Stage[Any]], config: Any) -> bool:
    """Train, leaving the whole config as `config.yaml` beside the run; returns whether it is complete."""
    if os.environ.get("RANK", "0") == "0":  # one of several processes writes
        config.output.mkdir(parents=True, exist_ok=True)
        (config.output / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    return train(build, config)


def main(
    config_type: type[Any], build: Callable[[Any, str], Stage[Any]], description: str | None
) -> None:
    """The command line of one stage's module."""
    run_program(config_type, lambda config: launch(build, config), description)


def train(build: Callable[[Any, str], Stage[Any]], config: LoopConfig) -> bool:
    """Join the processes, build the stage `(config, device)`, run it; returns whether the run is complete."""
    accelerator = join_processes(
        config.device, config.mixed_precision, config.gradient_accumulation_steps
    )
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)  # the first weights
    # One of cpu, cuda, cuda:1 ...; accelerate's name of a CPU differs with the number of processes.
    on_cpu = accelerator.device.type == "cpu"
    stage = build(config, "cpu" if on_cpu else str(accelerator.device))
    complete = run(stage, config, accelerator)
    accelerator.end_training()
    return complete


def join_processes(
    device: str, mixed_precision: str, gradient_accumulation_steps: int
) -> Accelerator:
    """Join the run's other processes, if any, and choose this one's device: "auto", "cpu" or "cuda".

    Arithmetic is "no", "bf16" or "fp16".

    Raises:
        ConfigError: The device does not exist here, cannot compute in fp16, or `accelerate launch`
            was asked for several processes in the one way in which it starts a single one.
    """
    if device == "cuda" and not torch.cuda.is_available():
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
        cpu=device == "cpu",
        mixed_precision=mixed_precision,
        # A plugin: the bare number would yield to an environment variable of `accelerate launch`.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=gradient_accumulation_steps, sync_with_dataloader=False
        ),
        kwargs_handlers=[
            DistributedDataParallelKwargs(),  # the stage has a say, see `loop.run`
            InitProcessGroupKwargs(timeout=_LONGEST_SAMPLE),
        ],
    )
    if mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("mixed_precision: 'fp16' needs a GPU; use 'bf16' or 'no' on a CPU")
    return accelerator
