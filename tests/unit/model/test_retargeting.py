from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import TEMPLATE
from model.face.landmarks import JAW, LIPS, POSE, lip_gap, mouth_opening, mouth_width
from model.face.retargeting import retarget, uncross_lips

UPPER_INNER, LOWER_INNER = [61, 62, 63], [67, 66, 65]


def make_face(gap: float = 0.0, mouth: float = 0.26, chin: float = 0.80) -> NDArray[np.float32]:
    """A symmetric face in crop units whose inner lips are `gap` apart."""
    face = np.zeros((68, 2), np.float32)
    angles = np.linspace(np.pi, 0, 17)
    face[:17] = np.stack([0.5 + 0.3 * np.cos(angles), 0.32 + (chin - 0.32) * np.sin(angles)], 1)
    face[17:27] = np.stack([np.linspace(0.25, 0.75, 10), np.full(10, 0.22)], 1)
    face[[36, 39, 42, 45, 27, 28, 29, 30]] = TEMPLATE
    face[[37, 38, 40, 41]] = (0.37, 0.30)
    face[[43, 44, 46, 47]] = (0.63, 0.30)
    face[31:36] = np.stack([np.linspace(0.42, 0.58, 5), np.full(5, 0.49)], 1)
    x = 0.5 + mouth * np.linspace(-0.5, 0.5, 7)
    bow = np.array([0, 0.015, 0.022, 0.02, 0.022, 0.015, 0])
    face[48:55] = np.stack([x, 0.585 - bow - gap / 3 * (bow > 0)], 1)
    face[[48, 59, 58, 57, 56, 55, 54]] = np.stack(
        [x, 0.585 + 1.4 * bow + 2 * gap / 3 * (bow > 0)], 1
    )
    inner = 0.5 + mouth * np.array([-0.45, -0.15, 0, 0.15, 0.45])
    face[60:65] = np.stack([inner, 0.585 - gap / 3 * np.array([0, 1, 1, 1, 0])], 1)
    face[[67, 66, 65]] = np.stack([inner[1:4], np.full(3, 0.585 + 2 * gap / 3)], 1)
    face[[7, 8, 9], 1] += 0.5 * gap
    return face


def make_clip(gaps: NDArray[np.float64], mouth: float = 0.21) -> NDArray[np.float32]:
    return np.stack([make_face(float(gap), mouth) for gap in gaps])


SPEECH = np.abs(np.sin(np.linspace(0, 9, 50))) * 0.05


def test_the_references_own_frame_is_the_identity() -> None:
    reference = make_face(0.0)
    clip = np.concatenate([make_clip(SPEECH[5:]), reference[None]])
    np.testing.assert_allclose(retarget(reference, clip)[-1], reference, atol=1e-6)
    np.testing.assert_allclose(retarget(reference, reference[None])[0], reference, atol=1e-6)


def test_an_open_references_own_frame_is_the_identity() -> None:
    reference = make_face(0.04)
    clip = np.concatenate([make_clip(SPEECH, mouth=0.26), reference[None]])
    np.testing.assert_allclose(retarget(reference, clip)[-1], reference, atol=1e-6)


def test_pose_points_stay() -> None:
    reference = make_face(0.01)
    target = retarget(reference, make_clip(SPEECH))
    np.testing.assert_array_equal(
        target[:, POSE], np.broadcast_to(reference[list(POSE)], (50, 37, 2))
    )


def test_opening_follows_the_clip() -> None:
    reference, clip = make_face(0.0), make_clip(SPEECH)
    opening = mouth_opening(retarget(reference, clip))
    assert np.corrcoef(opening, mouth_opening(clip))[0, 1] > 0.999
    np.testing.assert_allclose(opening, mouth_opening(clip), atol=0.01)


def test_jaw_goes_down_as_the_mouth_opens() -> None:
    reference = make_face(0.0)
    target = retarget(reference, make_clip(SPEECH))
    widest = int(np.argmax(SPEECH))
    assert target[widest, 8, 1] > reference[8, 1] + 0.01


@pytest.mark.parametrize("gap", [0.02, 0.04, 0.07])
def test_a_smile_closes_when_the_clip_does(gap: float) -> None:
    reference = make_face(gap, mouth=0.29)
    clip = make_clip(SPEECH)
    target = retarget(reference, clip)
    shut = SPEECH < 0.001
    assert shut.any()
    assert (mouth_opening(target[shut]) < 0.02).all()


def test_a_wide_smile_does_not_stay_wider_than_speech() -> None:
    reference = make_face(0.09, mouth=0.29)
    opening = mouth_opening(retarget(reference, make_clip(SPEECH)))
    assert opening.max() < float(mouth_opening(make_clip(SPEECH)).max()) + 0.05


