from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import FaceIndexError, FaceTooSmallError, NoFaceError
from model.face.alignment import fit_similarity, warp_points
from model.face.landmarks import INNER_LIPS, LOWER_INNER_LIP, POSE
from model.media.frames import FrameSource, VideoFrames
from model.media.video_writer import VideoWriter
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.presets import Region
from model.pipelines.talking_face import TalkingFacePipeline

Image = NDArray[np.uint8]
Waveform = NDArray[np.float32]

NUM_FRAMES = 16
SHORT_GAP = (4, 5)
LONG_GAP = range(9, 15)  # longer than 0.2 s


class Moved:
    """A small copy of the portrait that turns, wanders and comes nearer; hidden in two gaps."""

    def __init__(self, portrait: Image, num_frames: int = NUM_FRAMES, gaps: bool = True) -> None:
        self._picture = np.asarray(cv2.resize(portrait, (320, 320)), np.uint8)
        self.num_frames = num_frames
        self.width, self.height, self.fps = 320, 320, 25.0
        self._hidden = {*SHORT_GAP, *LONG_GAP} if gaps else set()
        self.most_read = 0

    def affine(self, index: int) -> NDArray[np.float64]:
        matrix = cv2.getRotationMatrix2D((160, 160), 0.6 * index - 3, 1 + 0.004 * index)
        matrix[:, 2] += (1.2 * index - 8, 0.5 * index)
        return np.asarray(matrix, np.float64)

    def read(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, stop):
            frame = cv2.warpAffine(
                self._picture, self.affine(index), (320, 320), borderMode=cv2.BORDER_REPLICATE
            )
            if index in self._hidden:  # as if a hand lay over it; no cut
                frame = cv2.GaussianBlur(frame, (0, 0), 40)
            self.most_read = max(self.most_read, index + 1)
            yield np.asarray(frame, np.uint8)


@pytest.fixture(scope="module")
def source(portrait: Image) -> Moved:
    return Moved(portrait)


@pytest.fixture(scope="module")
def plan(pipeline: TalkingFacePipeline, source: Moved, speech: Waveform) -> RenderPlan:
    return pipeline.prepare_video(source, speech, RenderOptions(preset="fast"))


def draw(pipeline: TalkingFacePipeline, plan: RenderPlan, *span: int) -> Image:
    return np.concatenate(list(pipeline.render(plan, *span)))


def shown(plan: RenderPlan) -> list[Image]:
    assert plan.footage is not None
    source = plan.footage.frames
    stored = list(source.read(0, source.num_frames))
    return [stored[index] for index in plan.footage.source_index]


def difference(one: Image, other: Image) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.fixture(scope="module")
def frames(pipeline: TalkingFacePipeline, plan: RenderPlan) -> Image:
    return draw(pipeline, plan)


def test_frames_have_the_footages_size_and_cover_the_sound(
    frames: Image, plan: RenderPlan, source: Moved
) -> None:
    assert frames.shape == (23, 320, 320, 3) and frames.dtype == np.uint8
    assert (plan.num_frames, plan.height, plan.width, plan.fps) == (23, 320, 320, 25.0)
    assert plan.crop_affine.shape == (23, 2, 3)
    assert plan.looped and plan.footage is not None
    assert plan.footage.source_index.tolist() == [*range(16), *range(14, 7, -1)]


@pytest.mark.parametrize("preset", ["fast", "preview"])
def test_pixels_outside_each_frames_soft_mask_are_its_sources_own(
    pipeline: TalkingFacePipeline, plan: RenderPlan, preset: str
) -> None:
    if preset == "preview":
        plan = dataclasses.replace(plan, preset=preset, num_inference_steps=0)
    pictures = shown(plan)
    drawn = draw(pipeline, plan)
    for index, frame in enumerate(drawn):
        mask = pipeline.soft_mask(plan, index)
        np.testing.assert_array_equal(frame[~mask], pictures[index][~mask])
        if index < LONG_GAP.start:
            assert 0.02 < mask.mean() < 0.3
    assert difference(drawn[:9], np.stack(pictures[:9])) > 5


def test_a_face_that_is_gone_is_reported_and_left_alone(
    frames: Image, plan: RenderPlan, pipeline: TalkingFacePipeline
) -> None:
    assert plan.held_frames == (*SHORT_GAP, *LONG_GAP)
    assert plan.footage is not None
    pictures = shown(plan)
    for index in LONG_GAP:
        assert plan.footage.hidden[index] and not pipeline.soft_mask(plan, index).any()
        np.testing.assert_array_equal(frames[index], pictures[index])
    for index in SHORT_GAP:  # a blink of the detector
        assert not plan.footage.hidden[index]
        assert difference(frames[index], pictures[index]) > 1


