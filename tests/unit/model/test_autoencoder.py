"""The autoencoder: f4, small, the same for one picture and many."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from model.networks.autoencoder import build_autoencoder


@pytest.fixture(scope="module")
def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return build_autoencoder().eval()


def pictures(batch: int, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, side, side, generator=generator) * 2 - 1


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    latents: torch.Tensor = autoencoder.encode(images).latent_dist.mode()
    return latents


@torch.no_grad()
def decode(autoencoder: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    images: torch.Tensor = autoencoder.decode(latents).sample
    return images


def test_latents_are_a_quarter_and_come_back_whole(autoencoder: AutoencoderKL) -> None:
    latents = encode(autoencoder, pictures(1, 128))
    assert latents.shape == (1, 4, 32, 32)
    assert decode(autoencoder, latents).shape == (1, 3, 128, 128)


def test_any_window_can_be_decoded(autoencoder: AutoencoderKL) -> None:
    assert decode(autoencoder, torch.zeros(2, 4, 20, 24)).shape == (2, 3, 80, 96)


def test_batch_equals_single(autoencoder: AutoencoderKL) -> None:
    images = pictures(3)
    latents = encode(autoencoder, images)
    torch.testing.assert_close(latents[2:], encode(autoencoder, images[2:]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        decode(autoencoder, latents)[:1], decode(autoencoder, latents[:1]), atol=1e-4, rtol=1e-4
    )


def test_the_mode_is_drawn_without_chance(autoencoder: AutoencoderKL) -> None:
    first, second = (encode(autoencoder, pictures(1)) for _ in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_tiny_is_small_enough_to_ship(autoencoder: AutoencoderKL) -> None:
    assert 2 * sum(p.numel() for p in autoencoder.parameters()) < 4e6  # bytes in fp16


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    autoencoder = build_autoencoder()
    posterior = autoencoder.encode(pictures(1)).latent_dist
    autoencoder.decode(posterior.sample()).sample.square().mean().backward()
    empty = [n for n, p in autoencoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert empty == []


def test_save_and_load_keep_weights_and_scale(autoencoder: AutoencoderKL, tmp_path: Path) -> None:
    torch.manual_seed(0)
    scaled = build_autoencoder().eval()
    scaled.register_to_config(scaling_factor=0.75)
    scaled.save_pretrained(tmp_path)
    loaded = AutoencoderKL.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert loaded.config["scaling_factor"] == 0.75
    latents = encode(autoencoder, pictures(1))
    torch.testing.assert_close(encode(loaded, pictures(1)), latents, atol=0, rtol=0)
    torch.testing.assert_close(decode(loaded, latents), decode(autoencoder, latents))