@pytest.mark.parametrize("amplitude", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("gap", [0.0, 0.006, 0.05])
def test_lips_never_cross(amplitude: float, gap: float) -> None:
    rng = np.random.default_rng(3)
    clip = make_clip(SPEECH)
    clip[:, list(LIPS)] += rng.normal(0, 0.004, (50, 20, 2)).astype(np.float32)
    target = retarget(make_face(gap), clip, amplitude)
    assert (target[:, LOWER_INNER, 1] >= target[:, UPPER_INNER, 1] - 1e-6).all()
    assert (target[:, [50, 51, 52], 1] <= target[:, UPPER_INNER, 1] + 1e-6).all()
    assert (target[:, [58, 57, 56], 1] >= target[:, LOWER_INNER, 1] - 1e-6).all()


def test_amplitude_scales_the_motion() -> None:
    reference, clip = make_face(0.0), make_clip(SPEECH)
    single, double = retarget(reference, clip), retarget(reference, clip, 2.0)
    np.testing.assert_allclose(lip_gap(double), 2 * lip_gap(single), atol=2e-3)
    still = retarget(reference, clip, 0.0)
    np.testing.assert_allclose(still, np.broadcast_to(reference, still.shape), atol=1e-6)


def test_motion_scales_with_the_mouth_and_the_face() -> None:
    clip = make_clip(SPEECH)
    narrow, wide = make_face(mouth=0.2), make_face(mouth=0.3)
    gaps = [lip_gap(retarget(face, clip)).max() / mouth_width(face) for face in (narrow, wide)]
    assert gaps[0] == pytest.approx(gaps[1], rel=0.05)
    short, long = make_face(chin=0.76), make_face(chin=0.84)
    drops = [np.ptp(retarget(face, clip)[:, JAW, 1], axis=0).max() for face in (short, long)]
    assert drops[1] > drops[0]


def test_motion_is_smooth_where_the_clip_is() -> None:
    gaps = np.abs(np.sin(np.linspace(0, 3, 400))) * 0.05
    target = retarget(make_face(0.05, mouth=0.29), make_clip(gaps))
    steps = np.abs(np.diff(target, axis=0)).max(axis=(1, 2))
    assert steps.max() < 0.003


def test_uncross_puts_crossed_lips_on_their_middle() -> None:
    face = make_face(0.0)
    face[62, 1], face[66, 1] = 0.60, 0.58
    uncross_lips(face)
    assert face[62, 1] == pytest.approx(0.59)
    assert face[66, 1] == pytest.approx(0.59)


@pytest.mark.parametrize("shape", [(68, 2), (0, 68, 2), (4, 67, 2)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="motion"):
        retarget(make_face(), np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match="reference"):
        retarget(np.zeros((67, 2), np.float32), make_clip(SPEECH))


def test_a_turning_head_does_not_slide_the_jaw() -> None:
    turn = 0.02 * np.sin(np.linspace(0, 6, 40)).astype(np.float32)
    clip = np.repeat(make_face(0.0)[None], 40, axis=0)
    # What a camera sees of a turn, in a crop that eyes and nose bridge hold.
    clip[:, [*range(6), *range(11, 17)], 0] += turn[:, None]
    clip[:, 6:11, 0] += 0.5 * turn[:, None]
    clip[:, list(LIPS), 0] += 0.35 * turn[:, None]
    target = retarget(make_face(0.0), clip)
    assert np.ptp(clip[:, JAW, 0], axis=0).max() > 0.035
    assert np.ptp(target[:, JAW, 0], axis=0).max() < 0.012
    assert np.ptp(target[:, LIPS, 0], axis=0).max() < 0.002


def test_cheeks_that_give_way_to_an_open_mouth_are_no_nod() -> None:
    clip = make_clip(SPEECH)
    # As measured in video: contour ends go down by 0.028 per mouth width of opening.
    clip[:, [0, 1, 2, 14, 15, 16], 1] += 0.028 * mouth_opening(clip)[:, None]
    target = retarget(make_face(0.0), clip)
    assert np.ptp(target[:, 8, 1]) > 0.97 * np.ptp(clip[:, 8, 1])


def test_a_thin_lip_does_not_swell_as_a_full_one_does() -> None:
    thin = make_face(0.04)
    for outer, inner in ((50, 61), (51, 62), (52, 63)):
        thin[outer, 1] = thin[inner, 1] - 0.006
    clip = make_clip(SPEECH, mouth=0.26)
    pursed = clip.copy()
    pursed[:, [49, 50, 51, 52, 53], 1] -= np.linspace(0, 0.03, len(clip))[:, None]
    lip = retarget(thin, pursed)[:, 62, 1] - retarget(thin, pursed)[:, 51, 1]
    assert lip.max() < 0.012
    assert lip.max() > 0.008  # but it does swell
