"""Attention backends agree, and one place chooses."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from model.networks.attention import (
    attention,
    attention_backend,
    select_backend,
    set_backend,
    use_backend,
    xformers_fault,
)


@pytest.fixture(autouse=True)
def _current_backend_is_restored() -> Iterator[None]:
    before = attention_backend()
    yield
    set_backend(before)


def draw(batch: int, queries: int, keys: int, width: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(batch * queries * keys)
    return tuple(
        torch.randn(batch, length, width, generator=generator) for length in (queries, keys, keys)
    )


SIZES = [(1, 1, 1, 32, 1), (2, 7, 13, 33, 3), (3, 480, 84, 96, 3), (1, 31, 68, 50, 5)]


@pytest.mark.parametrize(("batch", "queries", "keys", "width", "heads"), SIZES)
def test_eager_and_sdpa_agree(batch: int, queries: int, keys: int, width: int, heads: int) -> None:
    tensors = draw(batch, queries, keys, width)
    with use_backend("eager"):
        eager = attention(*tensors, heads)
    with use_backend("sdpa"):
        sdpa = attention(*tensors, heads)
    assert eager.shape == (batch, queries, width)
    torch.testing.assert_close(eager, sdpa, atol=1e-5, rtol=1e-4)


def test_gradients_agree() -> None:
    gradients = []
    for backend in ("eager", "sdpa"):
        tensors = [x.requires_grad_() for x in draw(2, 9, 5, 24)]
        with use_backend(backend):
            attention(*tensors, 3).square().sum().backward()
        gradients.append([x.grad for x in tensors])
    for eager, sdpa in zip(*gradients, strict=True):
        torch.testing.assert_close(eager, sdpa, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_heads_do_not_see_each_other(backend: str) -> None:
    query, key, value = draw(1, 6, 5, 64)
    with use_backend(backend):
        together = attention(query, key, value, 2)
        alone = attention(query[..., 32:], key[..., 32:], value[..., 32:], 1)
    torch.testing.assert_close(together[..., 32:], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_one_key_answers_every_query(backend: str) -> None:
    query, key, value = draw(2, 6, 1, 32)
    with use_backend(backend):
        mixed = attention(query, key, value, 4)
    torch.testing.assert_close(mixed, value.expand(2, 6, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_full_precision(dtype: torch.dtype) -> None:
    tensors = draw(2, 11, 68, 64)
    wanted = attention(*tensors, 2)
    for backend in ("eager", "sdpa"):
        with use_backend(backend):
            mixed = attention(*(x.to(dtype) for x in tensors), 2)
        assert mixed.dtype == dtype
        torch.testing.assert_close(mixed.float(), wanted, atol=0.03, rtol=0.03)


def test_a_cpu_gets_sdpa() -> None:
    set_backend("eager")
    assert select_backend("cpu") == "sdpa"
    assert attention_backend() == "sdpa"


def fake_xformers(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., torch.Tensor]) -> None:
    """An installed xformers whose one function is `answer`."""
    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    ops.memory_efficient_attention = answer  # type: ignore[attr-defined]
    package.ops = ops  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


def exact(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    mixed = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
    return mixed.transpose(1, 2)


def refuse(*_: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError("No operator found for `memory_efficient_attention_forward`")


CPU, HALF = torch.device("cpu"), torch.bfloat16


def test_an_xformers_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_xformers(monkeypatch, exact)
    assert xformers_fault(CPU, HALF) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refuse, "NotImplementedError"),
        (lambda query, key, value: query * 2, "other values"),
    ],
)
def test_an_xformers_that_is_installed_and_does_not_work_is_not_used(
    answer: Callable[..., torch.Tensor], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_xformers(monkeypatch, answer)
    set_backend("eager")

    assert words in str(xformers_fault(CPU, HALF))
    assert attention_backend() == "eager", "a probe changes nothing"


def test_without_xformers_or_without_a_device_cuda_gets_sdpa_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    caplog.set_level(logging.INFO, "model.networks.attention")

    assert select_backend(torch.device("cuda")) == "sdpa"
    assert "attention: sdpa, because xformers" in caplog.text


def test_use_backend_restores_the_old_one_after_an_error() -> None:
    set_backend("sdpa")

    def fail() -> None:
        with use_backend("eager"):
            assert attention_backend() == "eager"
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    assert attention_backend() == "sdpa"
