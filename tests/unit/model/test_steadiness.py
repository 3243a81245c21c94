from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.data.clips import Clip, ClipFrames
from model.evaluation.protocols.steadiness import (
    Steadiness,
    mean_changes,
    real_changes,
    skin_around,
    stillest,
)
from model.evaluation.protocols.video import REAL, System
from model.face.average_face import AVERAGE_FACE
from model.face.detection import MediaPipeFaceDetector
from model.face.landmarks import CONTOUR, OUTER_LIPS
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import load_pipeline

ROOT = Path(__file__).resolve().parents[3]
FRAMES = 36
LOWER = [5, 6, 7, 8, 9, 10, 11, 55, 56, 57, 58, 59, 65, 66, 67]


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    with Image.open(ROOT / "examples" / "portrait.jpg") as file:
        return np.asarray(file.convert("RGB").resize((224, 224)), np.uint8)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """An average face of 160 px that speaks, and rests in frames 14 to 26."""
    faces = np.repeat(AVERAGE_FACE[None] * np.float32(160), FRAMES, axis=0)
    moved = 7 * (1 - np.cos(np.arange(FRAMES) * np.pi / 6))
    moved[14:27] = moved[14]
    faces[:, LOWER, 1] += moved[:, None].astype(np.float32)
    found = np.ones(FRAMES, bool)
    return Clip("clip", faces, found, np.zeros(640 * FRAMES, np.float32), None)


@pytest.fixture(scope="module")
def film() -> ClipFrames:
    """A camera's noise around one grey; nothing else changes."""
    noise = np.random.default_rng(0).normal(128, 3, (FRAMES, 180, 180, 3))
    return ClipFrames(np.clip(noise, 0, 255).astype(np.uint8))


def preview(kind: type[System] = System) -> System:
    pipeline = load_pipeline(device="cpu")
    pipeline.detector = MediaPipeFaceDetector()
    return kind("ours", pipeline, "preview", 0)


class Nervous(System):
    """Every frame is brighter or darker than the one before, and more so where a batch begins."""

    def draw(self, plan: RenderPlan) -> Iterator[NDArray[np.uint8]]:
        light = 0
        for number, frame in enumerate(super().draw(plan)):
            light = (12 if number % plan.batch_size == 0 else 4) - light
            yield np.clip(frame.astype(np.int16) + light, 0, 255).astype(np.uint8)


def test_the_change_of_a_mask_is_its_mean_difference() -> None:
    dark, bright = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 200, np.uint8)
    bright[0] = 100
    top = np.zeros((4, 4), bool)
    top[0] = True
    np.testing.assert_array_equal(mean_changes([dark, bright, bright, dark], top), [100, 0, 100])


def test_the_stillest_stretch_is_where_the_lips_rest(clip: Clip) -> None:
    assert stillest(clip.crop_landmarks, 12) == slice(14, 27)
    assert stillest(clip.crop_landmarks[:5], 12) == slice(0, 5)


def test_skin_around_the_lips_has_neither_lips_nor_surroundings() -> None:
    mask = np.zeros((256, 256), bool)
    mask[128:] = True
    skin = skin_around(mask, AVERAGE_FACE[None])
    rows, columns = (AVERAGE_FACE[list(OUTER_LIPS), ::-1] * 256).astype(int).T
    assert not skin[rows, columns].any() and not skin[:128].any()
    row, column = (AVERAGE_FACE[CONTOUR[4], ::-1] * 256).astype(int)
    assert skin[row, column]


def test_a_real_clip_changes_as_its_camera_does(clip: Clip, film: ClipFrames) -> None:
    changes = real_changes(clip, film)
    assert changes["clip_change"] == pytest.approx(changes["still_change"], rel=0.1)
    frozen = ClipFrames(np.repeat(film.frames[:1], FRAMES, axis=0))
    assert real_changes(clip, frozen)["skin_change"] < 0.1 * changes["skin_change"]


def test_preview_holds_still(photograph: NDArray[np.uint8], clip: Clip, film: ClipFrames) -> None:
    protocol = Steadiness()
    protocol.add("ours", "nobody", photograph, clip, film, preview())
    table = protocol.figures()
    ours, real = table["ours"], table[REAL]
    assert ours["constant_change"] == 0 and ours["batch_change"] == 0
    assert ours["border_ratio"] == 1
    assert 0 < ours["noise_change"] < 5
    assert ours["noise_over_clip"] == pytest.approx(ours["noise_change"] / real["clip_change"])
    # Lips move, and skin that is far from them hardly.
    assert ours["skin_change"] < 1


def test_flicker_and_jumps_are_seen(
    photograph: NDArray[np.uint8], clip: Clip, film: ClipFrames
) -> None:
    protocol = Steadiness()
    protocol.add("nervous", "nobody", photograph, clip, film, preview(Nervous))
    figures = protocol.figures()["nervous"]
    assert figures["constant_change"] >= 4
    assert figures["border_ratio"] > 1.2
    assert figures["batch_change"] >= 4
