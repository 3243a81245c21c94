"""The noise schedule: starts at pure noise, and an exact denoiser gives the picture back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from model.networks.schedule import SCHEDULE, build_scheduler


def noise(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def sample_with_exact_denoiser(
    scheduler: DDIMScheduler, clean: torch.Tensor, start: torch.Tensor, steps: int
) -> torch.Tensor:
    """DDIM with the v that a perfect network would predict for `clean`."""
    scheduler.set_timesteps(steps)
    latents = start
    for timestep in scheduler.timesteps:
        alpha = scheduler.alphas_cumprod[timestep]
        sigma = (1 - alpha).sqrt()
        implied = (latents - alpha.sqrt() * clean) / sigma
        velocity = alpha.sqrt() * implied - sigma * clean
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    return latents


def test_the_last_step_is_pure_noise() -> None:
    scheduler, clean, start = build_scheduler(), noise(0), noise(1)
    last = torch.tensor([SCHEDULE["num_train_timesteps"] - 1] * 2)
    torch.testing.assert_close(scheduler.add_noise(clean, start, last), start, atol=1e-6, rtol=0)
    velocity = scheduler.get_velocity(clean, start, last)
    torch.testing.assert_close(velocity, -clean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
def test_sampling_begins_where_training_ends(steps: int) -> None:
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    assert len(timesteps) == steps
    assert timesteps[0] == 999
    assert timesteps == sorted(timesteps, reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_an_exact_denoiser_gives_the_picture_back(steps: int) -> None:
    clean = noise(0)
    sampled = sample_with_exact_denoiser(build_scheduler(), clean, noise(1), steps)
    torch.testing.assert_close(sampled, clean, atol=2e-3, rtol=0)


def test_sampling_adds_no_chance() -> None:
    scheduler = build_scheduler()
    scheduler.set_timesteps(4)
    first, second = (
        scheduler.step(noise(2), scheduler.timesteps[1], noise(3)).prev_sample for _ in range(2)
    )
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_values_beyond_one_are_not_clipped() -> None:
    clean = 5 * noise(0)
    sampled = sample_with_exact_denoiser(build_scheduler(), clean, noise(1), 4)
    torch.testing.assert_close(sampled, clean, atol=1e-2, rtol=0)


def test_save_and_load_keep_the_schedule(tmp_path: Path) -> None:
    scheduler = build_scheduler()
    scheduler.save_pretrained(tmp_path)
    loaded = DDIMScheduler.from_pretrained(tmp_path)
    assert {key: loaded.config[key] for key in SCHEDULE} == SCHEDULE
    torch.testing.assert_close(loaded.alphas_cumprod, scheduler.alphas_cumprod, atol=0, rtol=0)
