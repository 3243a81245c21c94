"""The diffusion loss reaches every parameter of the denoiser, the reference encoder and the completer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from model.face.landmarks import CONTENT, POSE
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.unet import TalkFormerUNet
from tests.unit.model.small_unets import (
    LATENTS,
    SMALL,
    VARIANTS_SMALL,
    face,
    fill_zeros,
    make_condition,
    make_latents,
    make_unet,
    noise,
    predict,
)


class EndToEnd(nn.Module):
    """Completer, reference encoder and denoiser with the diffusion loss alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.completer = LandmarkCompleter(width=32, layers=2, heads=2, window=4, dropout=0.0)
        self.unet = TalkFormerUNet(**{**SMALL, **options})
        self.reference_encoder = ReferenceEncoder(self.unet.config.channels)

    def loss(self, seed: int) -> torch.Tensor:
        frames = 6
        reference = face(1)
        pose = reference[:, POSE].expand(frames, -1, -1)[None]
        completed = self.completer(
            noise(1, 4 * frames, 80, seed=seed), pose, reference[:, None]
        ).target[0]
        features = self.reference_encoder(
            noise(1, 3, 4 * LATENTS, 4 * LATENTS, seed=seed).clamp(-1, 1)
        )
        condition = make_condition(
            self.unet, frames, target_landmarks=completed, reference_landmarks=reference,
            reference=self.unet.prepare_reference(features, reference),
        )  # fmt: skip
        timestep = torch.tensor([50, 200, 400, 600, 800, 999])
        shape = (frames, 4, *self.unet.config.window[2:])
        predicted = self.unet(noise(*shape, seed=seed), timestep, condition)
        return (predicted - noise(*shape, seed=seed + 1)).square().mean()


def without_gradient(*modules: nn.Module) -> list[str]:
    """Names of the parameters that the last backward pass did not reach."""
    return [
        name
        for module in modules
        for name, parameter in module.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    ]


AUXILIARY = {"open_head", "phone_head"}  # of the completer; losses of their own train them


def train(network: EndToEnd, steps: int) -> None:
    """Take `steps` optimiser steps, then one more backward pass."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for step in range(steps + 1):
        optimizer.zero_grad(set_to_none=True)
        network.loss(10 * step).backward()
        if step < steps:
            optimizer.step()


def untrained_parts(network: EndToEnd) -> list[str]:
    names = without_gradient(network)
    return [name for name in names if name.split(".")[1] not in AUXILIARY]


def test_output_is_nearly_zero_at_start() -> None:
    assert predict(make_unet(trained=False)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 1),
        ({"maps": False}, 1),
        ({"m_align": False}, 2),
        (VARIANTS_SMALL["base"], 1),
        (VARIANTS_SMALL["large"], 1),
    ],
)
def test_gradients_reach_every_parameter(options: dict[str, bool], steps: int) -> None:
    # The zero-initialised ends of the branches need a step to let gradients through, then (without
    # M-Align) R-Align's labels need one.
    network = EndToEnd(**options).train()
    train(network, steps)
    assert untrained_parts(network) == []


def test_after_one_step_every_zero_output_learns() -> None:
    network = EndToEnd().train()
    zeros = {name for name, p in network.unet.named_parameters() if not p.any()}
    ends = {name for name in zeros if name.rsplit(".", 2)[-2].endswith(("out", "conv_2"))}
    assert len(ends) > 40
    train(network, 1)
    assert not ends & set(without_gradient(network.unet))


def test_without_r_align_the_reference_encoder_learns_nothing() -> None:
    network = EndToEnd(r_align=False).train()
    train(network, 2)
    untrained = untrained_parts(network)
    assert {name.split(".")[0] for name in untrained} == {"reference_encoder"}
    assert len(untrained) == len(list(network.reference_encoder.parameters()))


def test_end_to_end_the_diffusion_loss_reaches_the_completer() -> None:
    network = EndToEnd()
    fill_zeros(network.unet)
    network.loss(0).backward()
    untrained = {name.split(".")[0] for name in without_gradient(network.completer)}
    assert untrained == AUXILIARY


@pytest.mark.parametrize("options", [{"maps": False}, {"m_align": False}])
def test_gradients_on_landmarks_come_through_tokens_and_through_maps(
    options: dict[str, bool],
) -> None:
    unet = make_unet(**options)
    target = face(2, seed=2).requires_grad_()
    condition = make_condition(unet, target_landmarks=target)
    unet(make_latents(), 500, condition).square().sum().backward()
    assert target.grad is not None
    assert bool(target.grad.isfinite().all())
    assert float(target.grad[:, CONTENT].abs().sum(dim=-1).min()) > 0
