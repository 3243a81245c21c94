from __future__ import annotations

from typing import get_args

import pytest
import torch

from model.networks.schedule import build_scheduler
from model.pipelines.denoising import make_scheduler, set_steps
from model.pipelines.presets import PRESETS, SchedulerName
from worker.contract.messages import PresetName


def test_the_contract_names_exactly_these_presets() -> None:
    assert get_args(PresetName) == tuple(PRESETS)


def test_steps_never_fall_from_preview_to_quality() -> None:
    assert [preset.num_inference_steps for preset in PRESETS.values()] == [0, 1, 2, 10]


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
def test_sampling_begins_at_pure_noise(name: SchedulerName, steps: int) -> None:
    scheduler = make_scheduler(build_scheduler(), name)
    timesteps = set_steps(scheduler, steps, 1.0)
    assert len(timesteps) == steps
    assert int(timesteps[0]) == 999
    assert float(scheduler.alphas_cumprod[999]) < 1e-6


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_a_shorter_schedule_keeps_its_number_of_steps(name: SchedulerName, steps: int) -> None:
    scheduler = make_scheduler(build_scheduler(), name)
    timesteps = set_steps(scheduler, steps, 0.6)
    assert len(timesteps) == steps
    assert 450 <= int(timesteps[0]) <= 670


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
def test_a_perfect_network_leads_to_the_clean_latents(name: SchedulerName, strength: float) -> None:
    """With the true v at every step each sampler must end at what was noised."""
    scheduler = make_scheduler(build_scheduler(), name)
    timesteps = set_steps(scheduler, 4, strength)
    clean = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    latents = scheduler.add_noise(clean, noise, torch.full((2,), timesteps[0]))
    for timestep in timesteps:
        alpha = scheduler.alphas_cumprod[timestep].clamp_min(1e-12)
        implied = (latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        v = alpha.sqrt() * implied - (1 - alpha).sqrt() * clean
        latents = scheduler.step(v, timestep, latents).prev_sample
    torch.testing.assert_close(latents, clean, atol=0.1, rtol=0)
