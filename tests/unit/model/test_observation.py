from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.clips import Clip, hold_gaps, nearest_face
from model.data.sound import fit_sound
from model.errors import CheckpointError
from model.evaluation.metrics.landmarks import mouth_figures, swap_figures
from model.evaluation.observation import (
    Observation,
    lip_distance,
    load_judges,
    row_figures,
    sheet_tiles,
)
from model.face.average_face import AVERAGE_FACE
from model.face.detection import DetectedFace
from model.face.landmarks import LEFT_EYE, LIPS, RIGHT_EYE, mouth_opening

Points = NDArray[np.float32]


def speaking(frames: int, amount: float = 1.0) -> Points:
    """An average face of 300 px whose lower lip goes up and down."""
    faces = np.repeat(AVERAGE_FACE[None], frames, axis=0) * np.float32(300)
    moved = amount * 10 * (1 - np.cos(np.arange(frames) / 3))
    faces[:, [55, 56, 57, 58, 59, 65, 66, 67], 1] += moved[:, None].astype(np.float32)
    return faces.astype(np.float32)


def clip_of(landmarks: Points) -> Clip:
    found = np.ones(len(landmarks), bool)
    return Clip("clip", landmarks, found, np.zeros(640 * len(landmarks), np.float32), None)


def seen(landmarks: Points, **per_frame: float) -> Observation:
    rows = {key: np.full(len(landmarks), value) for key, value in per_frame.items()}
    tiles = np.zeros((6, 4, 4, 3), np.uint8)
    return Observation(landmarks, rows, {"lse_c": 0.5}, None, tiles)


def test_lip_distance_ignores_where_the_head_is() -> None:
    real = speaking(5)
    angle = np.radians(9)
    turn = 1.1 * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    moved = (real @ turn.T + (40, -12)).astype(np.float32)
    np.testing.assert_allclose(lip_distance(moved, real), 0, atol=1e-5)


def test_lip_distance_is_in_eye_distances() -> None:
    real = speaking(4)
    drawn = real.copy()
    drawn[:, list(LIPS), 1] += 7
    drawn[2] = np.nan
    eyes = np.linalg.norm(
        real[0, list(LEFT_EYE)].mean(axis=0) - real[0, list(RIGHT_EYE)].mean(axis=0)
    )
    distance = lip_distance(drawn, real)
    np.testing.assert_allclose(distance[[0, 1, 3]], 7 / eyes, rtol=1e-4)
    assert np.isnan(distance[2])


def test_a_frozen_mouth_has_no_correlation() -> None:
    real = mouth_opening(speaking(40))
    figures = mouth_figures([np.full(40, 0.1, np.float32)], [real])
    assert figures == {"articulation": pytest.approx(0.0)}


def test_a_frozen_row_has_no_articulation_though_clips_differ() -> None:
    real = mouth_opening(speaking(40))
    still = [np.full(40, opening, np.float32) for opening in (0.0, 0.3)]
    assert mouth_figures(still, [real, real]) == {"articulation": pytest.approx(0.0)}


def test_a_short_film_has_no_lag() -> None:
    short = [mouth_opening(speaking(6))]
    assert set(mouth_figures(short, short)) == {"opening_r", "slope", "articulation"}
    longer = [mouth_opening(speaking(12))]
    assert mouth_figures(longer, longer)["best_lag"] == 0


def test_a_mouth_that_does_not_listen_has_no_swap() -> None:
    own = mouth_opening(speaking(36))
    assert swap_figures(own, own) == {"swap_difference": 0.0, "swap_share": 0.0}
    other = np.roll(own, 9)[:30]
    assert swap_figures(own, other)["swap_share"] > 0.8
    assert swap_figures(np.full(5, np.nan, np.float32), own[:5]) == {}
    assert set(swap_figures(np.full(36, 0.1, np.float32), own)) == {"swap_difference"}


def test_the_sheet_shows_the_widest_mouths() -> None:
    crops = np.zeros((60, 10, 10, 3), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None, None]
    opening = np.zeros(60, np.float32)
    widest = [3, 19, 20, 38, 41, 59]
    opening[widest] = 0.2
    opening[5] = np.nan
    tiles = sheet_tiles(crops, opening)
    assert tiles[:, 0, 0, 0].tolist() == widest
    assert tiles.shape == (6, 6, 6, 3)
    assert sheet_tiles(crops[:2], opening).shape == (6, 6, 6, 3)


def test_half_the_movement_is_half_the_articulation() -> None:
    real, drawn = mouth_opening(speaking(40)), mouth_opening(speaking(40, amount=0.5))
    figures = mouth_figures([drawn], [real])
    assert figures["opening_r"] == pytest.approx(1, abs=1e-4)
    assert figures["slope"] == pytest.approx(0.5, abs=0.02)
    assert figures["articulation"] == pytest.approx(0.5, abs=0.02)
    assert figures["best_lag"] == 0


def test_a_row_averages_what_is_finite_and_counts_lost_faces() -> None:
    real = speaking(40)
    drawn = real.copy()
    drawn[:10] = np.nan
    one, other = seen(drawn, psnr_mask=30.0), seen(real, psnr_mask=40.0)
    other.per_frame["psnr_mask"][0] = np.inf
    figures = row_figures([clip_of(real)] * 2, [one, other])
    assert figures["psnr_mask"] == pytest.approx((40 * 30 + 39 * 40) / 79)
    assert figures["faces_found"] == pytest.approx(70 / 80)
    assert figures["lmd"] == pytest.approx(0, abs=1e-6)
    assert figures["opening_r"] == pytest.approx(1)
    assert figures["lse_c"] == 0.5
    assert "closure" not in figures


def test_gaps_hold_the_nearest_face() -> None:
    faces = speaking(6)
    faces[[0, 3]] = np.nan
    held = hold_gaps(faces)
    assert held is not None
    np.testing.assert_array_equal(held[0], faces[1])
    assert np.isfinite(held).all()
    assert hold_gaps(np.full((3, 68, 2), np.nan, np.float32)) is None


def test_nobody_elses_face_is_taken() -> None:
    wanted = speaking(1)[0]
    near = DetectedFace.from_landmarks(wanted + 5, 0.9)
    far = DetectedFace.from_landmarks(wanted * 2 + 600, 0.9)
    np.testing.assert_array_equal(nearest_face([far, near], wanted), near.landmarks)
    assert np.isnan(nearest_face([far], wanted)).all()


def test_sound_is_cut_and_padded_to_frames() -> None:
    assert fit_sound(np.ones(1000, np.float32), 1).sum() == 640
    padded = fit_sound(np.ones(1000, np.float32), 2)
    assert padded.shape == (1280,) and padded[1000:].sum() == 0


def test_absent_networks_are_named_with_their_option() -> None:
    judges = load_judges(lambda image: [])
    told = "\n".join(judges.skipped)
    for option in ("--fid-features", "--lpips", "--identity", "--syncnet"):
        assert option in told
    assert judges.sync is not None and judges.lpips is None


def test_a_given_network_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "lpips.pt"
    broken.write_bytes(b"no network")
    with pytest.raises(CheckpointError, match=r"lpips\.pt is not a TorchScript file"):
        load_judges(lambda image: [], lpips=broken)
