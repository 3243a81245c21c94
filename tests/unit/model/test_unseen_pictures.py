"""Figures of pictures of unseen people, and which pictures training puts together."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.clips import Clip, ClipFrames
from model.data.subjects import FacePicture
from model.evaluation.unseen_pictures import far_frames, skin_tone, summary
from model.face.average_face import AVERAGE_FACE
from model.training.builders.pairs import choose_pairs

SIZE = 200


def opened(by: float) -> np.ndarray:
    face = AVERAGE_FACE.copy()
    face[[67, 66, 65], 1] = face[[61, 62, 63], 1] + by
    return face


@pytest.mark.parametrize(
    ("colour", "tone"),
    [((236, 200, 180), "light"), ((178, 128, 94), "tan"), ((92, 62, 48), "dark")],
)
def test_the_tone_of_the_skin(colour: tuple[int, int, int], tone: str) -> None:
    image = np.full((SIZE, SIZE, 3), colour, np.uint8)
    assert skin_tone(image, AVERAGE_FACE * SIZE) == tone


def test_a_frame_is_drawn_into_a_far_one_with_another_mouth() -> None:
    openings = np.zeros(40)
    openings[30:] = 0.06
    faces = np.stack([opened(by) for by in openings]) * np.float32(SIZE)
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, SIZE, SIZE, 3), np.uint8
    )
    clip = Clip(
        "a", faces.astype(np.float32), np.ones(40, bool), np.zeros(40 * 640, np.float32), None
    )
    shown = far_frames(ClipFrames(frames), clip).frames[:, SIZE // 2, SIZE // 2, 0].astype(int)
    assert (np.abs(shown - np.arange(40)) >= 10).all()
    assert (shown[:20] >= 30).all() and (shown[30:] < 30).all()


def test_texture_is_a_median_and_likeness_a_mean() -> None:
    rows = [{"chin": value, "film_psnr": value} for value in (1.0, 2.0, 9.0)]
    assert summary(rows) == {"count": 3.0, "chin": 2.0, "film_psnr": 4.0}


def picture(by: float, *, own: bool) -> FacePicture:
    return FacePicture(np.zeros((8, 8, 3), np.uint8), opened(by), own)


def test_nothing_is_drawn_from_itself_and_strange_teeth_only_from_shut_lips() -> None:
    pictures = [
        picture(0.05, own=True), picture(0.055, own=True), picture(0.0, own=False),
        picture(0.08, own=False), picture(0.02, own=False),
    ]  # fmt: skip
    seen = set()
    for seed in range(20):
        for target, reference, carried in choose_pairs(pictures, np.random.default_rng(seed)):
            assert target not in (reference, carried)
            if target in (3, 4):
                assert reference == 2  # the only one that shows no teeth
            if target in (0, 1):
                assert pictures[reference].own
            seen.add(target)
    assert seen == {0, 1, 2, 3, 4}
    alone = [picture(0.06, own=True), picture(0.08, own=False)]
    assert choose_pairs(alone, np.random.default_rng(0)) == []
