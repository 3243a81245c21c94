from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from model.errors import ShapeError
from model.face.landmarks import CONTENT, JAW, NUM_LANDMARKS, POSE
from model.networks.landmark_completion import LandmarkCompleter, fit_similarity, lip_opening

FRAMES = 12


@pytest.fixture
def completer() -> LandmarkCompleter:
    torch.manual_seed(0)
    network = LandmarkCompleter(width=32, layers=2, heads=2, window=4)
    with torch.no_grad():  # fresh heads are nearly zero: make the motion visible
        for head in (network.lip_head, network.jaw_head):
            head.weight.mul_(300.0)
    return network.eval()


def make_inputs(
    batch: int = 2, frames: int = FRAMES, references: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    log_mel = torch.randn(batch, 4 * frames, 80, generator=generator)
    reference = torch.rand(batch, references, NUM_LANDMARKS, 2, generator=generator)
    shaken = 0.01 * torch.randn(batch, frames, len(POSE), 2, generator=generator)
    return log_mel, reference[:, :1, list(POSE)] + shaken, reference


def test_shapes(completer: LandmarkCompleter) -> None:
    output = completer(*make_inputs(references=3))
    assert output.content.shape == (2, FRAMES, 31, 2)
    assert output.target.shape == (2, FRAMES, 68, 2)
    assert output.offsets.shape == (2, FRAMES, 31, 2)
    assert output.mouth_open.shape == (2, FRAMES)
    assert output.phone_logits.shape == (2, 4 * FRAMES, 40)


def test_unlike_lengths_are_refused(completer: LandmarkCompleter) -> None:
    log_mel, pose, reference = make_inputs()
    with pytest.raises(ShapeError, match="log_mel"):
        completer(log_mel[:, :-1], pose, reference)
    with pytest.raises(ShapeError, match="pose"):
        completer(log_mel, pose[:, :, :-1], reference)
    with pytest.raises(ShapeError, match="reference"):
        completer(log_mel, pose, reference[:, 0])


def test_zero_offsets_keep_the_references_mouth(completer: LandmarkCompleter) -> None:
    log_mel, pose, reference = make_inputs()
    turn = torch.tensor([[1.1, -0.2], [0.2, 1.1]])
    pose = reference[:, :, list(POSE)].expand_as(pose) @ turn.T + 0.05
    with torch.no_grad():
        for head in (completer.lip_head, completer.jaw_head, completer.rest_head[-1]):
            head.weight.zero_()
            head.bias.zero_()
        content = completer(log_mel, pose, reference).content
    carried = reference[:, :, list(CONTENT)] @ turn.T + 0.05
    torch.testing.assert_close(content, carried.expand_as(content), atol=1e-5, rtol=0)


def test_similarity_is_recovered() -> None:
    source = torch.rand(3, 37, 2)
    turn = torch.tensor([[0.9, -0.3], [0.3, 0.9]])
    linear, shift = fit_similarity(source, source @ turn.T + torch.tensor([0.1, -0.2]))
    torch.testing.assert_close(linear, turn.expand(3, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(shift, torch.tensor([0.1, -0.2]).expand(3, 2), atol=1e-5, rtol=0)


def test_coordinates_stay_exact_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = 0.2 + 0.6 * torch.rand(1, NUM_LANDMARKS, 2, generator=generator)
    pose = reference[:, None, list(POSE)].expand(1, 50, -1, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        placed = LandmarkCompleter.place(reference, pose, torch.zeros(1, 50, len(CONTENT), 2))
        linear, shift = fit_similarity(pose, pose)
    assert (placed - reference[:, None, list(CONTENT)]).abs().max() < 1e-5
    assert (linear - torch.eye(2)).abs().max() < 1e-5
    assert shift.abs().max() < 1e-5


def test_a_ramp_of_lip_gaps_keeps_its_steps_under_autocast() -> None:
    reference = torch.rand(1, NUM_LANDMARKS, 2, generator=torch.Generator().manual_seed(0))
    pose = reference[:, None, list(POSE)].expand(1, 50, -1, -1)
    offsets = torch.zeros(1, 50, len(CONTENT), 2)
    offsets[..., 1] = torch.linspace(0.0, 0.02, 50)[None, :, None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        placed = LandmarkCompleter.place(reference, pose, offsets)
    velocity = placed[..., 1].diff(dim=1)
    torch.testing.assert_close(velocity, offsets[..., 1].diff(dim=1), atol=1e-6, rtol=0)


def test_pose_points_are_those_given(completer: LandmarkCompleter) -> None:
    log_mel, pose, reference = make_inputs()
    target = completer(log_mel, pose, reference).target
    assert torch.equal(target[:, :, list(POSE)], pose)


def test_the_voice_moves_the_mouth(completer: LandmarkCompleter) -> None:
    log_mel, pose, reference = make_inputs()
    with torch.no_grad():
        one = completer(log_mel, pose, reference).target
        other = completer(log_mel.flip(1), pose, reference).target
    assert float((lip_opening(one) - lip_opening(other)).abs().max()) > 1e-3


def test_pieces_equal_the_whole(completer: LandmarkCompleter) -> None:
    log_mel, pose, reference = make_inputs(batch=1, frames=600)
    with torch.no_grad():
        whole = completer(log_mel, pose, reference).target
    pieces = completer.complete(log_mel, pose, reference, chunk=128)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=0)


def test_batch_equals_one_by_one(completer: LandmarkCompleter) -> None:
    inputs = make_inputs(batch=8)
    with torch.no_grad():
        together = completer(*inputs).target
        alone = torch.cat([completer(*(x[i : i + 1] for x in inputs)).target for i in range(8)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_saved_and_loaded_gives_the_same(completer: LandmarkCompleter, tmp_path: Path) -> None:
    completer.save_pretrained(tmp_path)
    loaded = LandmarkCompleter.from_pretrained(tmp_path).eval()
    inputs = make_inputs()
    with torch.no_grad():
        assert torch.equal(loaded(*inputs).target, completer(*inputs).target)
    assert loaded.receptive_field == completer.receptive_field


def test_gradients_reach_every_parameter_after_one_step() -> None:
    torch.manual_seed(0)
    network = LandmarkCompleter(width=32, layers=2, heads=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        output = network(*make_inputs(references=2))
        loss = (output.content**2).sum() + (output.mouth_open**2).sum()
        loss = loss + (output.phone_logits**2).mean()
        loss.backward()
        optimizer.step()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.abs().sum() > 0)
    ]
    assert without == []


@pytest.mark.parametrize("rest_layers", [0, 2])
def test_without_speech_offsets_every_frame_is_the_resting_mouth(rest_layers: int) -> None:
    torch.manual_seed(0)
    network = LandmarkCompleter(width=32, layers=1, heads=2, rest_layers=rest_layers).eval()
    log_mel, _, reference = make_inputs()
    pose = reference[:, :, list(POSE)].expand(-1, FRAMES, -1, -1)
    with torch.no_grad():
        network.rest_head[-1].weight.mul_(100.0)
        for head in (network.lip_head, network.jaw_head):
            head.weight.zero_()
            head.bias.zero_()
        content = network(log_mel, pose, reference).content
        resting = network.resting(reference[:, 0])
    assert float((resting - reference[:, 0, list(CONTENT)]).abs().max()) > 0.01
    torch.testing.assert_close(content, resting[:, None].expand_as(content), atol=1e-5, rtol=0)


def test_channels_are_dropped_for_all_tokens_alike() -> None:
    torch.manual_seed(0)
    network = LandmarkCompleter(width=32, layers=1, heads=2, dropout=0.5)
    dropout = network.blocks[0].dropout
    hidden = torch.ones(3, 7, 32)
    dropped = dropout.train()(hidden)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropout.eval()(hidden), hidden)


def test_motion_is_scaled_about_the_resting_mouth(completer: LandmarkCompleter) -> None:
    log_mel, pose, reference = make_inputs()
    rest = completer.resting(reference[:, 0])[:, None]
    before = completer(log_mel, pose, reference).offsets + reference[:, :1, list(CONTENT)] - rest
    louder = copy.deepcopy(completer)
    louder.scale_motion(width=1.5, opening=2.0, jaw=2.0)
    after = louder(log_mel, pose, reference).offsets + reference[:, :1, list(CONTENT)] - rest
    lips = slice(len(JAW), None)
    torch.testing.assert_close(after[:, :, lips, 0], 1.5 * before[:, :, lips, 0])
    torch.testing.assert_close(after[..., 1], 2.0 * before[..., 1])
    torch.testing.assert_close(after[:, :, : len(JAW), 0], before[:, :, : len(JAW), 0])
