"""Scaled dot-product attention with the backend chosen in one place.

xformers on CUDA when it is installed, torch's SDPA elsewhere; "eager" writes the softmax out, for
tests and for training on a CPU, where the others are slower.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F

Backend = Literal["xformers", "sdpa", "eager"]

_backend: Backend = "sdpa"


def select_backend(device: torch.device | str) -> Backend:
    """Choose the backend for `device`, make it current and return its name."""
    on_cuda = torch.device(device).type == "cuda"
    set_backend(
        "xformers" if on_cuda and importlib.util.find_spec("xformers") is not None else "sdpa"
    )
    return _backend


def set_backend(backend: Backend) -> None:
    """Make `backend` current for the whole process."""
    global _backend
    _backend = backend


def attention_backend() -> Backend:
    """Name of the current backend."""
    return _backend


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Make `backend` current within the context."""
    before = _backend
    set_backend(backend)
    try:
        yield
    finally:
        set_backend(before)


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int
) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) V over `heads` heads.

    Args:
        query: `(B, N, D)`.
        key: `(B, M, D)`.
        value: `(B, M, D)`.
        heads: Divides D.
    Returns:
        `(B, N, D)`.
    """
    query, key, value = (
        x.unflatten(-1, (heads, -1)) for x in (query, key, value)
    )  # (B, N, heads, d)
    if _backend == "xformers":
        import xformers.ops

        mixed: torch.Tensor = xformers.ops.memory_efficient_attention(query, key, value)
        return mixed.flatten(2)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))  # (B, heads, N, d)
    if _backend == "sdpa":
        mixed = F.scaled_dot_product_attention(query, key, value)
    else:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        mixed = scores.softmax(dim=-1).to(value.dtype) @ value
    return mixed.transpose(1, 2).flatten(2)
