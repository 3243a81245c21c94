"""The noise schedule that training and sampling share."""

from __future__ import annotations

from typing import Any, Final

from diffusers import DDIMScheduler

SCHEDULE: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
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
