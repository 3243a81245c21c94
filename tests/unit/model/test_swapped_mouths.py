"""Whose mouth is drawn: the target's, whatever the source's own does."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from model.data.clips import find_landmarks
from model.data.tracks import face_detector
from model.face.alignment import invert_affine, warp_points
from model.face.landmarks import LOWER_INNER_LIP, LOWER_OUTER_LIP, mouth_opening, mouth_width
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
SHARE = 0.03
"""Of the mouth's width, by which another source may move the drawn opening."""


def opened(face: Points, by: float) -> Points:
    """A face whose lower lip and jaw are lowered by a share of the mouth's width."""
    target = face.copy()
    target[[*range(5, 12), *LOWER_OUTER_LIP, *LOWER_INNER_LIP], 1] += by * mouth_width(face)
    return target


def in_pixels(plan: RenderPlan, face: Points) -> Points:
    return warp_points(invert_affine(plan.affine(0)), face)


def draw(pipeline: TalkingFacePipeline, plan: RenderPlan, targets: Points) -> Image:
    drawn = dataclasses.replace(plan, target_landmarks=targets)
    return np.concatenate(list(pipeline.render(drawn, 0, len(targets))))


def test_the_source_s_own_mouth_hardly_moves_the_drawn_opening(
    portrait: Image, speech: NDArray[np.float32]
) -> None:
    pipeline = load_pipeline()
    options = RenderOptions(preset="fast")
    plan = pipeline.prepare(portrait, speech, options)
    openings = np.linspace(0.0, 0.3, plan.num_frames)
    targets = np.stack([opened(plan.reference_landmarks, x) for x in openings])
    places = np.stack([in_pixels(plan, face) for face in targets])

    sources = [plan]
    picture = draw(pipeline, plan, targets)[int(np.searchsorted(openings, 0.25))]
    sources.append(
        pipeline.prepare(picture, speech, options)
    )  # the same photograph, its mouth open
    shown = [mouth_opening(x.reference_landmarks) for x in sources]
    assert shown[1] - shown[0] > 0.15, "the sources' mouths are to differ"

    found = []
    for source in sources:
        same_places = np.stack([warp_points(source.affine(0), face) for face in places])
        frames = draw(pipeline, source, same_places)
        found.append(mouth_opening(find_landmarks(face_detector(), list(frames), places)))
    spread = np.ptp(np.stack(found), axis=0)
    assert np.nanmean(found[0][-3:]) > 0.2, "and the drawn ones open"
    assert np.nanmedian(spread) <= SHARE and np.nanmax(spread) <= 2 * SHARE
