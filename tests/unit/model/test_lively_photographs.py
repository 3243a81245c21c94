"""A photograph that moves by its own voice, through the pipeline; small networks with random weights."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoints import write_manifest
from model.face.head_motion import HeadMotion
from model.pipelines.head_paths import close_loop, voice_path, without_blinks
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import HeadPath, RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

Image = NDArray[np.uint8]
Waveform = NDArray[np.float32]


def drawn(pipeline: TalkingFacePipeline, plan: RenderPlan, *numbers: int) -> list[Image]:
    return [np.concatenate(list(pipeline.render(plan, n, n + 1)))[0] for n in numbers]


def test_still_without_blinks_is_the_video_of_before(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    before = pipeline.prepare(portrait, speech, RenderOptions(preset="preview"))
    still = RenderOptions(preset="preview", motion="still", blink=False)
    plan = pipeline.prepare(portrait, speech, still)
    assert plan.head is None and (plan.motion, plan.blink) == (0.0, False)
    frames = zip(drawn(pipeline, plan, 3, 11), drawn(pipeline, before, 3, 11), strict=True)
    for frame, other in frames:
        np.testing.assert_array_equal(frame, other)
        mask = pipeline.soft_mask(plan)
        np.testing.assert_array_equal(frame[~mask], portrait[~mask])


@pytest.mark.parametrize("preset", ["preview", "fast"])
def test_a_photograph_speaks_first_and_is_then_moved(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform, preset: str
) -> None:
    options = RenderOptions(preset=preset, motion=1.5, blink=True, seed=2)
    plan = pipeline.prepare(portrait, speech, options)
    still = pipeline.prepare(portrait, speech, RenderOptions(preset=preset, seed=2))
    assert plan.head is not None and len(plan.head.motion) == plan.num_frames == 23
    assert (plan.motion, plan.blink, plan.looped, plan.held_frames) == (1.5, True, False, ())
    # its mouth says the same
    np.testing.assert_array_equal(plan.target_landmarks, still.target_landmarks)
    (moved,), (spoken,) = drawn(pipeline, plan, 20), drawn(pipeline, still, 20)
    assert (moved != spoken).any()
    mask = pipeline.soft_mask(plan, 20)
    np.testing.assert_array_equal(moved[~mask], portrait[~mask])
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        np.testing.assert_array_equal(moved[edge], spoken[edge])


def test_the_seed_decides_and_the_same_plan_comes_back_from_a_file(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform, tmp_path: Path
) -> None:
    options = RenderOptions(preset="preview", motion="natural", blink=True, seed=5, loop=True)
    plan, again = (pipeline.prepare(portrait, speech, options) for _ in range(2))
    plan.save(tmp_path / "plan.npz")
    loaded = RenderPlan.load(tmp_path / "plan.npz")
    assert (loaded.motion, loaded.blink, loaded.loop) == (1.0, True, True)
    for other in (again, loaded):
        assert plan.head is not None and other.head is not None
        for field in dataclasses.fields(HeadMotion):
            np.testing.assert_array_equal(
                getattr(other.head.motion, field.name), getattr(plan.head.motion, field.name)
            )


def test_a_plan_of_before_still_loads(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform, tmp_path: Path
) -> None:
    """Plans had neither turns in depth nor motion, blink and loop."""
    plan = pipeline.prepare(portrait, speech, RenderOptions(preset="preview"))
    zeros, pairs = np.zeros(23, np.float32), np.zeros((23, 2), np.float32)
    head = HeadPath(HeadMotion(zeros, zeros, pairs, pairs + 1, pairs), np.arange(23))
    dataclasses.replace(plan, head=head).save(tmp_path / "plan.npz")
    with np.load(tmp_path / "plan.npz") as file:
        arrays = {name: file[name] for name in file.files}
    assert "head_angles" not in arrays
    values = json.loads(str(arrays.pop("values")))
    for name in ("motion", "blink", "loop"):
        del values[name]
    np.savez(tmp_path / "old.npz", values=np.array(json.dumps(values)), **arrays)
    old = RenderPlan.load(tmp_path / "old.npz")
    assert old.head is not None and old.head.motion.angles is None
    assert (old.motion, old.blink, old.loop) == (0.0, False, False)


@pytest.mark.parametrize("preset", ["preview", "fast"])
def test_the_last_frame_of_a_loop_is_its_first(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform, preset: str
) -> None:
    options = RenderOptions(preset=preset, motion=1.0, blink=True, loop=True)
    plan = pipeline.prepare(portrait, speech, options)
    frames = np.concatenate(list(pipeline.render(plan)))
    np.testing.assert_array_equal(frames[-1], frames[0])
    assert (frames[11] != frames[0]).any()


def test_a_loop_s_mouth_comes_back_smoothly() -> None:
    faces = np.cumsum(np.full((30, 68, 2), 0.01, np.float32), axis=0)
    closed = close_loop(faces, 25.0)
    np.testing.assert_array_equal(closed[-1], faces[0])
    np.testing.assert_array_equal(closed[:20], faces[:20])
    assert np.abs(np.diff(closed, axis=0)).max() < 0.12


def test_a_listening_photograph_keeps_its_mouth_shut(
    pipeline: TalkingFacePipeline, portrait: Image
) -> None:
    silence = np.zeros(32_000, np.float32)
    options = RenderOptions(preset="preview", motion="natural", blink=True)
    plan = pipeline.prepare(portrait, silence, options)
    assert plan.num_frames == 50 and plan.head is not None and plan.head.motion.shift.any()
    assert float(np.ptp(plan.target_landmarks, axis=0).max()) == 0


def test_without_a_flow_heads_are_still_and_the_log_says_so(
    pipeline: TalkingFacePipeline,
    portrait: Image,
    speech: Waveform,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline.save_pretrained(tmp_path)
    for file in (tmp_path / "head_flow").iterdir():
        file.unlink()
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index["head_flow"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    write_manifest(tmp_path, model_name="old", version="0")
    old = load_pipeline(tmp_path, device="cpu", dtype="fp32")
    assert old.head_flow is None
    with caplog.at_level(logging.WARNING):
        path = voice_path(None, speech, 25.0, RenderOptions(motion="natural", blink=True))
    assert "no head_flow/" in caplog.text and "still" in caplog.text
    assert path is not None and not path.motion.shift.any()
    assert old.prepare(portrait, speech, RenderOptions(motion="subtle")).head is None


def test_a_saved_pipeline_moves_the_same_way(
    pipeline: TalkingFacePipeline, speech: Waveform, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, device="cpu", dtype="bf16")
    assert loaded.head_flow is not None and loaded.head_flow.head.weight.dtype.is_floating_point
    paths = [
        voice_path(flow, speech, 25.0, RenderOptions(motion=1.0))
        for flow in (pipeline.head_flow, loaded.head_flow)
    ]
    assert paths[0] is not None and paths[1] is not None
    np.testing.assert_allclose(paths[0].motion.shift, paths[1].motion.shift, atol=1e-5)


def test_lids_of_a_driver_can_be_left_out() -> None:
    pairs = np.zeros((4, 2), np.float32)
    motion = HeadMotion(pairs[:, 0], pairs[:, 0], pairs + 0.1, pairs + 0.3, pairs)
    opened = without_blinks(motion)
    assert (opened.lids == 1).all()
    np.testing.assert_array_equal(opened.shift, motion.shift)


@pytest.mark.parametrize("choice", [{"motion": "natural"}, {"motion": 0.0}, {"loop": True}])
def test_a_driver_and_a_motion_of_its_own_are_too_much(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform, choice: dict[str, object]
) -> None:
    class Driver:
        num_frames, width, height, fps = 2, 8, 8, 25.0

        def read(self, start: int, stop: int) -> list[Image]:
            raise AssertionError("nothing is read of it")

    options = RenderOptions(preset="preview", **choice)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="driving video"):
        pipeline.prepare(portrait, speech, options, driving=Driver())  # type: ignore[arg-type]


@pytest.mark.parametrize("motion", ["wild", -0.1, 1.6, float("nan")])
def test_another_motion_is_refused(motion: str | float) -> None:
    with pytest.raises(ValueError, match=r"still, subtle, natural, or a number from 0 to 1.5"):
        RenderOptions(motion=motion)


def test_names_are_strengths() -> None:
    strengths = [
        RenderOptions(motion=name).motion_strength for name in ("still", "subtle", "natural")
    ]
    assert strengths[0] == 0.0 < strengths[1] < strengths[2] == 1.0
    assert RenderOptions().motion_strength == 0.0
