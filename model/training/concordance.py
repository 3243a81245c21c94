"""Concordance: the part of a loss that asks for whole motion.

Distances alone are least for the median of what may follow from a sound, and that moves too little.
"""

from __future__ import annotations

from typing import Final

import torch

from model.face.landmarks import MOUTH_CORNERS
from model.networks.landmark_completion import lip_opening

_UNIT: Final = 0.02  # crop units: the size of motion that is compared
_CHIN: Final = (7, 8, 9)
_SHAPE_WEIGHT: Final = 0.5  # of mouth width and of the chin, each, beside the opening


def concordance(predicted: torch.Tensor, real: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Lin's concordance: Pearson's r, lowered where mean or spread differ; 1 for equal curves.

    Args:
        predicted: `(B, T)`.
        real: `(B, T)`.
        weight: `(B, T)`.
    """
    share = weight / weight.sum().clamp_min(1e-6)
    mean, real_mean = (share * predicted).sum(), (share * real).sum()
    away, real_away = predicted - mean, real - real_mean
    covariance = (share * away * real_away).sum()
    spread = (share * away**2).sum() + (share * real_away**2).sum()
    # the floor: windows of silence alone have no spread to agree with
    return 2.0 * covariance / (spread + (mean - real_mean) ** 2).clamp_min(1e-5)


def concordance_loss(
    predicted: torch.Tensor, real: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """One minus concordance: of the opening, and half as much of mouth width and of the chin.

    Args:
        predicted: Faces `(B, T, 68, 2)`, crop units.
        real: The faces that are wanted.
        weight: `(B, T)`, 0 where nothing is known.
    """
    opening = concordance(lip_opening(predicted), lip_opening(real), weight)
    loss = 1.0 - opening
    left, right = MOUTH_CORNERS
    for curve in (
        lambda face: face[:, :, right, 0] - face[:, :, left, 0],
        lambda face: face[:, :, list(_CHIN), 1].mean(dim=-1),
    ):
        said, meant = (_own_motion(curve(face) / _UNIT, weight) for face in (predicted, real))
        loss = loss + _SHAPE_WEIGHT * (1.0 - concordance(said, meant, weight))
    return loss


def _own_motion(curve: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Each window's curve `(B, T)` without its mean: faces differ in size, motion is what counts."""
    mean = (curve * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp_min(1)
    return curve - mean
