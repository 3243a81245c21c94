"""Scaled dot-product attention with the backend chosen in one place.

xformers on CUDA where a call of it works, torch's SDPA elsewhere; "eager" writes the softmax out, for
tests and for training on a CPU, where the others are slower.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F

Backend = Literal["xformers", "sdpa", "eager"]

_log = logging.getLogger(__name__)
_backend: Backend = "sdpa"


def select_backend(device: torch.device | str, dtype: torch.dtype = torch.float16) -> Backend:
    """Choose the backend for `device`, make it current and return its name.

    xformers is called once: that it is installed does not say that it was built for this torch, this
    driver and this card.
    """
    place = torch.device(device)
    backend: Backend = "sdpa"
    if place.type == "cuda":
        fault = xformers_fault(place, dtype)
        if fault is None:
            backend = "xformers"
        _log.info("attention: %s%s", backend, "" if fault is None else f", because {fault}")
    set_backend(backend)
    return _backend


def xformers_fault(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why xformers cannot be used there, or None if a call of it gives what SDPA gives."""
    try:
        # Another number of keys than of queries, as the denoiser has.
        generator = torch.Generator().manual_seed(0)
        shapes = ((2, 24, 64), (2, 17, 64), (2, 17, 64))
        query, key, value = (torch.randn(x, generator=generator).to(device, dtype) for x in shapes)
        with use_backend("sdpa"):
            wanted = attention(query, key, value, 2)
        with use_backend("xformers"):
            found = attention(query, key, value, 2)
    except ImportError:
        return "xformers is not installed"
    except Exception as error:  # noqa: BLE001  whatever it is, torch's own attention is there
        return f"xformers fails ({type(error).__name__}: {str(error).splitlines()[:1]})"
    if not torch.allclose(found.float(), wanted.float(), atol=0.05):
        return "xformers gives other values than torch"
    return None


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