def test_the_mask_moves_with_the_face(
    pipeline: TalkingFacePipeline, plan: RenderPlan, source: Moved
) -> None:
    middles = []
    for index in (0, 3, 8, 15):
        rows, columns = np.nonzero(pipeline.soft_mask(plan, index))
        there = cv2.invertAffineTransform(source.affine(index))
        middles.append(there @ (columns.mean(), rows.mean(), 1.0))
    # carried back into the still picture, all masks lie on one place
    assert np.ptp(np.array(middles), axis=0).max() < 6


def test_lips_and_jaw_follow_each_frames_pose(plan: RenderPlan) -> None:
    assert plan.footage is not None
    pose = list(POSE)
    np.testing.assert_array_equal(plan.target_landmarks[:, pose], plan.footage.landmarks[:, pose])
    at_rest = []
    for face in plan.target_landmarks:
        back = fit_similarity(face[pose], plan.reference_landmarks[pose])
        at_rest.append(warp_points(back, face)[list(INNER_LIPS)].mean(axis=0))
    assert np.ptp(np.array(at_rest), axis=0).max() < 0.03


def test_a_part_equals_the_same_part_of_the_whole(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image
) -> None:
    for start, stop in ((0, 1), (3, 12), (17, 99)):
        assert difference(draw(pipeline, plan, start, stop), frames[start:stop]) == 0


def test_batches_of_eight_equal_batches_of_one(
    pipeline: TalkingFacePipeline, plan: RenderPlan, frames: Image
) -> None:
    single = draw(pipeline, dataclasses.replace(plan, batch_size=1), 2, 7)
    assert difference(single, frames[2:7]) <= 1


def test_between_opened_lips_nothing_of_the_frames_own_mouth_is_seen(
    pipeline: TalkingFacePipeline, portrait: Image, plan: RenderPlan
) -> None:
    """The frame's own teeth, painted green, are gone where the target opens the mouth much wider."""

    class Painted(Moved):
        def read(self, start: int, stop: int) -> Iterator[Image]:
            for index, frame in zip(range(start, stop), super().read(start, stop), strict=True):
                cv2.fillPoly(frame, [own_gaps[index]], (0, 255, 0))
                yield frame

    assert plan.footage is not None
    own_gaps, targets = {}, plan.footage.landmarks.copy()
    lower = [*LOWER_INNER_LIP, *range(55, 60)]
    targets[:, lower, 1] += 0.08
    for index in range(4):
        gap = plan.footage.landmarks[index, list(INNER_LIPS)]
        back = cv2.invertAffineTransform(plan.crop_affine[index])
        own_gaps[index] = np.round(warp_points(back, gap)).astype(np.int32)
    wide = dataclasses.replace(plan, target_landmarks=targets, batch_size=4)
    footage = dataclasses.replace(plan.footage, frames=Painted(portrait))
    painted = draw(pipeline, dataclasses.replace(wide, footage=footage), 0, 4)
    plain = draw(pipeline, wide, 0, 4)
    for index in range(4):
        back = cv2.invertAffineTransform(plan.crop_affine[index])
        corners = warp_points(back, targets[index, list(INNER_LIPS)])
        inside = np.zeros(painted.shape[1:3], np.uint8)
        cv2.fillPoly(inside, [np.round(corners).astype(np.int32)], 1)
        here = cv2.erode(inside, np.ones((5, 5), np.uint8)) > 0
        assert here.sum() > 50
        # paint that came through would be some 200 away; a network may still colour a little
        assert difference(painted[index][here], plain[index][here]) <= 24


@pytest.mark.parametrize("region", ["mouth", "lower_face"])
def test_beyond_the_moved_face_a_frame_is_its_own_whatever_the_networks_draw(
    pipeline: TalkingFacePipeline, plan: RenderPlan, region: Region
) -> None:
    """With the frame's own landmarks as targets nothing moves: only what is drawn may differ."""
    assert plan.footage is not None
    still = dataclasses.replace(plan, target_landmarks=plan.footage.landmarks, region=region)
    drawn, pictures = draw(pipeline, still, 0, 4), shown(plan)[:4]
    changes = [np.abs(x.astype(int) - y).mean() for x, y in zip(drawn, pictures, strict=True)]
    assert max(changes) < 0.5 if region == "mouth" else min(changes) > 0.5


def test_frames_are_read_while_they_are_drawn(
    pipeline: TalkingFacePipeline, portrait: Image, plan: RenderPlan, speech: Waveform
) -> None:
    assert plan.footage is not None
    lazy = Moved(portrait)
    footage = dataclasses.replace(plan.footage, frames=lazy)
    batches = pipeline.render(dataclasses.replace(plan, footage=footage, batch_size=2))
    next(batches)
    assert lazy.most_read < 16
    batches.close()


