"""TalkFormer: landmark tokens, M-Align, R-Align, and what their switches remove."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.errors import ShapeError
from model.networks.talkformer import (
    FOURIER_DIM,
    KeyValue,
    LandmarkEncoder,
    TalkFormerBlock,
    cell_centres,
    fourier_features,
)
from tests.unit.model.small_unets import noise

CHANNELS, TOKENS, HEIGHT, WIDTH = 64, 32, 6, 5


def points(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 68, 2, generator=torch.Generator().manual_seed(seed))


def awake(block: TalkFormerBlock) -> TalkFormerBlock:
    """`block` with its zero outputs filled, as after some training."""
    generator = torch.Generator().manual_seed(9)
    for parameter in block.parameters():
        if not parameter.any():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return block.eval()


def make_block(*, m_align: bool = True, r_align: bool = True) -> TalkFormerBlock:
    torch.manual_seed(0)
    return TalkFormerBlock(CHANNELS, TOKENS, m_align=m_align, r_align=r_align)


def position(height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    return fourier_features(cell_centres(1, 2, height, width, 8, torch.device("cpu")))


def run(
    block: TalkFormerBlock,
    batch: int = 2,
    *,
    target_tokens: torch.Tensor | None = None,
    reference_tokens: torch.Tensor | None = None,
    features: torch.Tensor | None = None,
) -> torch.Tensor:
    target_tokens = noise(batch, 68, TOKENS, seed=1) if target_tokens is None else target_tokens
    if reference_tokens is None:
        reference_tokens = noise(1, 68, TOKENS, seed=2)
    features = noise(1, HEIGHT * WIDTH, CHANNELS, seed=3) if features is None else features
    with torch.no_grad():
        output: torch.Tensor = block(
            noise(batch, CHANNELS, HEIGHT, WIDTH, seed=4),
            position(),
            block.landmark_pairs(target_tokens),
            block.reference_pairs(features, reference_tokens, position()),
        )
    return output


def names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


def test_fourier_features_tell_places_apart() -> None:
    features = fourier_features(cell_centres(0, 0, 8, 8, 8, torch.device("cpu")))
    assert features.shape == (64, FOURIER_DIM)
    assert float(features.abs().max()) <= 1
    distance = torch.cdist(features, features) + 10 * torch.eye(64)
    assert float(distance.min()) > 0.3


def test_cell_centres_are_row_by_row_x_then_y() -> None:
    centres = cell_centres(4, 2, 2, 3, 8, torch.device("cpu")) * 8
    assert centres.tolist() == [
        [2.5, 4.5], [3.5, 4.5], [4.5, 4.5],
        [2.5, 5.5], [3.5, 5.5], [4.5, 5.5],
    ]  # fmt: skip


def test_landmark_tokens_hold_position_and_motion() -> None:
    torch.manual_seed(0)
    encoder = LandmarkEncoder(TOKENS)
    here, there = points(2), points(2, seed=1)
    with torch.no_grad():
        still = encoder(here, here)
        assert still.shape == (2, 68, TOKENS)
        assert not torch.allclose(still, encoder(here, there), atol=1e-3)  # another motion
        assert not torch.allclose(still, encoder(there, there), atol=1e-3)  # another place
        torch.testing.assert_close(encoder(here[:1], there[:1]), encoder(here, there)[:1])


def test_landmark_gradient_reaches_every_coordinate() -> None:
    torch.manual_seed(0)
    target = points(1).requires_grad_()
    (LandmarkEncoder(TOKENS)(target, points(1, seed=1)) * noise(1, 68, TOKENS)).sum().backward()
    assert target.grad is not None
    assert bool(target.grad.isfinite().all())
    assert float(target.grad.abs().min()) > 0


def test_a_new_block_passes_its_input_on() -> None:
    output = run(make_block().eval())
    assert output.shape == (2, CHANNELS, HEIGHT, WIDTH)
    torch.testing.assert_close(output, noise(2, CHANNELS, HEIGHT, WIDTH, seed=4))


@pytest.mark.parametrize("channels", [32, 64, 192, 320])
def test_heads_are_32_wide_not_32_in_number(channels: int) -> None:
    block = TalkFormerBlock(channels, TOKENS)
    assert block.heads * 32 == channels


def test_channels_that_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(ShapeError, match="multiple of head_dim 32"):
        TalkFormerBlock(48, TOKENS)


def test_a_head_sees_its_own_channels_only() -> None:
    block = awake(make_block(r_align=False))
    assert block.heads == 2
    pairs = block.landmark_pairs(noise(2, 68, TOKENS, seed=1))
    assert pairs is not None
    answers: list[torch.Tensor] = []
    block.m_out.register_forward_hook(lambda _, inputs, __: answers.append(inputs[0]))
    other = KeyValue(pairs.key.clone(), pairs.value.clone())
    other.value[..., 32:] += 1
    hidden = noise(2, CHANNELS, HEIGHT, WIDTH, seed=4)
    with torch.no_grad():
        for each in (pairs, other):
            block(hidden, position(), each, None)
    torch.testing.assert_close(answers[0][..., :32], answers[1][..., :32])
    torch.testing.assert_close(answers[0][..., 32:] + 1, answers[1][..., 32:])


def test_target_landmarks_act_through_m_align() -> None:
    block = awake(make_block())
    assert not torch.allclose(
        run(block), run(block, target_tokens=noise(2, 68, TOKENS, seed=8)), atol=1e-3
    )


def test_without_m_align_target_landmarks_have_no_influence() -> None:
    block = awake(make_block(m_align=False))
    assert block.landmark_pairs(noise(1, 68, TOKENS)) is None
    torch.testing.assert_close(
        run(block), run(block, target_tokens=noise(2, 68, TOKENS, seed=8)), atol=0, rtol=0
    )


def test_reference_features_and_their_labels_act_through_r_align() -> None:
    block = awake(make_block())
    other_features = noise(1, HEIGHT * WIDTH, CHANNELS, seed=8)
    assert not torch.allclose(run(block), run(block, features=other_features), atol=1e-3)
    other_labels = noise(1, 68, TOKENS, seed=8)
    assert not torch.allclose(run(block), run(block, reference_tokens=other_labels), atol=1e-4)


def test_without_r_align_the_reference_has_no_influence() -> None:
    block = awake(make_block(r_align=False))
    other = noise(1, HEIGHT * WIDTH, CHANNELS, seed=8)
    torch.testing.assert_close(run(block), run(block, features=other), atol=0, rtol=0)


def test_switches_remove_parameters() -> None:
    full = names(make_block())
    without_r = names(make_block(r_align=False))
    assert full - without_r == {
        "r_norm.weight", "r_norm.bias", "reference_norm.weight", "reference_norm.bias",
        "r_query.weight", "r_key.weight", "r_value.weight", "r_out.weight", "r_out.bias",
        "extra_key", "extra_value",
    }  # fmt: skip
    # R-Align labels its features with M-Align's weights, so those go only when both are off
    assert names(make_block(m_align=False)) == full
    without_both = names(make_block(m_align=False, r_align=False))
    assert not {name for name in without_both if name.startswith(("m_", "r_", "extra"))}


def test_learned_pairs_answer_where_the_reference_has_nothing() -> None:
    block = awake(make_block())
    pairs = block.reference_pairs(
        noise(1, HEIGHT * WIDTH, CHANNELS), noise(1, 68, TOKENS), position()
    )
    assert pairs is not None
    assert pairs.key.shape == pairs.value.shape == (1, HEIGHT * WIDTH + 16, CHANNELS)
    torch.testing.assert_close(pairs.key[0, -16:], block.extra_key)


def test_pairs_made_once_serve_every_frame() -> None:
    block = awake(make_block())
    features, tokens = noise(1, HEIGHT * WIDTH, CHANNELS, seed=3), noise(1, 68, TOKENS, seed=2)
    per_frame = run(
        block, features=features.repeat(2, 1, 1), reference_tokens=tokens.repeat(2, 1, 1)
    )
    once = run(block, features=features, reference_tokens=tokens)
    torch.testing.assert_close(once, per_frame, atol=1e-5, rtol=1e-5)


def test_reference_pairs_are_dropped_in_training_only() -> None:
    block = awake(make_block())
    torch.testing.assert_close(run(block), run(block), atol=0, rtol=0)
    block.train()
    torch.manual_seed(0)
    first = run(block)
    assert not torch.allclose(first, run(block), atol=1e-4)


@pytest.mark.parametrize("reference_places", [True, False])
def test_r_align_with_places_begins_by_looking_at_the_same_place(reference_places: bool) -> None:
    torch.manual_seed(0)
    block = TalkFormerBlock(CHANNELS, TOKENS, m_align=False, reference_places=reference_places)
    block.r_out.weight.data = torch.eye(CHANNELS)
    height, width = 10, 12
    places = cell_centres(0, 0, height, width, 16, torch.device("cpu"))
    where = fourier_features(places)
    pairs = block.reference_pairs(noise(1, height * width, CHANNELS), noise(1, 68, TOKENS), where)
    assert pairs is not None
    # Were the values each cell's height, what would the frame's cells fetch?
    pairs.value.zero_()
    pairs.value[0, : len(places)] = places[:, 1:]
    hidden = noise(1, CHANNELS, height, width, seed=1)
    fetched = (block.eval()(hidden, where, None, pairs) - hidden).mean(dim=1).flatten()
    r = float(torch.corrcoef(torch.stack([fetched, places[:, 1]]).detach())[0, 1])
    assert (r > 0.6) is reference_places, r


def test_reference_pairs_keep_autocasts_arithmetic() -> None:
    block = make_block()
    features, tokens = noise(1, HEIGHT * WIDTH, CHANNELS, seed=3), noise(1, 68, TOKENS, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pairs = block.reference_pairs(features, tokens, position())
    assert pairs is not None
    assert {pairs.key.dtype, pairs.value.dtype} == {torch.bfloat16}
