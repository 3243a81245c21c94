from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from model.errors import CheckpointError, ShapeError
from model.face.alignment import (
    MASK_TOP,
    crop_affine,
    crop_image,
    lower_face_mask,
    warp_points,
)
from model.face.detection import MediaPipeFaceDetector
from model.face.inner_mouth import InnerMouthBank, LipCurves, inner_opening
from model.face.landmarks import mouth_opening, mouth_width
from model.face.portrait_engine import PortraitEngine

ROOT = Path(__file__).resolve().parents[3]
BANK = ROOT / "model" / "weights" / "inner_mouths"
SIZE = 256

Portrait = tuple[NDArray[np.uint8], NDArray[np.float32]]


@pytest.fixture(scope="module")
def detector() -> MediaPipeFaceDetector:
    return MediaPipeFaceDetector()


@pytest.fixture(scope="module")
def bank() -> InnerMouthBank:
    return InnerMouthBank.load(BANK)


def cut_out(image: NDArray[np.uint8], detector: MediaPipeFaceDetector) -> Portrait:
    landmarks = detector(image)[0].landmarks
    affine = crop_affine(landmarks)
    return crop_image(image, affine, SIZE), warp_points(affine, landmarks)


@pytest.fixture(scope="module")
def smiling(detector: MediaPipeFaceDetector) -> Portrait:
    """A real photograph: a woman who smiles and shows her teeth."""
    return cut_out(skimage.data.astronaut(), detector)


@pytest.fixture(scope="module")
def shut(detector: MediaPipeFaceDetector) -> Portrait:
    """The average portrait, whose mouth is shut."""
    picture = cv2.imread(str(ROOT / "examples" / "portrait.jpg"))
    assert picture is not None
    return cut_out(np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8), detector)


@pytest.fixture(scope="module", params=["smiling", "shut"])
def portrait(request: pytest.FixtureRequest) -> Portrait:
    chosen: Portrait = request.getfixturevalue(request.param)
    return chosen


def with_opening(landmarks: NDArray[np.float32], opening: float) -> NDArray[np.float32]:
    """The face with its lip gap set to `opening` of the mouth's width; lower lip and jaw do most."""
    target = landmarks.copy()
    width = float(mouth_width(landmarks))
    for upper, lower, outer_upper, outer_lower in (
        (61, 67, 50, 58),
        (62, 66, 51, 57),
        (63, 65, 52, 56),
    ):
        change = opening * width - (landmarks[lower, 1] - landmarks[upper, 1])
        target[[upper, outer_upper], 1] -= 0.25 * change
        target[[lower, outer_lower], 1] += 0.75 * change
    drop = 0.6 * (target[66, 1] - landmarks[66, 1])
    for point in range(3, 14):
        target[point, 1] += drop * (1 - abs(point - 8) / 6)
    return target


def outside_lips(landmarks: NDArray[np.float32]) -> NDArray[np.bool_]:
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    hull = cv2.convexHull(np.round(landmarks[48:] * SIZE).astype(np.int32))
    cv2.fillConvexPoly(canvas, hull, 1)
    return np.asarray(cv2.dilate(canvas, np.ones((5, 5), np.uint8)) == 0)


@pytest.mark.parametrize("inner", ["bank", "flat", "none"])
def test_the_references_own_landmarks_give_the_reference(
    portrait: Portrait, bank: InnerMouthBank, inner: str
) -> None:
    crop, landmarks = portrait
    frame = PortraitEngine(crop, landmarks, bank).render(landmarks, inner=inner)  # type: ignore[arg-type]
    difference = np.abs(frame.astype(int) - crop).max(axis=-1)
    assert difference[outside_lips(landmarks)].max() <= 1
    if inner != "flat":  # within the lips, too: nothing has moved
        assert difference.mean() < 0.1


@pytest.mark.parametrize("opening", [0.0, 0.15, 0.5])
def test_nothing_outside_the_lower_face_changes(
    portrait: Portrait, bank: InnerMouthBank, opening: float
) -> None:
    crop, landmarks = portrait
    target = with_opening(landmarks, opening)
    target[:17] += (0.03, 0.05)  # a jaw that also slides sideways
    target[17:48] += 0.1  # pose points of a target are not looked at
    frame = PortraitEngine(crop, landmarks, bank).render(target)
    outside = ~lower_face_mask(landmarks, SIZE)
    np.testing.assert_array_equal(frame[outside], crop[outside])
    np.testing.assert_array_equal(frame[: int(MASK_TOP * SIZE)], crop[: int(MASK_TOP * SIZE)])
    assert np.abs(frame.astype(int) - crop).max() > 20


