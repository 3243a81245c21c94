"""Frames as tensors, held to what NumPy and OpenCV draw; the device here is the CPU."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.face.alignment import crop_affine, warp_points
from model.face.compositing import Compositor
from model.face.detection import MediaPipeFaceDetector
from model.face.head_motion import MovedPicture
from model.motion.head_motion import still_motion
from model.pipelines.device_frames import DeviceFrames, FramePart
from model.pipelines.drawing import PlanDrawer
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.scenes import plan_batches
from model.pipelines.talking_face import TalkingFacePipeline

Image = NDArray[np.uint8]
Waveform = NDArray[np.float32]


def draw(
    pipeline: TalkingFacePipeline, plan: RenderPlan, *, on_device: bool
) -> tuple[Image, NDArray[np.bool_]]:
    """Some frames of the plan, and where they may differ from the photograph."""
    drawer = PlanDrawer(plan, pipeline.networks, pipeline.inner_mouths, "", on_device=on_device)
    assert (drawer.device_frames is not None) == on_device
    frames = np.concatenate([drawer.draw(x) for x in plan_batches(plan, 14, plan.num_frames)])
    return frames, drawer.movable(0)


@pytest.mark.parametrize(
    ("preset", "side", "motion"),
    [("preview", 512, 1.5), ("preview", 200, None), ("balanced", 300, "natural")],
)
def test_tensors_draw_what_numpy_draws(
    pipeline: TalkingFacePipeline,
    portrait: Image,
    speech: Waveform,
    preset: str,
    side: int,
    motion: str | float | None,
) -> None:
    image = np.asarray(cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    options = RenderOptions(preset=preset, motion=motion, blink=motion is not None)  # type: ignore[arg-type]
    plan = pipeline.prepare(image, speech, options)
    expected, movable = draw(pipeline, plan, on_device=False)
    found, _ = draw(pipeline, plan, on_device=True)
    assert found.shape == expected.shape and found.dtype == np.uint8
    apart = np.abs(found.astype(int) - expected)
    # OpenCV rounds places to 1/32 pixel and intermediate pictures to whole levels.
    assert apart.max() <= 6 and (apart > 2).mean() < 1e-4
    assert (expected != image).any(axis=(0, 3)).sum() > 0.02 * side**2
    still = ~movable
    np.testing.assert_array_equal(found[:, still], np.broadcast_to(image, found.shape)[:, still])


def test_eyes_within_the_mask_are_left_to_numpy(portrait: Image) -> None:
    face = MediaPipeFaceDetector()(portrait)[0].landmarks
    affine = crop_affine(face)
    motion = still_motion(4)
    motion.lids[2] = 0
    head = MovedPicture(portrait, face, motion, 25.0)
    faces = warp_points(affine, face)[None]
    whole, below = np.ones((32, 32), np.bool_), np.ones((32, 32), np.bool_)
    below[:20] = False
    assert DeviceFrames.fits(Compositor(portrait, affine, faces, below), head)
    assert not DeviceFrames.fits(Compositor(portrait, affine, faces, whole), head)
    assert DeviceFrames.fits(Compositor(portrait, affine, faces, whole), None)


def test_closed_eyes_are_drawn_too(portrait: Image) -> None:
    face = MediaPipeFaceDetector()(portrait)[0].landmarks
    affine = crop_affine(face)
    motion = still_motion(2)
    motion.lids[1] = 0
    head = MovedPicture(portrait, face, motion, 25.0)
    below = np.zeros((32, 32), np.bool_)
    below[20:, 4:28] = True
    compositor = Compositor(portrait, affine, warp_points(affine, face)[None], below)
    still = np.zeros((1, 1, 2), np.float32)
    nothing, nowhere = np.zeros((0, 0, 3), np.uint8), (slice(0, 0), slice(0, 0))
    frames = DeviceFrames(compositor, head, torch.device("cpu"))
    drawn = frames.draw([FramePart(nothing, nowhere, 256, still, 1)])[0]
    expected = head.move(compositor.paste_mouth(nothing, nowhere, 256, still), 1)
    assert np.abs(drawn.astype(int) - expected).max() <= 2
    assert (drawn[head.eye_boxes[-1]] != portrait[head.eye_boxes[-1]]).any()
