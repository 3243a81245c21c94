from __future__ import annotations

import numpy as np

from model.face.alignment import warp_points
from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import INNER_LIPS
from model.face.mouth_blend import REACH
from model.face.mouth_crop import network_affine
from model.pipelines.pasted_window import pasted_window


def test_all_that_is_blended_in_any_frame_is_drawn() -> None:
    wide = AVERAGE_FACE.copy()
    wide[[65, 66, 67, 55, 56, 57, 58, 59], 1] += 0.06
    aside = AVERAGE_FACE + np.float32(0.02)  # the crop goes with the nose
    faces = [AVERAGE_FACE, wide, aside]
    window = pasted_window("mouth", faces, AVERAGE_FACE, 24)
    assert window is not None
    for face in faces:
        affine = network_affine("mouth", face, AVERAGE_FACE)
        points = 24 * warp_points(affine, face[list(INNER_LIPS)])
        reach = 24 * REACH * float(affine[0, 0])
        for part in (window.finer, window.decoded):
            rows, columns = part.slices
            assert (points - reach >= (columns.start, rows.start)).all()
            assert (points + reach <= (columns.stop, rows.stop)).all()
    decoded, finer = window.decoded, window.finer
    assert finer.height * finer.width < decoded.height * decoded.width < 24 * 24


def test_a_mouth_beyond_the_crop_leaves_a_window_within_it() -> None:
    astray = AVERAGE_FACE.copy()
    astray[48:, 1] += 0.5
    window = pasted_window("mouth", [astray], AVERAGE_FACE, 24)
    assert window is not None
    for part in (window.finer, window.decoded):
        assert min(part.height, part.width) >= 1
        assert part.top + part.height <= 24 and part.left + part.width <= 24


def test_a_crop_of_the_whole_face_is_pasted_whole() -> None:
    assert pasted_window("face", [AVERAGE_FACE], AVERAGE_FACE, 32) is None
