"""The reference encoder: three scales, once per job."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from model.networks.reference_encoder import ReferenceEncoder

CHANNELS = (32, 64, 96)


@pytest.fixture(scope="module")
def encoder() -> ReferenceEncoder:
    torch.manual_seed(0)
    return ReferenceEncoder(CHANNELS).eval()


def crops(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, 64, 64, generator=generator) * 2 - 1


def test_three_scales(encoder: ReferenceEncoder) -> None:
    with torch.no_grad():
        features = encoder(crops(2))
    assert [tuple(x.shape) for x in features] == [
        (2, 32, 16, 16), (2, 64, 8, 8), (2, 96, 4, 4),
    ]  # fmt: skip


def test_a_shipped_crop_fits_the_latent_grid() -> None:
    with torch.no_grad():
        features = ReferenceEncoder()(torch.zeros(1, 3, 128, 128))
    assert [tuple(x.shape[1:]) for x in features] == [(64, 32, 32), (128, 16, 16), (192, 8, 8)]


def test_batch_equals_single(encoder: ReferenceEncoder) -> None:
    with torch.no_grad():
        together = encoder(crops(3))
        alone = encoder(crops(3)[1:2])
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[1:2], one, atol=1e-4, rtol=1e-4)


def test_no_layer_depends_on_the_rest_of_the_batch(encoder: ReferenceEncoder) -> None:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
    assert not [name for name, module in encoder.named_modules() if isinstance(module, norms)]


def test_gradient_reaches_every_parameter_and_pixel() -> None:
    torch.manual_seed(0)
    encoder, crop = ReferenceEncoder(CHANNELS), crops(1).requires_grad_()
    sum((x * torch.randn_like(x)).sum() for x in encoder(crop)).backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert crop.grad is not None
    assert float((crop.grad != 0).float().mean()) > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_forward_in_each_dtype(encoder: ReferenceEncoder, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    other = ReferenceEncoder(CHANNELS).eval().to(dtype)
    with torch.no_grad():
        wanted, features = encoder(crops(1)), other(crops(1).to(dtype))
    for reference, feature in zip(wanted, features, strict=True):
        assert feature.dtype == dtype
        torch.testing.assert_close(feature.float(), reference, atol=0.08, rtol=0.05)


def test_save_and_load(encoder: ReferenceEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = ReferenceEncoder.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert not loaded.training
    assert tuple(loaded.config["channels"]) == CHANNELS
    with torch.no_grad():
        for kept, read in zip(encoder(crops(1)), loaded(crops(1)), strict=True):
            torch.testing.assert_close(kept, read, atol=0, rtol=0)


def test_save_and_load_in_half_precision(encoder: ReferenceEncoder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ReferenceEncoder(CHANNELS).half().save_pretrained(tmp_path)
    half = ReferenceEncoder.from_pretrained(
        tmp_path, torch_dtype=torch.float16, low_cpu_mem_usage=False
    )
    full = ReferenceEncoder.from_pretrained(
        tmp_path, torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    assert next(half.parameters()).dtype == torch.float16
    assert next(full.parameters()).dtype == torch.float32
    with torch.no_grad():
        for wanted, read in zip(encoder(crops(1)), full(crops(1)), strict=True):
            torch.testing.assert_close(read, wanted, atol=0.01, rtol=0.01)
