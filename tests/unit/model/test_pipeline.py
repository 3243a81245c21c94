from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from model.errors import (
    AudioTooShortError,
    CheckpointError,
    FaceIndexError,
    NoFaceError,
    SamplingError,
    ShapeError,
)
from model.face.landmarks import INNER_LIPS, POSE, mouth_opening
from model.face.retargeting import uncross_lips
from model.pipelines.denoising import CropSampler, Networks
from model.pipelines.landmark_completion import complete_landmarks
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.parallel import map_ahead
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

Image = NDArray[np.uint8]
Waveform = NDArray[np.float32]
BuildTiny = Callable[[], TalkingFacePipeline]


@pytest.fixture(scope="module")
def plan(pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform) -> RenderPlan:
    return pipeline.prepare(portrait, speech, RenderOptions(preset="fast"))


def draw(pipeline: TalkingFacePipeline, plan: RenderPlan, *span: int) -> Image:
    return np.concatenate(list(pipeline.render(plan, *span)))


def difference(one: Image, other: Image) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.fixture(scope="module")
def frames(pipeline: TalkingFacePipeline, plan: RenderPlan) -> Image:
    return draw(pipeline, plan)


def test_frames_have_the_pictures_size_and_cover_the_sound(
    frames: Image, plan: RenderPlan, portrait: Image
) -> None:
    assert frames.shape == (23, *portrait.shape) and frames.dtype == np.uint8
    assert (plan.num_frames, plan.height, plan.width) == (23, *portrait.shape[:2])
    assert difference(frames[0], frames[8]) > 3  # it moves
    left, top, right, bottom = plan.face_bbox_xyxy
    assert 0 < left < right < plan.width and 0 < top < bottom < plan.height


