"""Films of which parts are dubbed, and films shorter than the sound: which frames are the film's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.face.landmarks import CONTENT
from model.media.frames import Ending, shown_numbers
from model.pipelines.dubbed_parts import drawn_share, fade_in
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline
from tests.unit.model.test_dubbing import Moved, draw, shown

Image = NDArray[np.uint8]
PART = (0.16, 0.72)


@pytest.mark.parametrize("fps", [24000 / 1001, 25.0, 60000 / 1001])
def test_a_part_rises_and_falls_inside_its_borders(fps: float) -> None:
    share = drawn_share(round(4 * fps), fps, [(1.0, 2.0), (2.0, 3.0)])

    times_s = (np.arange(len(share)) + 0.5) / fps
    assert not share[(times_s <= 1.0) | (times_s >= 3.0)].any()
    assert (share[(times_s > 1.17) & (times_s < 2.83)] == 1.0).all(), "parts that touch are one"
    assert (share[(times_s > 1.0) & (times_s < 3.0)] > 0.0).all()
    # Over several frames, not at once.
    assert np.abs(np.diff(share)).max() < 0.4
    assert ((share > 0) & (share < 1)).sum() >= 2 * int(0.14 * fps)


def test_the_films_own_ends_are_no_borders() -> None:
    assert (drawn_share(50, 25.0, [(0.0, 2.0)]) == 1.0).all()
    assert drawn_share(50, 25.0, [(0.0, 1.0)])[[0, 30]].tolist() == [1.0, 0.0]


def test_pixels_are_covered_before_shapes_differ() -> None:
    own, drawn = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)

    levels = [int(fade_in(own, drawn, share)[0, 0, 0]) for share in (0.0, 0.1, 0.2, 0.4, 1.0)]

    assert levels == [0, 50, 100, 200, 200]
    assert fade_in(own, drawn, 1.0) is drawn


@pytest.fixture(scope="module")
def plan(pipeline: TalkingFacePipeline, portrait: Image, speech: NDArray[np.float32]) -> RenderPlan:
    source = Moved(portrait, 23, gaps=False)
    return pipeline.prepare_video(source, speech, RenderOptions(preset="fast", dubbed=(PART,)))


def test_outside_the_parts_frames_are_the_films_own_to_the_bit(
    pipeline: TalkingFacePipeline, plan: RenderPlan
) -> None:
    drawn, own = draw(pipeline, plan), shown(plan)

    times_s = (np.arange(23) + 0.5) / 25
    inside = (times_s > PART[0]) & (times_s < PART[1])
    assert inside.sum() == 14
    for index in np.flatnonzero(~inside):
        np.testing.assert_array_equal(drawn[index], own[index])
        assert not pipeline.soft_mask(plan, int(index)).any()
    changed = [np.abs(drawn[n].astype(int) - own[n]).max() for n in range(23)]
    assert min(changed[6:16]) > 8


def test_at_the_borders_the_mouth_comes_from_the_films_own_and_goes_back(plan: RenderPlan) -> None:
    assert plan.footage is not None
    way = np.abs(plan.target_landmarks - plan.footage.landmarks)[:, list(CONTENT)].mean(axis=(1, 2))

    assert not way[:4].any() and not way[18:].any()
    whole = way[8:14].mean()
    assert 0 < way[4] < 0.2 * whole and 0 < way[17] < 0.2 * whole
    assert np.abs(np.diff(way)).max() < 0.6 * way.max()


def test_a_plan_with_parts_is_saved_and_read(plan: RenderPlan, tmp_path: Path) -> None:
    assert plan.footage is not None
    plan.save(tmp_path / "plan.npz")
    read = RenderPlan.load(tmp_path / "plan.npz", plan.footage.frames)
    assert read.footage is not None
    np.testing.assert_array_equal(read.footage.share, plan.footage.share)


@pytest.mark.parametrize(
    ("ending", "numbers"),
    [
        ("bounce", [0, 1, 2, 3, 2, 1, 0, 1, 2]),
        ("repeat", [0, 1, 2, 3, 0, 1, 2, 3, 0]),
        ("freeze", [0, 1, 2, 3, 3, 3, 3, 3, 3]),
        ("cut", [0, 1, 2, 3, 3, 3, 3, 3, 3]),
    ],
)
def test_what_comes_behind_the_last_frame(ending: Ending, numbers: list[int]) -> None:
    assert shown_numbers(9, 4, ending).tolist() == numbers
    assert shown_numbers(3, 4, ending).tolist() == [0, 1, 2]
    assert shown_numbers(3, 1, ending).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("ending", "looped"), [("repeat", True), ("freeze", True)])
def test_a_film_that_is_shorter_does_what_was_asked(
    pipeline: TalkingFacePipeline,
    portrait: Image,
    speech: NDArray[np.float32],
    ending: Ending,
    looped: bool,
) -> None:
    source = Moved(portrait, 8, gaps=False)
    options = RenderOptions(preset="preview", video_shorter=ending)

    plan = pipeline.prepare_video(source, speech, options)

    assert plan.footage is not None and plan.looped is looped
    assert plan.footage.source_index[7:10].tolist() == (
        [7, 0, 1] if ending == "repeat" else [7] * 3
    )
    assert draw(pipeline, plan, 7, 9).shape == (2, 320, 320, 3)
