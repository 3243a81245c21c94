"""Sampling presets: the one place that turns a name into scheduler, steps and start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

SchedulerName = Literal["ddim", "dpmsolver++"]
Init = Literal["noise", "warp"]
Frame = Literal["source", "square", "portrait", "landscape"]
"""What is shown of a picture: all, or a window around head and shoulders."""
Region = Literal["mouth", "lower_face"]
"""What the networks draw: the inner mouth, all else being carried; or, as in the paper, the lower face."""


@dataclass(frozen=True)
class Preset:
    """How frames are made.

    Attributes:
        num_inference_steps: Denoising steps a frame; 0 = the portrait engine alone, no network draws.
        scheduler: Which sampler takes them.
        init: Start of the sampler: the shared noise, or the portrait engine's picture with that
            noise added.
        init_strength: Share of the noise schedule that `init="warp"` leaves to the sampler, (0, 1].
        restore_detail: Give skin and lips back what a crop of the network's size cannot hold.
    """

    num_inference_steps: int
    scheduler: SchedulerName = "ddim"
    init: Init = "noise"
    init_strength: float = 0.6
    restore_detail: bool = True


PRESETS: Final[dict[str, Preset]] = {
    "preview": Preset(0, restore_detail=False),
    "fast": Preset(1),
    "balanced": Preset(2),
    "quality": Preset(10, "dpmsolver++"),
}

STRENGTHS: Final[Mapping[str, float]] = {"still": 0.0, "subtle": 0.45, "natural": 1.0}
"""Named strengths of a photograph's own motion."""
MOST_STRENGTH: Final = 1.5