def test_the_collar_stays_when_the_mouth_opens(shut: Portrait, bank: InnerMouthBank) -> None:
    crop, landmarks = shut
    frame = PortraitEngine(crop, landmarks, bank).render(with_opening(landmarks, 0.25))
    chin = float(landmarks[8, 1])
    below = slice(int((chin + 0.14) * SIZE), SIZE)
    assert below.start < SIZE
    assert np.abs(frame[below].astype(int) - crop[below]).max() <= 1


@pytest.mark.parametrize("inner", ["bank", "flat"])
def test_a_detector_finds_the_targets_opening(
    portrait: Portrait, bank: InnerMouthBank, detector: MediaPipeFaceDetector, inner: str
) -> None:
    crop, landmarks = portrait
    engine = PortraitEngine(crop, landmarks, bank)
    wanted = np.array([0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3])
    found = []
    for opening in wanted:
        frame = engine.render(with_opening(landmarks, float(opening)), inner=inner)  # type: ignore[arg-type]
        found.append(float(mouth_opening(detector(frame)[0].landmarks)))
    slope = np.polyfit(wanted, found, 1)[0]
    assert np.corrcoef(wanted, found)[0, 1] > 0.95
    assert 0.65 < slope < 1.35
    assert found[0] < 0.05


def test_the_chin_follows(
    shut: Portrait, bank: InnerMouthBank, detector: MediaPipeFaceDetector
) -> None:
    crop, landmarks = shut
    target = with_opening(landmarks, 0.3)
    found = detector(PortraitEngine(crop, landmarks, bank).render(target))[0].landmarks / SIZE
    moved, wanted = found[8, 1] - landmarks[8, 1], target[8, 1] - landmarks[8, 1]
    assert 0.5 * wanted < moved < 1.6 * wanted


def test_an_open_mouth_is_darker_inside_than_a_shut_one(
    shut: Portrait, bank: InnerMouthBank
) -> None:
    crop, landmarks = shut
    engine = PortraitEngine(crop, landmarks, bank)
    target = with_opening(landmarks, 0.3)
    lips = LipCurves.from_landmarks(target)
    x = np.array([lips.left + 0.5 * lips.width])
    top, bottom = lips.evaluate(x)
    column, row = int(x[0] * SIZE), int((0.25 * top[0] + 0.75 * bottom[0]) * SIZE)
    skin = crop[int(landmarks[8, 1] * SIZE) - 12, column].mean()
    assert engine.render(target, inner="flat")[row, column].mean() < 0.5 * skin
    assert engine.render(target, inner="bank")[row, column].mean() < 0.8 * skin


def test_frames_change_little_when_landmarks_do(portrait: Portrait, bank: InnerMouthBank) -> None:
    crop, landmarks = portrait
    engine = PortraitEngine(crop, landmarks, bank)
    sweep = [with_opening(landmarks, float(o)) for o in np.linspace(0.0, 0.35, 71)]
    frames = engine.render_many(sweep).astype(np.float32)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < 3 * np.median(steps)  # no pop between the bank's entries


def test_the_backward_map_does_not_fold(portrait: Portrait) -> None:
    _, landmarks = portrait
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    ramp = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(
        np.uint8
    )  # colour = where it comes from
    engine = PortraitEngine(ramp, landmarks)
    frame = engine.render(with_opening(landmarks, 0.35), inner="none").astype(int)
    apart = outside_lips(with_opening(landmarks, 0.35))
    down = np.diff(frame[..., 1], axis=0)[apart[1:] & apart[:-1]]
    right = np.diff(frame[..., 0], axis=1)[apart[:, 1:] & apart[:, :-1]]
    assert down.min() >= -1
    assert right.min() >= -1


