from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from model.data.split import portrait_held_out
from model.face.detection import MediaPipeFaceDetector
from model.face.inner_mouth import TOOTH_LUMA
from model.face.mouth_light import LUMA
from model.training.builders.inner_mouths import (
    _FRONT_TEETH,
    PATCH_PX,
    TEETH_PX,
    UPPER_TEETH,
    cut_teeth,
    grade,
    read_teeth,
)

Teeth = tuple[NDArray[np.uint8], float]


@pytest.fixture(scope="module")
def teeth() -> Teeth:
    """Cut out of another smile than the one that the edges were traced on."""
    image = skimage.data.astronaut()
    return cut_teeth(image, MediaPipeFaceDetector()(image)[0].landmarks)


def test_teeth_end_at_their_biting_edge(teeth: Teeth) -> None:
    picture, edge = teeth
    assert picture.shape == (*TEETH_PX, 4)
    middle = slice(100, 140)
    assert (picture[: int(edge) - 6, middle, 3] == 255).all()
    assert (picture[int(edge) + 3 :, :, 3] == 0).all()
    assert (picture[-1, :, 3] == 0).all()  # what is placed is continued from its last row
    assert (picture[:, [0, -1], 3] == 0).all()


def test_front_teeth_are_as_bright_as_the_bank_promises(teeth: Teeth) -> None:
    front = teeth[0][_FRONT_TEETH][..., :3].astype(np.float32) @ LUMA
    assert float(front.mean()) == pytest.approx(TOOTH_LUMA, rel=0.1)


def test_an_inner_mouth_is_darker_at_its_corners_and_above() -> None:
    patch = np.full((*PATCH_PX, 3), 120, np.uint8)
    graded = grade(patch, np.array((180, 140, 120), np.float32)).astype(np.float32) @ LUMA
    assert graded[-4, PATCH_PX[1] // 2] > 1.5 * graded[-4, 0]
    assert graded[-4, PATCH_PX[1] // 2] > 1.5 * graded[0, PATCH_PX[1] // 2]


def test_the_teeths_owner_is_not_held_out() -> None:
    assert not portrait_held_out("frl-london_" + UPPER_TEETH.split("_")[3])


def test_a_missing_photograph_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "portraits.npz"
    np.savez(archive, names=np.array([UPPER_TEETH]), landmarks=np.zeros((1, 68, 2), np.float32))
    with pytest.raises(SystemExit, match=UPPER_TEETH):
        read_teeth(tmp_path, archive)
