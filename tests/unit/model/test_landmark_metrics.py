from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.phones import CLOSURES, PHONES, ROUNDED, runs_of
from model.evaluation.metrics.landmarks import (
    articulation,
    at_phones,
    best_lag,
    closure_rate,
    closures,
    correlation,
    jitter,
    motion_ratio,
    same_mouth,
    still_passages,
)

VOWEL = PHONES.index("AA")


def make_openings(count: int = 3, frames: int = 80) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [np.abs(rng.normal(0.1, 0.05, frames)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("lag", [-3, 0, 2])
def test_a_late_prediction_is_found_late(lag: int) -> None:
    real = make_openings()
    late = [np.roll(curve, lag) for curve in real]
    found, r = best_lag(late, real)
    assert found == lag
    assert r == pytest.approx(1.0, abs=1e-5)
    assert correlation(late, real, lag) == pytest.approx(1.0, abs=1e-5)


def test_frames_without_a_face_are_left_out_and_keep_their_place() -> None:
    real = make_openings()
    late = [np.roll(curve, 2) for curve in real]
    late[0][10:20] = np.nan
    found, r = best_lag(late, real)
    assert found == 2
    assert r == pytest.approx(1.0, abs=1e-5)


def test_a_frozen_mouth_mumbles() -> None:
    real = make_openings()
    assert articulation(real, real) == pytest.approx(1.0)
    assert articulation([0.5 * curve for curve in real], real) == pytest.approx(0.5, abs=1e-4)


def test_closures_are_looked_for_around_the_segment() -> None:
    phones = np.full(80, VOWEL, np.uint8)  # 20 frames
    phones[40:46] = CLOSURES[0]
    opening = np.full(20, 0.2, np.float32)
    assert closures(opening, phones) == (0, 1)
    opening[9] = 0.01  # 40 ms before the segment starts
    assert closures(opening, phones) == (1, 1)
    opening[9], opening[8] = 0.2, 0.01
    assert closures(opening, phones) == (0, 1)
    assert np.isnan(closure_rate([opening], [np.full(80, VOWEL, np.uint8)]))


def test_runs() -> None:
    labels = np.array([True, False, False, True, True])
    assert runs_of(labels).tolist() == [[0, 1], [3, 5]]
    assert runs_of(np.zeros(4, np.bool_)).shape == (0, 2)


def test_a_shifted_mouth_moves_alike_but_lies_elsewhere() -> None:
    content = np.random.default_rng(1).random((10, 31, 2)).astype(np.float32)
    r, difference = same_mouth([content], [content + np.float32(0.02)], [0.2])
    assert r == pytest.approx(1.0, abs=1e-5)
    assert difference == pytest.approx(0.02 * 2**0.5 / 0.2, rel=1e-3)


def test_motion_is_compared_within_clips() -> None:
    real = make_openings()
    shifted = [0.5 * curve + i for i, curve in enumerate(real)]
    assert motion_ratio(shifted, real) == pytest.approx(0.5, abs=1e-3)


def test_a_curve_at_some_phones_is_set_against_all_speech() -> None:
    phones = np.zeros(80, np.uint8)
    phones[8:72] = VOWEL
    phones[40:48] = ROUNDED[0]
    width = np.ones(20, np.float32)
    width[:2] = 5.0  # silence does not count
    width[10:12] = 0.7
    narrowed = 0.7 - (14 + 2 * 0.7) / 16
    assert at_phones([width], [phones], ROUNDED) == pytest.approx(narrowed, abs=1e-5)
    assert np.isnan(at_phones([width], [phones], CLOSURES))


def test_jitter_counts_only_where_the_mouth_rests() -> None:
    opening = np.zeros(40, np.float32)
    opening[20:] = np.linspace(0, 0.4, 20)
    still = still_passages(opening)
    assert still[:15].all() and not still[21:].any()
    lips = np.zeros((40, 20, 2), np.float32)
    lips[25:35:2] += 9.0  # speech
    assert jitter([lips], [still], [2.0]) == 0.0
    lips[5] += 1.0
    assert jitter([lips], [still], [2.0]) > 0.0
