from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.errors import ShapeError
from model.networks.head_flow import NUM_CHANNELS, HeadFlow

LENGTH = 20


@pytest.fixture
def flow() -> HeadFlow:
    torch.manual_seed(0)
    network = HeadFlow(width=32, layers=2, heads=2).eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


def inputs(batch: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    known = (torch.arange(LENGTH) < 6).float().expand(batch, -1)
    return (
        torch.randn(batch, LENGTH, NUM_CHANNELS),
        torch.rand(batch),
        torch.randn(batch, LENGTH, NUM_CHANNELS),
        known,
        torch.randn(batch, LENGTH, 2),
        torch.rand(batch),
    )


def test_a_batch_gives_what_its_parts_give(flow: HeadFlow) -> None:
    batch = inputs(3)
    together = flow(*batch)
    assert together.shape == (3, LENGTH, NUM_CHANNELS)
    for number in range(3):
        alone = flow(*(value[number : number + 1] for value in batch))
        torch.testing.assert_close(alone[0], together[number], atol=1e-5, rtol=1e-4)


def test_what_is_not_known_does_not_count(flow: HeadFlow) -> None:
    noisy, time, known, is_known, rhythm, manner = inputs(1)
    other = known + 5.0 * (1.0 - is_known)[..., None]
    before = flow(noisy, time, known, is_known, rhythm, manner)
    assert torch.equal(before, flow(noisy, time, other, is_known, rhythm, manner))
    assert not torch.equal(before, flow(noisy, time, known + 1.0, is_known, rhythm, manner))


def test_gradients_reach_every_parameter(flow: HeadFlow) -> None:
    flow(*inputs(2)).square().mean().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_half_a_network_is_the_same_when_read_back(flow: HeadFlow, tmp_path: Path) -> None:
    flow.push_scale.copy_(torch.arange(NUM_CHANNELS))
    torch.nn.Module.half(flow).save_pretrained(tmp_path)
    read = HeadFlow.from_pretrained(tmp_path, low_cpu_mem_usage=False).float().eval()
    assert torch.equal(read.push_scale, torch.arange(NUM_CHANNELS).float())
    torch.testing.assert_close(read(*inputs(1)), flow.float()(*inputs(1)), atol=1e-3, rtol=1e-2)


def test_other_shapes_are_refused(flow: HeadFlow) -> None:
    noisy, time, known, is_known, rhythm, manner = inputs(1)
    with pytest.raises(ShapeError, match=r"\(B, L, 7\)"):
        flow(noisy[..., :3], time, known, is_known, rhythm, manner)
    with pytest.raises(ShapeError, match=r"\(B, L, 2\)"):
        flow(noisy, time, known, is_known, rhythm[:, 1:], manner)
