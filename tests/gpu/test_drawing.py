"""What ships, drawn on CUDA: films, several references, the detail network, frames finished on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.networks.attention import attention, use_backend, xformers_fault
from model.pipelines.drawing import PlanDrawer
from model.pipelines.outputs import Footage, RenderPlan
from model.pipelines.scenes import plan_batches
from model.pipelines.talking_face import TalkingFacePipeline
from tests.gpu_plans import example_picture, example_plan, load_example_pipeline

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

FRAMES = 10


@pytest.fixture(scope="module")
def pipeline() -> TalkingFacePipeline:
    return load_example_pipeline("cuda", "fp16")


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 10 * float(np.log10(255.0**2 / max(error, 1e-9)))


def draw(pipeline: TalkingFacePipeline, plan: RenderPlan, on_device: bool) -> NDArray[np.uint8]:
    networks = pipeline.networks
    drawer = PlanDrawer(plan, networks, pipeline.inner_mouths, "", on_device=on_device)
    return np.concatenate([drawer.draw(batch) for batch in plan_batches(plan, 0, plan.num_frames)])


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("preset", ["preview", "fast", "quality"])
def test_frames_of_the_device_are_those_of_the_cpu(
    pipeline: TalkingFacePipeline, preset: str, references: int
) -> None:
    assert pipeline.networks.detail is not None
    plan = example_plan(pipeline, preset, FRAMES / 25, 320, references=references)
    on_device, on_cpu = (draw(pipeline, plan, place) for place in (True, False))
    assert psnr_db(on_device, on_cpu) > 45
    assert np.abs(on_device.astype(int) - on_cpu).max() < 24


class Repeated:
    """A film of one picture."""

    fps = 25.0

    def __init__(self, picture: NDArray[np.uint8], num_frames: int) -> None:
        self._picture, self.num_frames = picture, num_frames
        self.height, self.width = picture.shape[:2]

    def read(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        yield from [self._picture] * (stop - start)


def test_a_film_is_drawn_in_fp16_as_in_fp32(pipeline: TalkingFacePipeline) -> None:
    still = example_plan(pipeline, "balanced", FRAMES / 25, 320, motion="still")
    count = still.num_frames
    footage = Footage(
        frames=Repeated(example_picture(320), count),
        source_index=np.arange(count),
        landmarks=np.repeat(still.reference_landmarks[None], count, axis=0),
        hidden=np.zeros(count, np.bool_),
        share=np.ones(count, np.float32),
    )
    plan = dataclasses.replace(
        still,
        crop_affine=np.repeat(still.crop_affine[None], count, axis=0),
        reference_affine=still.crop_affine,
        footage=footage,
        head=None,
    )
    half = np.concatenate(list(pipeline.render(plan)))
    exact_pipeline = load_example_pipeline("cuda", "fp32")
    exact = np.concatenate(list(exact_pipeline.render(dataclasses.replace(plan))))
    assert (half != example_picture(320)).any()
    assert psnr_db(half, exact) > 40


def test_xformers_takes_expanded_keys() -> None:
    device = torch.device("cuda")
    fault = xformers_fault(device, torch.float16)
    if fault is not None:
        pytest.skip(fault)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(4, 576, 96, generator=generator).to(device, torch.float16)
    pairs = torch.randn(2, 1, 592, 96, generator=generator).to(device, torch.float16)
    key, value = pairs.expand(-1, 4, -1, -1)
    assert key.stride(0) == 0
    with use_backend("sdpa"):
        wanted = attention(query, key, value, 3)
    with use_backend("xformers"):
        torch.testing.assert_close(attention(query, key, value, 3), wanted, atol=0.02, rtol=0.02)


def test_halves_are_drawn_where_memory_is_short(pipeline: TalkingFacePipeline) -> None:
    """A real out-of-memory error, of a device that may use little."""
    plan = dataclasses.replace(example_plan(pipeline, "fast", 1.3, 320), batch_size=32)
    whole = draw(pipeline, plan, True)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    held = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (held + 48 * 2**20) / total))
    try:
        parts = draw(pipeline, plan, True)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert psnr_db(parts, whole) > 40
