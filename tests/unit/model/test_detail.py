"""The detail network and its pass: twice as fine, local, and no picture is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.errors import SamplingError, ShapeError
from model.face.average_face import AVERAGE_FACE
from model.face.reference_warp import ReferenceWarp
from model.networks.detail import SCALE, DetailNetwork, enlarge
from model.networks.latent_window import Window
from model.pipelines.detail import DetailPass, finest_px
from model.pipelines.talking_face import TalkingFacePipeline

WINDOW = Window(48, 16, 80, 96)


def network(seed: int = 0) -> DetailNetwork:
    torch.manual_seed(seed)
    made: DetailNetwork = DetailNetwork(channels=(8, 8, 8), layers=1).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():  # zero-initialised
                parameter.normal_(std=0.05)
    return made


def pictures(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    warped = torch.rand(batch, 3, SCALE * height, SCALE * width, generator=generator) * 2 - 1
    return drawn, warped


def test_begins_as_the_enlarged_crop() -> None:
    drawn, warped = pictures(2, 16, 24)
    torch.testing.assert_close(DetailNetwork()(drawn, warped), enlarge(drawn))


def test_both_pictures_count() -> None:
    drawn, warped = pictures(1, 16, 16)
    made = network()
    with torch.no_grad():
        whole = made(drawn, warped)
        assert whole.shape == (1, 3, 32, 32)
        assert (made(drawn, warped.flip(-1)) - whole).abs().max() > 1e-3
        assert (made(drawn.flip(-1), warped) - whole).abs().max() > 1e-3


def test_a_part_of_the_picture_gives_a_part_of_the_result() -> None:
    drawn, warped = pictures(1, 96, 96)
    made = network()
    with torch.no_grad():
        whole = made(drawn, warped)
        part = made(drawn[..., 4:92, 4:92], warped[..., 8:184, 8:184])
    torch.testing.assert_close(part[..., 72:104, 72:104], whole[..., 80:112, 80:112])


def test_a_batch_gives_what_single_pictures_give() -> None:
    drawn, warped = pictures(3, 16, 16)
    made = network()
    with torch.no_grad():
        single = torch.cat([made(d[None], w[None]) for d, w in zip(drawn, warped, strict=True)])
        torch.testing.assert_close(made(drawn, warped), single)


def test_every_parameter_learns() -> None:
    made = DetailNetwork(channels=(8, 8, 8), layers=1)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    drawn, warped = pictures(2, 16, 16)
    for _ in range(3):  # what begins at zero hides what lies before it for a step
        optimizer.zero_grad()
        (made(drawn, warped) - warped).square().mean().backward()
        optimizer.step()
    assert [n for n, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_saved_and_loaded_it_draws_the_same(tmp_path: Path) -> None:
    made = network()
    made.save_pretrained(tmp_path)
    drawn, warped = pictures(1, 16, 16)
    with torch.no_grad():
        again = DetailNetwork.from_pretrained(tmp_path, low_cpu_mem_usage=False)(drawn, warped)
        torch.testing.assert_close(again, made(drawn, warped))


@pytest.mark.parametrize(
    ("drawn", "warped", "words"),
    [((16, 16), (16, 16), "twice"), ((18, 16), (36, 32), "multiples of 4")],
)
def test_wrong_sizes_are_refused(
    drawn: tuple[int, int], warped: tuple[int, int], words: str
) -> None:
    with pytest.raises(ShapeError, match=words):
        network()(torch.zeros(1, 3, *drawn), torch.zeros(1, 3, *warped))


# --- in the pipeline --------------------------------------------------------------------------------------------------


def photograph(size: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0), np.uint8)


@pytest.mark.parametrize(
    ("native", "with_network", "expected"),
    [
        (100.0, True, 256),
        (100.0, False, 128),  # nothing to add
        (140.0, True, 256),
        (300.0, True, 256),  # hardly more than the network gives
        (350.0, True, 350),
        (900.0, True, 384),
        (140.0, False, 128),
        (200.0, False, 200),
    ],
)
def test_crops_become_as_fine_as_the_face(native: float, with_network: bool, expected: int) -> None:
    assert finest_px(native, 128, network() if with_network else None) == expected


@pytest.mark.parametrize("size", [256, 320])
def test_only_the_window_is_the_networks(size: int) -> None:
    warp = ReferenceWarp(photograph(size), AVERAGE_FACE)
    crops = np.full((2, 128, 128, 3), 90.0, np.float32)
    targets = np.stack([AVERAGE_FACE, AVERAGE_FACE])
    fine = DetailPass(network(), warp, WINDOW)(crops, targets)
    assert [picture.shape for picture in fine] == [(size, size, 3)] * 2
    np.testing.assert_array_equal(fine[0], fine[1])
    plain = DetailPass(DetailNetwork(channels=(8, 8, 8), layers=1), warp, WINDOW)(crops, targets)
    changed = np.abs(fine[0] - plain[0]).max(axis=-1) > 1e-3
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert len(rows)
    margin = 3 * (size > 256)  # of the interpolation beyond
    assert rows[0] >= size * 48 / 128 - margin
    assert columns[0] >= size * 16 / 128 - margin
    assert columns[-1] < size * 112 / 128 + margin


def test_unusable_weights_are_told() -> None:
    broken = network()
    with torch.no_grad():
        broken.conv_out.weight.fill_(float("nan"))
    warp = ReferenceWarp(photograph(256), AVERAGE_FACE)
    with pytest.raises(SamplingError, match="detail network"):
        DetailPass(broken, warp, WINDOW)(np.zeros((1, 128, 128, 3), np.float32), AVERAGE_FACE[None])


def test_a_checkpoint_may_do_without(
    build_tiny: Callable[[], TalkingFacePipeline], tmp_path: Path
) -> None:
    pipeline = build_tiny()
    pipeline.detail = None
    pipeline.save_pretrained(tmp_path)
    assert TalkingFacePipeline.from_pretrained(tmp_path).networks.detail is None
    assert not (tmp_path / "detail").exists()
