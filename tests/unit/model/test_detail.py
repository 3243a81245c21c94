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
from model.networks.detail import SCALE, DetailNetwork, enlarge
from model.networks.latent_window import Window
from model.pipelines.detail import DetailPass
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


def test_only_the_window_is_the_networks() -> None:
    guides = np.stack([photograph(256)] * 2)
    crops = np.full((2, 128, 128, 3), 90.0, np.float32)
    fine = DetailPass(network(), WINDOW)(crops, guides)
    assert fine.shape == (2, 256, 256, 3)
    np.testing.assert_array_equal(fine[0], fine[1])
    plain = DetailPass(DetailNetwork(channels=(8, 8, 8), layers=1), WINDOW)(crops, guides)
    changed = np.abs(fine[0] - plain[0]).max(axis=-1) > 1e-3
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert len(rows)
    assert rows[0] >= 96 and columns[0] >= 32 and columns[-1] < 224


def test_unusable_weights_are_told() -> None:
    broken = network()
    with torch.no_grad():
        broken.conv_out.weight.fill_(float("nan"))
    with pytest.raises(SamplingError, match="detail network"):
        DetailPass(broken, WINDOW)(np.zeros((1, 128, 128, 3), np.float32), photograph(256)[None])


def test_a_checkpoint_may_do_without(
    build_tiny: Callable[[], TalkingFacePipeline], tmp_path: Path
) -> None:
    pipeline = build_tiny()
    pipeline.detail = None
    pipeline.save_pretrained(tmp_path)
    assert TalkingFacePipeline.from_pretrained(tmp_path).networks.detail is None
    assert not (tmp_path / "detail").exists()


def test_what_has_no_room_is_drawn_in_halves() -> None:
    class SmallDevice(DetailNetwork):
        """Has memory for two pictures at once."""

        def forward(self, drawn: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
            if len(drawn) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(drawn, warped)

    rng = np.random.default_rng(3)
    crops = rng.uniform(0, 255, (5, 16, 16, 3)).astype(np.float32)
    guide = rng.integers(0, 256, (5, 32, 32, 3), np.uint8)
    made, small = network(), SmallDevice(channels=(8, 8, 8), layers=1).eval()
    small.load_state_dict(made.state_dict())
    whole = Window(0, 0, 16, 16)
    halves = DetailPass(small, whole)(crops, guide)
    np.testing.assert_allclose(halves, DetailPass(made, whole)(crops, guide), atol=1e-3)
