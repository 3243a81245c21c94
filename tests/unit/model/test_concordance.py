from __future__ import annotations

import pytest
import torch

from model.training.concordance import concordance, concordance_loss, distribution_loss

WEIGHT = torch.ones(2, 40)


def make_curve() -> torch.Tensor:
    return torch.sin(torch.linspace(0, 12, 80)).view(2, 40)


def make_faces(gap: torch.Tensor) -> torch.Tensor:
    """Faces `(2, 40, 68, 2)` whose lips stand `gap` `(2, 40)` apart, and whose chin follows."""
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(68, 2, generator=generator).expand(2, 40, 68, 2).clone()
    faces[..., 48, :], faces[..., 54, :] = torch.tensor([0.3, 0.6]), torch.tensor([0.7, 0.6])
    faces[:, :, [61, 62, 63], 1] = 0.6
    faces[:, :, [67, 66, 65], 1] = 0.6 + gap[..., None]
    faces[:, :, [67, 66, 65], 0] = faces[:, :, [61, 62, 63], 0]
    faces[:, :, [7, 8, 9], 1] = 0.9 + gap[..., None]
    faces[:, :, 54, 0] -= 0.5 * gap
    return faces


def test_equal_curves_agree_and_mirrored_ones_do_not() -> None:
    curve = make_curve()
    assert concordance(curve, curve, WEIGHT).item() == pytest.approx(1.0, abs=1e-4)
    assert concordance(-curve, curve, WEIGHT).item() < -0.9


@pytest.mark.parametrize("other", [0.5, 2.0])
def test_another_spread_is_no_agreement(other: float) -> None:
    curve = make_curve()
    assert concordance(other * curve, curve, WEIGHT).item() < 0.9
    assert concordance(curve + 0.5, curve, WEIGHT).item() < 0.9


def test_unknown_frames_do_not_count() -> None:
    curve = make_curve()
    weight = WEIGHT.clone()
    weight[:, 30:] = 0.0
    spoilt = curve.clone()
    spoilt[:, 30:] = 7.0
    assert concordance(spoilt, curve, weight).item() == pytest.approx(1.0, abs=1e-4)


def test_half_the_motion_costs_more_than_all_of_it() -> None:
    gap = 0.05 * (1 + make_curve())
    wanted = make_faces(gap)
    whole = concordance_loss(make_faces(gap), wanted, WEIGHT)
    half = concordance_loss(make_faces(0.5 * gap), wanted, WEIGHT)
    assert whole.item() == pytest.approx(0.0, abs=1e-3)
    assert half.item() > 0.2


def test_silence_has_finite_gradients() -> None:
    said = make_faces(torch.zeros(2, 40)).requires_grad_()
    concordance_loss(said, make_faces(torch.zeros(2, 40)), WEIGHT).backward()
    assert said.grad is not None and bool(torch.isfinite(said.grad).all())


def test_distributions_are_compared_whatever_the_order() -> None:
    gap = 0.02 * (1 + make_curve())
    late = make_faces(gap.roll(7, dims=1))
    assert distribution_loss(late, make_faces(gap), WEIGHT).item() == pytest.approx(0.0, abs=1e-4)
    flat = make_faces(torch.full_like(gap, float(gap.mean())))
    assert distribution_loss(flat, make_faces(gap), WEIGHT).item() > 0.2


def test_frames_that_nobody_knows_do_not_count() -> None:
    gap = 0.02 * (1 + make_curve())
    wrong = gap.clone()
    wrong[:, :20] = 0.2
    known = WEIGHT.clone()
    known[:, :20] = 0.0
    assert distribution_loss(make_faces(wrong), make_faces(gap), known).item() == pytest.approx(
        0.0, abs=1e-4
    )
