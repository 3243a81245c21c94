from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.evaluation.metrics.lids import (
    brow_motion,
    changed_away,
    eye_distance,
    eye_opening,
    white_share,
)
from model.evaluation.protocols.blinks import eyes_of, judge, read_faces, squash, summary
from model.face.average_face import AVERAGE_FACE
from model.face.detection import MediaPipeFaceDetector
from model.face.eyelids import Eyelids
from model.face.head_motion import MovedPicture
from model.motion.head_motion import still_motion

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


@pytest.fixture(scope="module")
def face(portrait: Image) -> Points:
    return MediaPipeFaceDetector()(portrait)[0].landmarks


def test_the_average_eyes_are_open() -> None:
    assert eye_distance(AVERAGE_FACE) == pytest.approx(0.26, abs=0.02)
    opening = eye_opening(AVERAGE_FACE)
    assert 0.2 < opening < 0.4
    shut = AVERAGE_FACE.copy()
    shut[[37, 38, 43, 44]] = shut[[41, 40, 47, 46]]
    assert eye_opening(shut) == 0.0


def test_white_between_the_lids_is_counted(portrait: Image, face: Points) -> None:
    closed = Eyelids(portrait, face).close(portrait, 1.0)
    assert white_share(closed, face) < 0.005
    sliver = closed.copy()
    ends = np.round(face[[36, 39]]).astype(int)
    cv2.line(sliver, tuple(ends[0]), tuple(ends[1]), (235, 235, 235), 2)
    assert white_share(sliver, face) > 0.08
    assert white_share(portrait, face) > 0.02


def test_brows_that_move_are_seen_and_heads_that_move_are_not(
    portrait: Image, face: Points
) -> None:
    assert brow_motion(portrait, portrait, face) < 1e-3
    lifted = replace(still_motion(1), lift=np.full((1, 2), -0.014, np.float32))
    raised = MovedPicture(portrait, face, lifted, 25.0).move(portrait, 0)
    assert 0.02 < brow_motion(raised, portrait, face) < 0.08
    shift = np.array(((1, 0, 6), (0, 1, 4)), np.float32)
    moved = np.asarray(cv2.warpAffine(portrait, shift, portrait.shape[1::-1]), np.uint8)
    told = face + np.float32((6, 4))
    assert brow_motion(moved, portrait, face, told) < 0.005


def test_sliding_lids_are_better_than_squashed_ones(portrait: Image, face: Points) -> None:
    sliding = judge(Eyelids(portrait, face).close(portrait, 1.0), portrait, face)
    squashed = judge(squash(portrait, face), portrait, face)
    assert sliding["away"] == 0 < squashed["away"]
    assert sliding["brows"] < 0.002 < squashed["brows"]
    assert changed_away(portrait, portrait, face) == 0
    table = summary([sliding, sliding], 3)
    assert table["blinks"] == 2 and table["faces"] == 3 and table["white_held"] == 1.0


def test_pictures_without_a_face_are_left_out(portrait: Image, tmp_path: Path) -> None:
    paths = [tmp_path / "somebody.png", tmp_path / "nobody.png"]
    Pillow.fromarray(portrait).save(paths[0])
    Pillow.fromarray(np.full_like(portrait, 90)).save(paths[1])
    read = list(read_faces(paths))
    assert len(read) == 1
    assert eyes_of(*read[0]).shape == (150, 360, 3)
