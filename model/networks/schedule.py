"""The noise schedule, the loss and the sampling loop: what training and sampling share.

The network predicts v = alpha * noise - sigma * latents (Salimans, Ho, arXiv 2202.00512, app. D).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from diffusers import DDIMScheduler

NUM_TIMESTEPS: Final = 1000

SCHEDULE: Final[dict[str, Any]] = {
    "num_train_timesteps": NUM_TIMESTEPS,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,  # the last step is pure noise, as sampling begins
    "timestep_spacing": "trailing",
    "clip_sample": False,
}


def build_scheduler() -> DDIMScheduler:
    """DDIM (eta 0) on `SCHEDULE`: v-prediction, zero terminal SNR, trailing timesteps."""
    return DDIMScheduler(**SCHEDULE)


Denoiser = Callable[[torch.Tensor, torch.Tensor | int], torch.Tensor]
"""`(latents, timestep) -> noise_pred`, which is v here; its condition is inside."""


def velocity_loss(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    noise: torch.Tensor,
    timestep: torch.Tensor,
    weight: torch.Tensor,
) -> torch.Tensor:
    """Weighted mean square error of v.

    Args:
        denoiser: The network with its condition.
        scheduler: From `build_scheduler`.
        latents: Clean ones `(B, C, h, w)`.
        noise: Of the same shape.
        timestep: `(B,)`.
        weight: Of each cell `(B, 1, h, w)`.
    """
    noisy = scheduler.add_noise(latents, noise, timestep)
    target = scheduler.get_velocity(latents, noise, timestep)
    noise_pred = denoiser(noisy, timestep)
    error = (noise_pred.float() - target) ** 2 * weight
    return error.sum() / (weight.sum() * latents.shape[1])


def denoise(
    denoiser: Denoiser, scheduler: Any, timesteps: Sequence[int], latents: torch.Tensor
) -> torch.Tensor:
    """The sampling loop: from noise `(B, C, h, w)` to latents, float32 throughout.

    Args:
        denoiser: The network with its condition.
        scheduler: Any sampler over `SCHEDULE`, with its steps set; one that counts them counts on.
        timesteps: Falling; numbers, because schedulers look tables up by them: a GPU would be waited for at each.
        latents: Where sampling begins.
    """
    for timestep in timesteps:
        noise_pred = denoiser(latents, timestep)
        latents = scheduler.step(noise_pred.float(), timestep, latents).prev_sample
    return latents