@pytest.mark.parametrize("size", [128, 200, 384])
def test_any_crop_size_works(
    detector: MediaPipeFaceDetector, bank: InnerMouthBank, size: int
) -> None:
    image = skimage.data.astronaut()
    pixels = detector(image)[0].landmarks
    affine = crop_affine(pixels)
    landmarks = warp_points(affine, pixels)
    engine = PortraitEngine(crop_image(image, affine, size), landmarks, bank)
    frames = engine.render_many([landmarks, with_opening(landmarks, 0.3)])
    assert frames.shape == (2, size, size, 3)
    assert frames.dtype == np.uint8
    assert engine.size == size


def test_frames_do_not_depend_on_one_another(portrait: Portrait, bank: InnerMouthBank) -> None:
    crop, landmarks = portrait
    engine = PortraitEngine(crop, landmarks, bank)
    targets = [with_opening(landmarks, opening) for opening in (0.3, 0.0, 0.15)]
    together = engine.render_many(targets)
    alone = PortraitEngine(crop, landmarks, bank).render(targets[2])
    np.testing.assert_array_equal(together[2], alone)


def test_a_grey_photograph_stays_grey(shut: Portrait, bank: InnerMouthBank) -> None:
    crop, landmarks = shut
    grey = np.repeat(crop.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    frame = PortraitEngine(grey, landmarks, bank).render(with_opening(landmarks, 0.3)).astype(int)
    assert np.ptp(frame, axis=-1).max() <= 12


def test_wrong_arguments_are_refused(shut: Portrait, bank: InnerMouthBank) -> None:
    crop, landmarks = shut
    with pytest.raises(ShapeError, match="expected \\(S, S, 3\\)"):
        PortraitEngine(crop[:100], landmarks, bank)
    with pytest.raises(ShapeError, match="expected \\(68, 2\\)"):
        PortraitEngine(crop, landmarks[:20], bank)
    with pytest.raises(ShapeError, match="expected \\(68, 2\\)"):
        PortraitEngine(crop, landmarks, bank).render(landmarks[None])
    with pytest.raises(ValueError, match="InnerMouthBank"):
        PortraitEngine(crop, landmarks).render(landmarks)


def test_a_bank_is_read_as_it_was_written(bank: InnerMouthBank, tmp_path: Path) -> None:
    bank.save(tmp_path)
    again = InnerMouthBank.load(tmp_path)
    np.testing.assert_array_equal(again.patches, bank.patches)
    np.testing.assert_array_equal(again.teeth, bank.teeth)
    np.testing.assert_allclose(again.openings, bank.openings)
    np.testing.assert_allclose(again.widths, bank.widths)
    assert again.teeth_scale == bank.teeth_scale
    assert again.teeth_edge == bank.teeth_edge
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 300_000


def test_an_incomplete_bank_is_refused(bank: InnerMouthBank, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"builders\.inner_mouths"):
        InnerMouthBank.load(tmp_path)
    bank.save(tmp_path)
    (tmp_path / "inner_mouths.png").write_bytes(b"no picture")
    with pytest.raises(CheckpointError, match=r"inner_mouths\.png"):
        InnerMouthBank.load(tmp_path)


def test_blending_is_continuous_and_meets_the_entries(bank: InnerMouthBank) -> None:
    for i, opening in enumerate(bank.openings):
        for j, width in enumerate(bank.widths):
            blended = bank.blend(float(opening), float(width))
            np.testing.assert_allclose(blended, bank.patches[i, j], atol=1e-3)
    sweep = np.stack([bank.blend(float(o), 0.97) for o in np.linspace(0, 0.5, 501)])
    assert np.abs(np.diff(sweep, axis=0)).max() < 12


def test_lip_curves_pass_through_the_landmarks(shut: Portrait) -> None:
    target = with_opening(shut[1], 0.3)
    lips = LipCurves.from_landmarks(target)
    top, _ = lips.evaluate(target[[60, 61, 62, 63, 64], 0].astype(np.float64))
    np.testing.assert_allclose(top, target[[60, 61, 62, 63, 64], 1], atol=1e-4)
    _, bottom = lips.evaluate(target[[67, 66, 65], 0].astype(np.float64))
    np.testing.assert_allclose(bottom, target[[67, 66, 65], 1], atol=1e-4)
    x = np.linspace(lips.left - 0.1, lips.right + 0.1, 200)
    upper, lower = lips.evaluate(x)
    assert (lower >= upper).all()
    assert float(inner_opening(target)) == pytest.approx(0.3, rel=0.3)
