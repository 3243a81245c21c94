from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.data.clips import Clip, ClipFrames
from model.evaluation.observation import Judges
from model.evaluation.protocols.motion import RealMotion, follow_clip, still_plan
from model.evaluation.protocols.video import REAL, System
from model.face.average_face import AVERAGE_FACE
from model.face.detection import MediaPipeFaceDetector
from model.face.landmarks import mouth_opening
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import load_pipeline

ROOT = Path(__file__).resolve().parents[3]
LOWER = [5, 6, 7, 8, 9, 10, 11, 55, 56, 57, 58, 59, 65, 66, 67]


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    with Image.open(ROOT / "examples" / "portrait.jpg") as file:
        return np.asarray(file.convert("RGB").resize((256, 256)), np.uint8)


@pytest.fixture(scope="module")
def system() -> System:
    pipeline = load_pipeline(device="cpu")
    pipeline.detector = MediaPipeFaceDetector()
    return System("ours", pipeline, "preview", 0)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """24 frames of an average face of 160 px that opens its mouth twice."""
    faces = np.repeat(AVERAGE_FACE[None] * np.float32(160), 24, axis=0)
    faces[:, LOWER, 1] += 7 * (1 - np.cos(np.arange(24) * np.pi / 6))[:, None].astype(np.float32)
    return Clip("clip", faces, np.ones(24, bool), np.zeros(640 * 24, np.float32), None)


def noise_film(frames: int) -> ClipFrames:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    return ClipFrames(np.repeat(noise[None], frames, axis=0))


def test_every_third_frame_is_the_same_motion(
    system: System, photograph: NDArray[np.uint8], clip: Clip
) -> None:
    own = still_plan(system, photograph)
    np.testing.assert_array_equal(own.target_landmarks, own.reference_landmarks[None])
    whole, third = follow_clip(own, clip), follow_clip(own, clip, 3)
    assert whole.num_frames == 24 and third.num_frames == 8
    np.testing.assert_array_equal(third.target_landmarks, whole.target_landmarks[::3])
    openings = mouth_opening(whole.target_landmarks)
    assert openings.max() > openings.min() + 0.1


def test_a_driven_photograph_opens_its_mouth(
    system: System, photograph: NDArray[np.uint8], clip: Clip
) -> None:
    protocol = RealMotion(Judges(system.pipeline.detector or MediaPipeFaceDetector()), stride=2)
    protocol.add("nobody", photograph, clip, noise_film(24), system)
    table = protocol.figures()
    ours = table["ours"]
    assert ours["opening_r"] > 0.9 and ours["best_lag"] == 0 and ours["faces_found"] == 1
    assert ours["r_least"] == ours["r_median"] == pytest.approx(ours["opening_r"])
    # The example is an average of faces, smooth by itself: borrowed teeth are sharper than its own lips.
    assert 0.3 < ours["sharpness_mean"] < 6
    # Nothing moves in the film but the landmarks, and noise is as sharp everywhere.
    assert table[REAL]["sharpness_mean"] == pytest.approx(1, abs=0.1)
    assert protocol.sheets["ours: nobody"].shape[0] == 6


class Blurred(System):
    """Draws what it should, through a misted glass."""

    def draw(self, plan: RenderPlan) -> Iterator[NDArray[np.uint8]]:
        for frame in super().draw(plan):
            yield np.asarray(cv2.GaussianBlur(frame, (0, 0), 2.5), np.uint8)


def test_blur_costs_sharpness_and_the_share_says_so(
    system: System, photograph: NDArray[np.uint8], clip: Clip
) -> None:
    protocol = RealMotion(Judges(system.pipeline.detector or MediaPipeFaceDetector()), stride=6)
    misty = Blurred("misty", system.pipeline, "preview", 0)
    for drawer in (system, misty):
        protocol.add("nobody", photograph, clip, noise_film(24), drawer)
    table = protocol.figures()
    assert table["misty"]["sharpness_mean"] < 0.3 * table["ours"]["sharpness_mean"]
    assert table["misty"]["sharp_share"] == 0.0 and table[REAL]["sharp_share"] == 1.0
