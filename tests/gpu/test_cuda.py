"""What only a CUDA device can show. The parts are the pipeline's own, at the size that ships."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.face.alignment import invert_affine
from model.face.average_face import AVERAGE_FACE
from model.networks.attention import attention_backend, select_backend, use_backend
from model.networks.autoencoder import build_autoencoder
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.unet import TalkFormerUNet
from model.pipelines.outputs import RenderPlan
from model.pipelines.placement import choose_device, choose_dtype
from model.pipelines.talking_face import TalkingFacePipeline

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def build() -> TalkingFacePipeline:
    torch.manual_seed(3)
    unet = TalkFormerUNet()
    with torch.no_grad():
        for parameter in unet.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return TalkingFacePipeline(
        build_autoencoder(), unet, ReferenceEncoder(), LandmarkCompleter(), build_scheduler()
    )


@pytest.fixture(scope="module")
def plan() -> RenderPlan:
    y, x = np.mgrid[0:400, 0:400] / 400
    image = np.stack([200 * y, 200 * x, 120 + 60 * np.sin(20 * x)], axis=-1).astype(np.uint8)
    targets = np.repeat(AVERAGE_FACE[None], 16, axis=0)
    targets[:, [65, 66, 67], 1] += np.linspace(0, 0.06, 16, dtype=np.float32)[:, None]
    return RenderPlan(
        image=image,
        crop_affine=invert_affine(np.array([(300, 0, 50), (0, 300, 50)], np.float32)),
        reference_landmarks=AVERAGE_FACE,
        target_landmarks=targets,
        face_bbox_xyxy=(100.0, 100.0, 300.0, 300.0),
        fps=25.0,
        preset="balanced",
        num_inference_steps=4,
        init="noise",
        seed=0,
        restore_detail=True,
        batch_size=8,
    )


def draw(pipeline: TalkingFacePipeline, plan: RenderPlan) -> NDArray[np.uint8]:
    return np.concatenate(list(pipeline.render(plan)))


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 10 * float(np.log10(255.0**2 / max(error, 1e-9)))


def test_cuda_and_fp16_are_chosen() -> None:
    device = choose_device("auto")
    assert device.type == "cuda"
    assert choose_dtype("auto", device) == torch.float16


@pytest.mark.skipif(importlib.util.find_spec("xformers") is None, reason="needs xformers")
def test_xformers_is_chosen_and_draws_what_sdpa_draws(plan: RenderPlan) -> None:
    before = attention_backend()
    with use_backend(before):
        assert select_backend("cuda") == "xformers"
        pipeline = build().to("cuda", torch.float16)
        assert pipeline.attention_backend == "xformers"
        drawn = draw(pipeline, plan)
        with use_backend("sdpa"):
            assert psnr_db(draw(pipeline, dataclasses.replace(plan)), drawn) > 40


def test_fp16_draws_what_fp32_draws(plan: RenderPlan) -> None:
    pipeline = build()
    pipeline.to("cuda", torch.float32)
    exact = draw(pipeline, plan)
    pipeline.to("cuda", torch.float16)
    assert (pipeline.torch_dtype_name, pipeline.device.type) == ("fp16", "cuda")
    half = draw(pipeline, plan)
    alpha = pipeline.soft_mask(plan)
    assert psnr_db(half[:, alpha], exact[:, alpha]) > 40


def test_cuda_draws_what_the_cpu_draws(plan: RenderPlan) -> None:
    pipeline = build()
    few = dataclasses.replace(plan, target_landmarks=plan.target_landmarks[:2], batch_size=2)
    on_cpu = draw(pipeline, few)
    pipeline.to("cuda")
    assert pipeline.landmark_completer.lip_head.weight.device.type == "cpu"
    assert psnr_db(draw(pipeline, few), on_cpu) > 40


def test_the_checkpoint_that_ships_draws_in_fp16(plan: RenderPlan) -> None:
    from model.checkpoints import SHIPPED
    from model.pipelines.talking_face import load_pipeline

    if not (Path(SHIPPED) / "manifest.json").is_file():
        pytest.skip("this tree ships no checkpoint")
    pipeline = load_pipeline()
    assert (pipeline.torch_dtype_name, pipeline.device.type) == ("fp16", "cuda")
    half = draw(pipeline, plan)
    pipeline.to(dtype=torch.float32)
    alpha = pipeline.soft_mask(plan)
    assert psnr_db(half[:, alpha], draw(pipeline, plan)[:, alpha]) > 40
