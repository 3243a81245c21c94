"""Denoisers at small widths, and fixed inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from model.networks.unet import TalkFormerUNet, UNetCondition
from model.networks.variants import VARIANTS

CHANNELS = (32, 64, 96)
LATENTS = 16  # cells
WINDOW = (4, 4, 12, 8)
SMALL: dict[str, Any] = {
    "channels": CHANNELS, "latent_size": LATENTS, "token_width": 64, "window": WINDOW,
}  # fmt: skip
FOUR_SCALES: dict[str, Any] = {
    "channels": (32, 64, 64, 64), "latent_size": LATENTS, "token_width": 64, "window": (8, 0, 8, 16),
}  # fmt: skip
# Every variant's layout at small widths.
VARIANTS_SMALL: dict[str, dict[str, Any]] = {
    "tiny": {**VARIANTS["tiny"].unet, **SMALL},
    "base": {**VARIANTS["base"].unet, **FOUR_SCALES},
    "large": {**VARIANTS["large"].unet, **FOUR_SCALES, "heads": 4, "groups": 8},
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def face(batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Landmarks that are spread like a face's, each frame shaken on its own."""
    angles = torch.linspace(torch.pi, 0, 17)
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(5)) * 0.4 + 0.3
    points[:17] = torch.stack([0.5 + 0.3 * angles.cos(), 0.35 + 0.5 * angles.sin()], dim=-1)
    for first, count, radii in ((48, 12, (0.13, 0.07)), (60, 8, (0.10, 0.03))):
        turn = torch.arange(count) * (2 * torch.pi / count) + torch.pi
        ring = torch.stack([turn.cos() * radii[0], turn.sin() * radii[1]], dim=-1)
        points[first : first + count] = torch.tensor([0.5, 0.62]) + ring
    return points + 0.01 * noise(batch, 68, 2, seed=seed)


def fill_zeros(*modules: nn.Module) -> None:
    """Give weights that start at zero, or nearly so, values as training would."""
    generator = torch.Generator().manual_seed(9)
    for module in modules:
        for parameter in module.parameters():
            if parameter.abs().max() < 0.01:
                parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)


def make_unet(*, trained: bool = True, **options: Any) -> TalkFormerUNet:
    torch.manual_seed(0)
    unet = TalkFormerUNet(**{**SMALL, **options})
    if trained:
        fill_zeros(unet)
    return unet.eval()


def make_features(
    batch: int = 1, seed: int = 7, channels: tuple[int, ...] = CHANNELS
) -> list[torch.Tensor]:
    return [
        noise(batch, width, LATENTS >> scale, LATENTS >> scale, seed=seed + scale)
        for scale, width in enumerate(channels)
    ]


def make_condition(unet: TalkFormerUNet, batch: int = 2, **changed: Any) -> UNetCondition:
    """A condition of fixed random inputs; `changed` replaces some."""
    features = changed.pop("features", make_features(channels=unet.config.channels))
    reference_landmarks = changed.get("reference_landmarks", face(1, seed=1))
    dtype = unet.conv_in.weight.dtype
    cache = unet.prepare_reference([x.to(dtype) for x in features], reference_landmarks)
    inputs = {
        "target_landmarks": face(batch, seed=2),
        "reference_landmarks": reference_landmarks,
        "masked_latents": noise(1, 4, LATENTS, LATENTS, seed=3),
        "mask": torch.ones(1, 1, LATENTS, LATENTS),
        "reference_latents": noise(1, 4, LATENTS, LATENTS, seed=4),
        "warped_latents": noise(batch, 4, LATENTS, LATENTS, seed=5),
        "reference": cache,
    }
    return unet.prepare_condition(**{**inputs, **changed})


def make_latents(batch: int = 2, window: tuple[int, ...] = WINDOW) -> torch.Tensor:
    return noise(batch, 4, *window[2:], seed=6)


@torch.no_grad()
def predict(unet: TalkFormerUNet, batch: int = 2, **changed: Any) -> torch.Tensor:
    latents = make_latents(batch, unet.config.window)
    output: torch.Tensor = unet(latents, 500, make_condition(unet, batch, **changed))
    return output
