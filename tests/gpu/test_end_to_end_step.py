"""One step of stage 3 on CUDA, which holds stage 2's loss: speech, landmarks, diffusion, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.checkpoints import SHIPPED
from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.portrait_engine import PortraitEngine
from model.media.audio import log_mel
from model.pipelines.landmark_completion import complete_landmarks
from model.training.shard_windows import ClipWindow
from model.training.stage import Draw
from model.training.stage3_end_to_end import (
    EndToEnd,
    EndToEndConfig,
    diffusion_loss,
    draw_noise,
)
from tests.gpu_plans import KnownFace, example_picture, example_speech

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def windows_of(networks: EndToEnd) -> list[ClipWindow]:
    image = example_picture(400)
    face = KnownFace()(image)[0].landmarks
    affine = crop_affine(face)
    reference, landmarks = crop_image(image, affine, networks.face_px), warp_points(affine, face)
    waveform = example_speech(1.0)
    completer = networks.completer
    place = next(completer.parameters()).device
    moving = complete_landmarks(completer.to("cpu"), waveform, landmarks)
    completer.to(place)
    engine, mel = PortraitEngine(reference, landmarks), log_mel(waveform)
    drawn = np.array([5, 9])
    return [
        ClipWindow(
            mel[4 * start : 4 * (start + 16)],
            moving[start : start + 16],
            drawn,
            engine.render_many(moving[start : start + 16][drawn], inner="flat"),
            reference,
            landmarks,
        )
        for start in (0, 6)
    ]


def step(device: str, dtype: torch.dtype) -> None:
    """Half precision as `accelerate` trains: autocast, scaled gradients, one step of the optimiser."""
    networks, config = EndToEnd(SHIPPED, device), EndToEndConfig()
    windows = windows_of(networks)
    trained = [*networks.completer.parameters(), *networks.unet.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=1e-5)
    before = networks.unet.conv_out.weight.detach().clone()
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    with torch.autocast(device, dtype):
        target = networks.complete(windows)
        noise = draw_noise(networks.unet, len(windows), Draw.at(0, 0), config)
        loss = diffusion_loss(networks, windows, target, noise, config)
    assert loss.device.type == device and torch.isfinite(loss)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    reached = [x.grad for x in networks.unet.parameters() if x.grad is not None]
    assert reached and all(torch.isfinite(gradient).all() for gradient in reached)
    scaler.step(optimiser)
    assert (networks.unet.conv_out.weight != before).any()


def test_a_step_in_fp16() -> None:
    step("cuda", torch.float16)
