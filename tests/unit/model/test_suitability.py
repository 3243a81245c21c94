"""Which faces are refused: pictures are edited here, none is brought along."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from model.errors import FaceTurnedAwayError, InputError, MouthNotVisibleError
from model.evaluation import awkward_pictures as edits
from model.face.average_face import AVERAGE_FACE
from model.face.detection import DetectedFace, MediaPipeFaceDetector
from model.face.head_angles import head_angles
from model.face.head_depth import MEAN_DEPTH, turn_in_depth
from model.face.suitability import check_suitable
from model.training.builders.mouth_visibility import fit, varied


@pytest.fixture(scope="module")
def detector() -> MediaPipeFaceDetector:
    return MediaPipeFaceDetector()


@pytest.fixture(scope="module")
def astronaut(detector: MediaPipeFaceDetector) -> tuple[np.ndarray, np.ndarray]:
    image = np.ascontiguousarray(skimage.data.astronaut()[:300, 80:380].repeat(2, 0).repeat(2, 1))
    return image, detector(image)[0].landmarks


def found(detector: MediaPipeFaceDetector, image: np.ndarray) -> DetectedFace:
    return detector(np.ascontiguousarray(image))[0]


@pytest.mark.parametrize("name", sorted(edits.LIGHTS))
def test_a_face_in_any_light_is_taken(
    detector: MediaPipeFaceDetector, astronaut: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    image = edits.LIGHTS[name](*astronaut, np.random.default_rng(1))

    check_suitable(image, found(detector, image).landmarks)


@pytest.mark.parametrize("name", sorted(edits.COVERS | edits.UNSEEN_COVERS))
def test_a_covered_mouth_is_refused_with_what_to_do(
    detector: MediaPipeFaceDetector, astronaut: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    edit = (edits.COVERS | edits.UNSEEN_COVERS)[name]
    image = edit(*astronaut, np.random.default_rng(2))

    with pytest.raises(MouthNotVisibleError, match=r"uncovered mouth\. .*check_face=false"):
        check_suitable(image, found(detector, image).landmarks)


def test_a_little_turn_is_taken_and_a_profile_is_refused(
    detector: MediaPipeFaceDetector, astronaut: tuple[np.ndarray, np.ndarray]
) -> None:
    little, far = (edits.turned(*astronaut, degrees) for degrees in (20, 75))

    check_suitable(little, found(detector, little).landmarks)
    with pytest.raises(InputError, match="check_face=false"):
        check_suitable(far, found(detector, far).landmarks)


def test_a_man_who_looks_into_his_camera_is_refused(detector: MediaPipeFaceDetector) -> None:
    grey = skimage.data.camera()[60:320, 120:400].repeat(2, 0).repeat(2, 1)
    image = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))

    with pytest.raises(FaceTurnedAwayError, match="degrees aside; expected at most 45"):
        check_suitable(image, found(detector, image).landmarks)


def test_a_cat_is_no_person(detector: MediaPipeFaceDetector) -> None:
    cat = np.ascontiguousarray(skimage.data.chelsea())

    for face in detector(cat):
        with pytest.raises(InputError):
            check_suitable(cat, face.landmarks)


@pytest.mark.parametrize("degrees", [-50, -20, 0, 35])
def test_angles_are_those_of_the_head(degrees: float) -> None:
    yaw = AVERAGE_FACE + turn_in_depth(AVERAGE_FACE, MEAN_DEPTH, np.radians(degrees), 0.0)
    pitch = AVERAGE_FACE + turn_in_depth(AVERAGE_FACE, MEAN_DEPTH, 0.0, np.radians(degrees))

    assert head_angles(300 * yaw + 40) == pytest.approx((degrees, 0.0), abs=0.1)
    assert head_angles(300 * pitch + 40) == pytest.approx((0.0, degrees), abs=0.1)


def test_the_fit_separates_what_can_be_separated() -> None:
    rng = np.random.default_rng(0)
    is_mouth = rng.random(400) < 0.2
    features = rng.normal(0, 1, (400, 6)).astype(np.float32)
    features[:, 2] += np.where(is_mouth, 3, -3)

    weights, bias = fit(features, is_mouth)

    assert int(np.argmax(np.abs(weights))) == 2
    assert (((features @ weights + bias) > 0) == is_mouth).mean() > 0.98


def test_varied_patches_stay_patches() -> None:
    patch = np.random.default_rng(0).uniform(0, 255, (64, 64)).astype(np.float32)

    for one in varied(patch, np.random.default_rng(1)):
        assert one.shape == (64, 64)
        assert one.min() >= 0.0
        assert one.max() <= 255.0
