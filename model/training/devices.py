"""Which device a training process computes on, and which processes compute with it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)

from model.errors import ConfigError

_LONGEST_SAMPLE: Final = timedelta(hours=2)  # the other processes wait while process 0 samples


def join_processes(
    device: str, mixed_precision: str, gradient_accumulation_steps: int
) -> Accelerator:
    """Join the run's other processes, if any, and choose this one's device.

    Args:
        device: "auto", "cpu" or "cuda".
        mixed_precision: "no", "bf16" or "fp16".
        gradient_accumulation_steps: Losses of one step in each process.
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
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_LONGEST_SAMPLE),
        ],
    )
    if mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("mixed_precision: 'fp16' needs a GPU; use 'bf16' or 'no' on a CPU")
    return accelerator


def device_name(accelerator: Accelerator) -> str:
    """One of cpu, cuda, cuda:1 ...; accelerate's own name of a CPU differs with the number of processes."""
    return "cpu" if accelerator.device.type == "cpu" else str(accelerator.device)
