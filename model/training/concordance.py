"""Concordance: the part of a loss that asks for whole motion.

Distances alone are least for the median of what may follow from a sound, and that moves too little.
"""

from __future__ import annotations

from typing import Final

import torch

from model.face.landmarks import CHIN, MOUTH_CORNERS
from model.networks.landmark_completion import lip_opening

_UNIT: Final = 0.02  # crop units: the size of motion that is compared
_REST: Final = 0.01  # of units squared: less motion than this is rest
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

    Openings are a share of the mouth's width and compared over the batch. Widths and chins move by
    as much as the face is large: they are compared window by window.

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
        lambda face: face[:, :, list(CHIN), 1].mean(dim=-1),
    ):
        said, meant = (curve(face) / _UNIT for face in (predicted, real))
        loss = loss + _SHAPE_WEIGHT * (1.0 - _window_concordance(said, meant, weight))
    return loss


def _window_concordance(
    predicted: torch.Tensor, real: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Mean over the windows `(B, T)` of the concordance of motion about each window's mean."""
    share = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-6)
    away = predicted - (share * predicted).sum(dim=1, keepdim=True)
    real_away = real - (share * real).sum(dim=1, keepdim=True)
    covariance = (share * away * real_away).sum(dim=1)
    spread = (share * (away**2 + real_away**2)).sum(dim=1)
    # with the floor, two mouths that rest agree
    return ((2.0 * covariance + _REST) / (spread + _REST)).mean()


def distribution_loss(
    predicted: torch.Tensor, real: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Distance of the openings' distributions over the batch (1-Wasserstein), in tenths of a mouth width.

    Sorted, the k-th smallest predicted opening belongs to the k-th smallest real one, whenever it
    comes: wide mouths must be as wide and shut ones as many, also where the sound leaves in doubt
    which frame it is.

    Args:
        predicted: Faces `(B, T, 68, 2)`, crop units.
        real: The faces that are wanted.
        weight: `(B, T)`, 0 where nothing is known.
    """
    known = weight > 0
    said, meant = (
        lip_opening(predicted)[known].sort().values,
        lip_opening(real)[known].sort().values,
    )
    return (said - meant).abs().mean() * 10
