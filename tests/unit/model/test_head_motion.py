from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import crop_affine, invert_affine, warp_points
from model.face.average_face import AVERAGE_FACE
from model.face.detection import MediaPipeFaceDetector
from model.face.head_motion import HeadMotion, MovedPicture, relative_motion
from model.face.landmarks import CONTENT, INNER_LIPS
from model.face.tracking import FaceTrack
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
FRAMES = 24
UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]


def turning(index: int) -> NDArray[np.float64]:
    matrix = cv2.getRotationMatrix2D((150, 150), 0.4 * index, 1 + 0.002 * index)
    matrix[:, 2] += (0.8 * index, -0.3 * index)
    return np.asarray(matrix, np.float64)


def driver(face: Points, found: NDArray[np.bool_] | None = None) -> FaceTrack:
    """A face in pixels that turns, with a blink from frame 10 to 13 and rising brows."""
    frames = []
    for index in range(FRAMES):
        moved = face.copy()
        if 10 <= index <= 13:
            moved[UPPER_LIDS] = moved[LOWER_LIDS]
        moved[17:27, 1] -= 0.1 * index
        frames.append(moved @ turning(index)[:, :2].T + turning(index)[:, 2])
    return FaceTrack(
        np.stack(frames).astype(np.float32),
        np.ones(FRAMES, np.bool_) if found is None else found,
        np.ones(FRAMES, np.float32),
        np.zeros(FRAMES, np.int64),
    )


def other_shape(face: Points) -> Points:
    """A longer, wider-jawed face with a larger mouth and other brows."""
    shaped = face.copy()
    shaped[list(CONTENT)] = (face[list(CONTENT)] - face[33]) * (1.25, 1.15) + face[33]
    shaped[17:27, 1] -= 6
    return shaped


NARROW = AVERAGE_FACE * 200 + np.float32(50)
WIDE = other_shape(NARROW)


@pytest.fixture(scope="module")
def face(portrait: Image) -> Points:
    return MediaPipeFaceDetector()(portrait)[0].landmarks


def test_at_rest_the_photograph_is_itself(portrait: Image, face: Points) -> None:
    for shape in (NARROW, WIDE):
        picture = MovedPicture(portrait, face, relative_motion(driver(shape), 25.0), 25.0)
        np.testing.assert_allclose(picture.landmarks(0), face, atol=0.02)
        rest = next(iter(picture.read(0, 1)))
        assert np.abs(rest.astype(int) - portrait).max() <= 2


def test_the_drivers_shape_and_size_do_not_matter(portrait: Image, face: Points) -> None:
    pictures = [
        MovedPicture(portrait, face, relative_motion(driver(shape), 25.0), 25.0)
        for shape in (NARROW, WIDE)
    ]
    half = relative_motion(driver(NARROW * np.float32(0.5)), 25.0)
    for index in (5, 11, 23):
        first, second = (picture.landmarks(index) for picture in pictures)
        assert np.abs(first - second).max() < 0.02 * float(np.ptp(face, axis=0).max())
    # in units of the face, a smaller driver who turns about a point turns no less
    full = relative_motion(driver(NARROW), 25.0)
    np.testing.assert_allclose(half.turn, full.turn, atol=1e-3)
    np.testing.assert_allclose(half.lids, full.lids, atol=1e-3)


def test_the_head_goes_the_drivers_way(portrait: Image, face: Points) -> None:
    motion = relative_motion(driver(NARROW), 25.0)
    assert float(motion.turn[20]) == pytest.approx(np.radians(-8.0), rel=0.15)
    assert float(motion.growth[20]) == pytest.approx(0.04, rel=0.25)
    assert motion.lids[11:13].max() < 0.4 and motion.lids[3:8].min() > 0.9
    assert (motion.lift[20] < -0.003).all()
    picture = MovedPicture(portrait, face, motion, 25.0)
    pose = crop_affine(picture.landmarks(20))
    # mouth and jaw go with the head: in their own crop they are where they were
    still = warp_points(crop_affine(face), face)[list(INNER_LIPS)]
    moved = warp_points(pose, picture.landmarks(20))[list(INNER_LIPS)]
    np.testing.assert_allclose(moved, still, atol=2e-3)


def test_the_picture_moves_as_its_landmarks_say(portrait: Image, face: Points) -> None:
    picture = MovedPicture(portrait, face, relative_motion(driver(NARROW), 25.0), 25.0)
    detector = MediaPipeFaceDetector()
    for index in (6, 20):
        frame = next(iter(picture.read(index, index + 1)))
        found = detector(frame)[0].landmarks
        assert np.abs(found - picture.landmarks(index)).mean() < 1.5
        assert np.abs(found - face).mean() > 3 or index == 6


