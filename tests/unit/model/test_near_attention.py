"""Attention in blocks says what attention under a mask says."""

from __future__ import annotations

import pytest
import torch

from model.networks.near_attention import NearBlocks
from model.networks.rotary_layer import RotaryLayer

WINDOW, REFERENCES = 4, 2


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 40, 41])
def test_blocks_equal_dense_attention_under_a_mask(frames: int) -> None:
    torch.manual_seed(0)
    layer = RotaryLayer(width=16, heads=2, dropout=0.0).eval()
    times = torch.cat([torch.zeros(REFERENCES), torch.arange(frames), torch.arange(frames)])
    angles = times[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.03])
    rotation = (angles.cos(), angles.sin())
    is_reference = torch.arange(len(times)) < REFERENCES
    near = (times[:, None] - times[None]).abs() <= WINDOW
    allowed = torch.where(is_reference[:, None], is_reference[None], near | is_reference[None, :])
    forbidden = torch.zeros(allowed.shape).masked_fill(~allowed, -1e4)
    blocks = NearBlocks.of(frames, WINDOW, REFERENCES)
    tokens = torch.randn(2, len(times), 16)

    with torch.no_grad():
        dense = layer(tokens, rotation, forbidden, REFERENCES)
        in_blocks = layer(tokens, rotation, blocks.mask(tokens.device), REFERENCES, blocks)

    torch.testing.assert_close(in_blocks, dense, atol=1e-6, rtol=1e-5)
