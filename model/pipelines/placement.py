"""Where and in which arithmetic the networks run."""

from __future__ import annotations

import time
from functools import cache
from typing import Final

import torch
from torch import nn

from model.networks.attention import select_backend
from model.pipelines.parallel import one_thread

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PROBE_S: Final = 0.5
_WORTH: Final = 1.25
"""bf16 costs accuracy: it must be faster by this factor."""
_CLEAR: Final = 1.4
"""A gain beyond `_WORTH` by this factor, either way, needs no longer probe: most processors' is."""
_LEAST_ROUNDS: Final = 5


def set_up(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Choose where and in which arithmetic networks run, and set this process up for it.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: See `choose_dtype`.
    """
    place = choose_device(device)
    arithmetic = choose_dtype(dtype, place)
    if place.type == "cuda":
        # Batches have one shape, so the fastest convolution is worth looking for; what stays in fp32
        # is exact enough with TF32's ten bits.
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = True
    select_backend(place, arithmetic)
    return place, arithmetic


def choose_device(device: str | torch.device) -> torch.device:
    """The device that is meant; "auto" is the first CUDA device, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The arithmetic that is meant.

    Args:
        dtype: "auto", a key of `DTYPES` or a torch dtype. "auto" is fp16 on CUDA; on a CPU a probe
            of at most half a second decides between bf16 and fp32.
        device: Where the networks run.
    Raises:
        ValueError: `dtype` is none of these.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype is {dtype!r}; expected auto, {', '.join(DTYPES)}")
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and bf16_gain() > _WORTH else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """Short name of a dtype, as `DTYPES` has it."""
    names = {value: name for name, value in DTYPES.items()}
    return names.get(dtype, str(dtype))


@cache
def bf16_gain() -> float:
    """How much faster bf16 is than fp32 on this CPU, by convolutions of the denoiser's size.

    Processors without instructions for it convert at every step and are many times slower.
    """
    layers: dict[torch.dtype, nn.Sequential] = {}
    inputs: dict[torch.dtype, torch.Tensor] = {}
    for dtype in (torch.float32, torch.bfloat16):
        convolutions = [nn.Conv2d(64, 128, 3, padding=1), nn.GroupNorm(8, 128), nn.SiLU()]
        stack = nn.Sequential(*convolutions, nn.Conv2d(128, 64, 3, padding=1))
        layers[dtype] = stack.to(dtype=dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        inputs[dtype] = torch.ones(8, 64, 16, 28, dtype=dtype).contiguous(
            memory_format=torch.channels_last
        )
    best = dict.fromkeys(layers, float("inf"))
    deadline = time.perf_counter() + _PROBE_S
    rounds = 0
    with one_thread(), torch.inference_mode():  # as rendering does
        # Taken in turns, so that another process's load falls on both; the best time counts.
        while rounds < _LEAST_ROUNDS or (rounds < 100 and time.perf_counter() < deadline):
            for dtype, stack in layers.items():
                start = time.perf_counter()
                stack(inputs[dtype])
                best[dtype] = min(best[dtype], time.perf_counter() - start)
            rounds += 1
            gain = best[torch.float32] / best[torch.bfloat16]
            if rounds >= _LEAST_ROUNDS and not _WORTH / _CLEAR < gain < _WORTH * _CLEAR:
                break
    return gain
