"""Does the diffusion loss know where a landmark belongs?

Lips and jaw are moved by a pixel, the loss is taken, and its gradient on the coordinates is compared
with the injected error. A positive cosine means that descent leads back. Without it stage 3 would
only add noise to the landmark loss.
"""

from __future__ import annotations

import numpy as np
import torch

from model.face.landmarks import CONTENT
from model.training.loop import Draw
from model.training.stage3_end_to_end import (
    ClipWindow,
    EndToEnd,
    EndToEndConfig,
    diffusion_loss,
)


def coordinate_gradient_cosines(
    networks: EndToEnd,
    windows: list[ClipWindow],
    draw: Draw,
    config: EndToEndConfig,
    *,
    error_px: float = 1.0,
) -> torch.Tensor:
    """Cosine between the loss's gradient and an error on the true landmarks.

    Args:
        networks: In evaluation mode.
        windows: B windows of n drawn frames.
        draw: Randomness of error, noise and noise level.
        config: Noise levels; its `drop_warped` decides whether warped latents tell the truth apart
            from the landmarks.
        error_px: Standard deviation of the error on each coordinate, pixels of the crop.
    Returns:
        `(B * n,)`, over the 31 points of lips and jaw.
    """
    content = list(CONTENT)
    truth = torch.from_numpy(np.concatenate([w.landmarks[w.drawn] for w in windows]))
    truth = truth.to(networks.device)
    error = torch.zeros_like(truth)
    shape = (len(truth), len(content), 2)
    error[:, content] = torch.randn(shape, generator=draw.generator).to(truth)
    error = error * (error_px / networks.crop_px)
    target = (truth + error).requires_grad_()
    with torch.enable_grad():
        loss = diffusion_loss(networks, windows, target, draw, config)
        (gradient,) = torch.autograd.grad(loss, target)
    return torch.cosine_similarity(
        gradient[:, content].flatten(1), error[:, content].flatten(1), dim=1
    )