def test_the_stages_are_told_in_order(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    told: list[str] = []
    pipeline.prepare(portrait, speech, on_stage=told.append)
    assert told == ["detecting", "landmarks"]


def test_pixels_outside_the_soft_mask_are_the_pictures_own(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image, portrait: Image
) -> None:
    outside = ~pipeline.soft_mask(plan)
    assert 0.4 < outside.mean() < 0.95
    for frame in frames:
        np.testing.assert_array_equal(frame[outside], portrait[outside])


def test_a_grey_photograph_stays_grey(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image, portrait: Image
) -> None:
    assert np.ptp(frames[0].astype(int), axis=-1).max() > 20
    grey = np.repeat(portrait.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    drawn = draw(pipeline, dataclasses.replace(plan, image=grey), 0, 2)
    assert np.ptp(drawn.astype(int), axis=-1).max() <= 1


def test_the_same_seed_draws_the_same_frames_and_another_one_others(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image
) -> None:
    again = draw(pipeline, dataclasses.replace(plan), 0, 4)
    assert difference(again, frames[:4]) == 0
    other = draw(pipeline, dataclasses.replace(plan, seed=1), 0, 4)
    assert difference(other, frames[:4]) > 3


def test_a_part_equals_the_same_part_of_the_whole(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image
) -> None:
    for start, stop in ((0, 1), (3, 12), (17, 23), (20, 99)):
        assert difference(draw(pipeline, plan, start, stop), frames[start:stop]) == 0
    assert list(pipeline.render(plan, 23)) == []


def test_whoever_prepares_anew_draws_the_same_part(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform, frames: Image
) -> None:
    """So do the workers of one divided video."""
    anew = pipeline.prepare(portrait, speech, RenderOptions(preset="fast"))
    assert difference(draw(pipeline, anew, 8, 16), frames[8:16]) == 0


def test_batches_are_no_larger_than_the_plan_says(
    pipeline: TalkingFacePipeline, plan: RenderPlan
) -> None:
    assert [len(batch) for batch in pipeline.render(plan, 5, 20)] == [3, 8, 4]


def test_batches_of_eight_equal_batches_of_one(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image
) -> None:
    single = draw(pipeline, dataclasses.replace(plan, batch_size=1), 6, 10)
    assert difference(single, frames[6:10]) <= 1


def test_a_batch_that_has_no_room_is_drawn_in_halves(
    pipeline: TalkingFacePipeline,
    plan: RenderPlan,
    frames: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, sizes = CropSampler.sample, []

    def sample(self: CropSampler, targets: Waveform, warped: Image, background: object) -> Image:
        sizes.append(len(targets))
        if len(targets) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, targets, warped, background)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(CropSampler, "sample", sample)
    # The first batches are smaller.
    drawn = draw(pipeline, dataclasses.replace(plan), 8, 16)

    assert sizes == [8, 4, 2, 2, 2, 2]
    assert difference(drawn, frames[8:16]) <= 2


def test_one_thread_draws_what_several_draw(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        several = draw(pipeline, plan)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        one = draw(pipeline, plan)
    finally:
        torch.set_num_threads(before)
    assert difference(several, one) <= 1 and difference(one, frames) <= 1


def test_constant_landmarks_give_constant_frames(
    pipeline: TalkingFacePipeline, plan: RenderPlan
) -> None:
    still = np.repeat(plan.target_landmarks[7:8], 10, axis=0)
    drawn = draw(pipeline, dataclasses.replace(plan, target_landmarks=still))
    assert max(difference(frame, drawn[0]) for frame in drawn) <= 1


def test_a_saved_pipeline_draws_the_same_frames(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, device="cpu", dtype="fp32")
    assert (loaded.torch_dtype_name, str(loaded.device)) == ("fp32", "cpu")
    assert loaded.weights_sha256 is not None and len(loaded.weights_sha256) == 64
    assert difference(draw(loaded, plan, 0, 8), frames[:8]) <= 1
    preview = dataclasses.replace(plan, preset="preview", num_inference_steps=0)
    assert difference(draw(loaded, preview, 0, 2), draw(pipeline, preview, 0, 2)) == 0


def test_a_damaged_checkpoint_is_not_loaded(pipeline: TalkingFacePipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"unet.*altered"):
        load_pipeline(tmp_path, device="cpu", dtype="fp32")


def test_a_saved_plan_is_the_same_plan(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image, tmp_path: Path
) -> None:
    plan.save(tmp_path / "plan.npz")
    loaded = RenderPlan.load(tmp_path / "plan.npz")
    for field in dataclasses.fields(plan):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(plan, field.name))
    assert difference(draw(pipeline, loaded, 8, 10), frames[8:10]) == 0


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_the_sampler_can_start_from_the_warped_picture(
    pipeline: TalkingFacePipeline, plan: RenderPlan, preset: str
) -> None:
    noise = dataclasses.replace(plan, preset=preset)
    warp = dataclasses.replace(noise, init="warp")
    drawn = draw(pipeline, warp, 0, 2)
    assert difference(drawn, draw(pipeline, noise, 0, 2)) > 3
    assert difference(draw(pipeline, dataclasses.replace(warp, seed=3), 0, 2), drawn) > 3


def test_steps_can_be_chosen(pipeline: TalkingFacePipeline, plan: RenderPlan) -> None:
    more = dataclasses.replace(plan, num_inference_steps=5)
    assert difference(draw(pipeline, more, 0, 1), draw(pipeline, plan, 0, 1)) > 0


def test_other_frame_rates_cover_the_same_time(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform, plan: RenderPlan
) -> None:
    faster = pipeline.prepare(portrait, speech, RenderOptions(preset="preview", fps=30.0))
    assert (faster.num_frames, faster.fps) == (27, 30.0)
    # every sixth frame of 30 is every fifth of 25
    np.testing.assert_allclose(
        faster.target_landmarks[::6], plan.target_landmarks[::5][:5], atol=1e-4
    )
    slower = pipeline.prepare(portrait, speech, RenderOptions(preset="preview", fps=12.5))
    np.testing.assert_allclose(slower.target_landmarks, plan.target_landmarks[::2], atol=1e-4)


def test_calling_the_pipeline_gives_the_whole_video(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    output = pipeline(portrait, speech, RenderOptions(preset="preview"))
    assert output.frames.shape == (23, *portrait.shape) and output.fps == 25


def test_silence_keeps_an_open_mouth_shut(pipeline: TalkingFacePipeline, speech: Waveform) -> None:
    """The astronaut smiles with bare teeth; not so in silence."""
    smiling = pipeline.prepare(skimage.data.astronaut(), np.zeros(16_000, np.float32))
    assert float(mouth_opening(smiling.reference_landmarks)) > 0.1
    assert float(mouth_opening(smiling.target_landmarks).max()) < 0.03
    assert float(np.ptp(smiling.target_landmarks, axis=0).max()) == 0
    np.testing.assert_array_equal(
        smiling.target_landmarks[0, list(POSE)], smiling.reference_landmarks[list(POSE)]
    )
    speaking = pipeline.prepare(skimage.data.astronaut(), speech)
    assert float(np.ptp(mouth_opening(speaking.target_landmarks))) > 0.03


def test_lip_strength_scales_the_motion(
    pipeline: TalkingFacePipeline, plan: RenderPlan, speech: Waveform
) -> None:
    def travel(strength: float) -> float:
        moved = complete_landmarks(
            pipeline.landmark_completer, speech, plan.reference_landmarks, lip_strength=strength
        )
        crossed = moved.copy()
        uncross_lips(crossed)
        np.testing.assert_allclose(crossed, moved, atol=1e-6)  # lips never cross
        return float(np.ptp(moved[:, list(INNER_LIPS)], axis=0).mean())

    assert travel(0.0) == 0.0
    assert travel(0.5) < travel(1.0) < travel(2.0)


def test_non_finite_values_are_drawn_again_in_fp32(
    build_tiny: BuildTiny,
    pipeline: TalkingFacePipeline,
    plan: RenderPlan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Activations beyond fp16, which fp32 holds easily and the next layer normalises."""
    fragile = build_tiny()
    assert fragile.autoencoder.decoder is not None
    with torch.no_grad():
        fragile.autoencoder.decoder.conv_in.weight.mul_(2e5)
        fragile.autoencoder.decoder.conv_in.bias.mul_(2e5)
    again: list[Networks] = []
    in_fp32 = Networks.in_fp32

    def remember(networks: Networks) -> Networks:
        again.append(networks)
        return in_fp32(networks)

    monkeypatch.setattr(Networks, "in_fp32", remember)
    sound = draw(fragile, plan, 0, 2)
    assert not again
    fragile.to(dtype=torch.float16)
    drawn = draw(fragile, plan, 0, 2)
    assert len(again) == 1
    assert np.abs(drawn.astype(int) - sound).mean() < 2
    assert fragile.dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_non_finite_values_in_fp32_too_are_an_error(
    build_tiny: BuildTiny, pipeline: TalkingFacePipeline, plan: RenderPlan, dtype: torch.dtype
) -> None:
    broken = build_tiny()
    with torch.no_grad():
        broken.unet.conv_out.weight[0, 0, 0, 0] = float("nan")
    broken.to(dtype=dtype)
    with pytest.raises(SamplingError, match="fp32 too"):
        draw(broken, plan)


def test_bf16_draws_nearly_what_fp32_draws(
    build_tiny: BuildTiny, pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image
) -> None:
    other = build_tiny().to(dtype=torch.bfloat16)
    assert other.torch_dtype_name == "bf16"
    assert other.landmark_completer.lip_head.weight.dtype == torch.float32
    drawn = draw(other, plan, 0, 4)
    assert np.abs(drawn.astype(int) - frames[:4]).mean() < 1.0


def test_preview_needs_the_inner_mouths(
    build_tiny: BuildTiny, pipeline: TalkingFacePipeline, plan: RenderPlan
) -> None:
    bare = build_tiny()
    assert bare.inner_mouths is None
    preview = dataclasses.replace(plan, preset="preview", num_inference_steps=0)
    with pytest.raises(CheckpointError, match="inner_mouths"):
        draw(bare, preview)


def test_inputs_are_refused_before_any_work(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    told: list[str] = []
    with pytest.raises(AudioTooShortError, match=r"at least 0\.2 s"):
        pipeline.prepare(portrait, speech[:3000], on_stage=told.append)
    with pytest.raises(ShapeError, match="expected \\(H, W, 3\\) uint8"):
        pipeline.prepare(portrait[..., 0], speech, on_stage=told.append)
    with pytest.raises(ShapeError, match="expected \\(N,\\) float32"):
        pipeline.prepare(portrait, speech.astype(np.float64), on_stage=told.append)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="preview, fast, balanced, quality"):
        pipeline.prepare(portrait, speech, RenderOptions(preset="best"), on_stage=told.append)
    assert told == []


def test_a_picture_without_the_face_is_refused(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    with pytest.raises(NoFaceError):
        pipeline.prepare(np.full((256, 256, 3), 90, np.uint8), speech)
    with pytest.raises(FaceIndexError):
        pipeline.prepare(portrait, speech, RenderOptions(face_index=3))


def test_warm_up_draws_without_a_picture(pipeline: TalkingFacePipeline) -> None:
    pipeline.warm_up()
    assert pipeline.detector is not None
    assert pipeline.attention_backend in ("sdpa", "eager", "xformers")


def test_results_come_in_order_and_an_error_ends_the_run() -> None:
    assert list(map_ahead(lambda x: x * x, range(20), 4)) == [x * x for x in range(20)]

    def fail_at_five(x: int) -> int:
        if x == 5:
            raise SamplingError("five")
        return x

    results = map_ahead(fail_at_five, range(20), 3)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(SamplingError, match="five"):
        next(results)