def test_pixels_far_from_the_head_stay(portrait: Image, face: Points) -> None:
    small = np.full((900, 1200, 3), 77, np.uint8)
    small[300:620, 400:720] = cv2.resize(portrait, (320, 320), interpolation=cv2.INTER_AREA)
    placed = face / 2 + np.float32((400, 300))
    picture = MovedPicture(small, placed, relative_motion(driver(NARROW), 25.0), 25.0)
    frame = next(iter(picture.read(20, 21)))
    np.testing.assert_array_equal(frame[:, :150], small[:, :150])
    np.testing.assert_array_equal(frame[:80], small[:80])
    assert (frame != small).any()


def test_wild_drivers_are_held_back(portrait: Image, face: Points) -> None:
    """No fold: neighbouring pixels keep their order however the driver leaps."""
    track = driver(NARROW)
    wild = FaceTrack(
        np.stack([p + np.float32((40, -30)) * i for i, p in enumerate(track.landmarks)]),
        track.found,
        track.sharpness,
        track.scene,
    )
    motion = relative_motion(wild, 25.0)
    assert np.abs(motion.shift).max() < 0.2 and np.abs(motion.turn).max() < 0.25
    columns = np.linspace(0, 255, portrait.shape[1], dtype=np.float32)
    ramp = np.repeat(np.repeat(columns[None, :, None], portrait.shape[0], 0), 3, 2).astype(np.uint8)
    frame = next(iter(MovedPicture(ramp, face, motion, 25.0).read(23, 24))).astype(int)
    inner = frame[40:-40, 40:-40, 0]
    assert (np.diff(inner[:, ::8], axis=1) >= -1).all()


def test_frames_without_the_driver_are_bridged() -> None:
    found = np.ones(FRAMES, np.bool_)
    found[[0, 5, 6, 7]] = False
    track = driver(NARROW, found)
    track.landmarks[5:8] = track.landmarks[4]
    bridged = relative_motion(track, 25.0)
    whole = relative_motion(driver(NARROW), 25.0)
    np.testing.assert_allclose(
        bridged.turn[6] - bridged.turn[1], whole.turn[6] - whole.turn[1], atol=0.01
    )
    assert float(np.abs(bridged.turn[1])) < 1e-6


def test_other_landmarks_are_refused(portrait: Image) -> None:
    still = HeadMotion(*(np.zeros(s, np.float32) for s in ((1,), (1,), (1, 2), (1, 2), (1, 2))))
    with pytest.raises(ShapeError, match="68"):
        MovedPicture(portrait, np.zeros((5, 2), np.float32), still, 25.0)


class Driver:
    """The portrait itself, turning; shorter than the sound."""

    num_frames, width, height, fps = 8, 320, 320, 25.0

    def __init__(self, portrait: Image) -> None:
        self._picture = np.asarray(cv2.resize(portrait, (320, 320)), np.uint8)

    def read(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, stop):
            moved = cv2.warpAffine(
                self._picture, turning(2 * index), (320, 320), borderMode=cv2.BORDER_REPLICATE
            )
            yield np.asarray(moved, np.uint8)


@pytest.mark.parametrize("preset", ["fast", "preview"])
def test_a_driven_photograph_speaks(
    pipeline: TalkingFacePipeline, portrait: Image, speech: NDArray[np.float32], preset: str
) -> None:
    plan = pipeline.prepare(
        portrait, speech, RenderOptions(preset=preset), driving=Driver(portrait)
    )
    assert (plan.num_frames, plan.looped) == (23, True)
    assert plan.footage is None and plan.head is not None
    assert (plan.height, plan.width) == portrait.shape[:2]
    np.testing.assert_array_equal(plan.image, portrait)
    # It speaks first and is then moved, as one picture.
    still = dataclasses.replace(plan, head=None)
    spoken = np.concatenate(list(pipeline.render(still, 4, 8)))
    frames = np.concatenate(list(pipeline.render(plan, 4, 8)))
    for index, talking, frame in zip(range(4, 8), spoken, frames, strict=True):
        mask = pipeline.soft_mask(plan, index)
        np.testing.assert_array_equal(frame[~mask], portrait[~mask])
        face = warp_points(invert_affine(plan.affine(0)), plan.reference_landmarks)
        mover = MovedPicture(portrait, face, plan.head.motion, plan.fps)
        moved = mover.move(talking, int(plan.head.source_index[index]))
        np.testing.assert_array_equal(frame, moved)
        assert np.abs(frame.astype(int) - talking).max() > 20


def test_a_saved_plan_moves_the_head_alike(
    pipeline: TalkingFacePipeline, portrait: Image, speech: NDArray[np.float32], tmp_path: Path
) -> None:
    plan = pipeline.prepare(
        portrait, speech, RenderOptions(preset="preview"), driving=Driver(portrait)
    )
    plan.save(tmp_path / "plan.npz")
    loaded = RenderPlan.load(tmp_path / "plan.npz")
    assert (loaded.held_frames, loaded.looped) == (plan.held_frames, True)
    for one, other in zip(pipeline.render(plan), pipeline.render(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