def test_other_frame_rates_show_the_nearest_frames(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    source = Moved(portrait, gaps=False)
    faster = pipeline.prepare_video(source, speech, RenderOptions(preset="preview", fps=50.0))
    assert faster.footage is not None and faster.num_frames == 45
    assert faster.footage.source_index.tolist()[:6] == [0, 0, 1, 1, 2, 2]
    assert len(draw(pipeline, faster, 29, 33)) == 4


def test_a_single_frame_is_footage_too(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    plan = pipeline.prepare_video(
        Moved(portrait, 1, gaps=False), speech, RenderOptions(preset="preview")
    )
    assert plan.num_frames == 23 and not plan.looped and plan.held_frames == ()
    assert draw(pipeline, plan, 21, 23).shape == (2, 320, 320, 3)


def test_given_references_replace_the_footages_own(
    pipeline: TalkingFacePipeline,
    source: Moved,
    portrait: Image,
    speech: Waveform,
    plan: RenderPlan,
) -> None:
    assert plan.references[0].image.shape == (320, 320, 3)
    assert len(plan.references) == 1
    given = pipeline.prepare_video(
        source,
        speech,
        RenderOptions(preset="fast"),
        references=[portrait, portrait[:, ::-1].copy()],
    )
    assert len(given.references) == 2
    np.testing.assert_array_equal(given.image, portrait)
    assert (given.height, given.width) == (320, 320)
    assert draw(pipeline, given, 0, 2).shape == (2, 320, 320, 3)


def test_a_saved_plan_draws_the_same_frames(
    pipeline: TalkingFacePipeline,
    plan: RenderPlan,
    source: Moved,
    portrait: Image,
    frames: Image,
    tmp_path: Path,
) -> None:
    reference = dataclasses.replace(plan.reference, image=portrait[:64])
    kept = dataclasses.replace(plan, more_references=(reference,))
    kept.save(tmp_path / "plan.npz")
    loaded = RenderPlan.load(tmp_path / "plan.npz", source)
    np.testing.assert_array_equal(loaded.more_references[0].image, portrait[:64])
    assert (loaded.held_frames, loaded.looped) == (plan.held_frames, True)
    single = dataclasses.replace(loaded, more_references=())
    assert difference(draw(pipeline, single, 0, 2), frames[:2]) == 0
    with pytest.raises(ValueError, match="with footage"):
        RenderPlan.load(tmp_path / "plan.npz")


def test_a_video_file_is_dubbed(
    pipeline: TalkingFacePipeline, source: FrameSource, speech: Waveform, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, width=320, height=320) as writer:
        for frame in source.read(0, 8):
            writer.write(frame)
    told: list[str] = []
    plan = pipeline.prepare_video(
        VideoFrames(path), speech, RenderOptions(preset="preview"), on_stage=told.append
    )
    assert told == ["detecting", "landmarks"]
    pictures = shown(plan)
    for index, frame in enumerate(draw(pipeline, plan)):
        mask = pipeline.soft_mask(plan, index)
        np.testing.assert_array_equal(frame[~mask], pictures[index][~mask])


def test_footage_without_the_face_is_refused(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    class Elsewhere(Moved):
        def read(self, start: int, stop: int) -> Iterator[Image]:
            yield from (np.full_like(frame, 90) for frame in super().read(start, stop))

    class Far(Moved):
        def read(self, start: int, stop: int) -> Iterator[Image]:
            for frame in super().read(start, stop):
                far = np.full_like(frame, 128)
                far[:96, :96] = cv2.resize(frame, (96, 96), interpolation=cv2.INTER_AREA)
                yield far

    with pytest.raises(NoFaceError, match="16 frame"):
        pipeline.prepare_video(Elsewhere(portrait), speech)
    with pytest.raises(FaceTooSmallError):
        pipeline.prepare_video(Far(portrait, 3, gaps=False), speech)
    with pytest.raises(FaceIndexError):
        pipeline.prepare_video(Moved(portrait, 2, gaps=False), speech, RenderOptions(face_index=1))


def test_more_references_join_their_keys_and_values(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    single = pipeline.prepare(portrait, speech, RenderOptions(preset="fast"))
    # the same picture twice answers every query as it does once
    twice = dataclasses.replace(single, more_references=(single.reference,))
    alone = draw(pipeline, single, 0, 2)
    assert difference(draw(pipeline, twice, 0, 2), alone) <= 1
    mirrored = pipeline.prepare(
        portrait,
        speech,
        RenderOptions(preset="fast"),
        references=[np.ascontiguousarray(portrait[:, ::-1] // 2)],
    )
    assert len(mirrored.references) == 2
    other = dataclasses.replace(mirrored, target_landmarks=single.target_landmarks)
    assert difference(draw(pipeline, other, 0, 2), alone) > 1
    with pytest.raises(NoFaceError):
        pipeline.prepare(portrait, speech, references=[np.full((256, 256, 3), 90, np.uint8)])
