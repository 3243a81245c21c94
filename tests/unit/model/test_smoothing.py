from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import CONTENT, POSE, mouth_opening, mouth_width
from model.face.retargeting import uncross_lips
from model.face.smoothing import RAMP_S, OneEuroFilter, closed_mouth, smooth, speech_gate
from model.pipelines.landmark_completion import _BETA, _MIN_CUTOFF_HZ, _agree

RATE = 16_000


def tone(seconds: float, level: float = 0.1) -> NDArray[np.float32]:
    t = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 220 * t)).astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), np.float32)


def hiss(seconds: float, level: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    return (level * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def frame_times(waveform: NDArray[np.float32], fps: float = 25.0) -> NDArray[np.float64]:
    return np.arange(int(len(waveform) / RATE * fps)) / fps


def gate_of(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    return speech_gate(waveform, RATE, frame_times(waveform))


def test_a_one_euro_filter_leaves_what_stands_still() -> None:
    one_euro = OneEuroFilter(25.0, min_cutoff_hz=2.0)
    value = np.full((68, 2), 0.3, np.float32)
    for _ in range(10):
        np.testing.assert_array_equal(one_euro(value), value)


def test_a_one_euro_filter_calms_jitter_and_follows_a_jump() -> None:
    rng = np.random.default_rng(0)
    steady = 0.5 + 0.002 * rng.standard_normal(200).astype(np.float32)
    calm = smooth(steady, 25.0, min_cutoff_hz=2.0, beta=50.0)
    assert calm.std() < 0.7 * steady.std()
    jump = np.where(np.arange(50) < 25, 0.5, 0.6).astype(np.float32)
    followed = smooth(jump, 25.0, min_cutoff_hz=2.0, beta=500.0)
    assert abs(followed[26] - 0.6) < 0.02 and abs(followed[23] - 0.5) < 0.02


def test_smoothing_has_no_lag() -> None:
    wave = np.sin(2 * np.pi * 3.0 * np.arange(100) / 25.0).astype(np.float32)
    smoothed = smooth(wave, 25.0, min_cutoff_hz=4.0, beta=0.0)
    by_lag = [np.dot(smoothed[10:90], wave[10 + lag : 90 + lag]) for lag in range(-4, 5)]
    assert int(np.argmax(by_lag)) - 4 == 0


def test_silence_keeps_the_gate_shut() -> None:
    assert not gate_of(silence(2.0)).any()


def test_speech_opens_the_gate_and_a_pause_shuts_it_with_ramps() -> None:
    waveform = np.concatenate([silence(0.6), tone(1.0), silence(0.6), tone(0.6)])
    times = np.arange(0, 2.8, 0.005)
    gate = speech_gate(waveform, RATE, times)
    assert (gate[(times > 0.6) & (times < 1.6)] == 1).all()
    assert (gate[(times > 1.75) & (times < 2.05)] == 0).all()
    assert (gate[times < 0.45] == 0).all()
    falling = (times > 1.6) & (times < 1.8) & (gate > 0) & (gate < 1)
    assert abs(falling.sum() * 0.005 - RAMP_S) < 0.02
    assert (np.diff(gate[(times > 1.6) & (times < 1.8)]) <= 0).all()


def test_a_stop_consonant_is_no_pause() -> None:
    assert (gate_of(np.concatenate([tone(0.6), silence(0.12), tone(0.6)])) == 1).all()


def test_steady_noise_between_words_is_a_pause() -> None:
    noise = hiss(2.0, 0.002)
    words = np.concatenate([tone(0.6), silence(0.8), tone(0.6)])
    gate = gate_of(words + noise)
    assert (gate[:14] == 1).all() and (gate[20:30] == 0).all() and (gate[37:] == 1).all()


def test_a_quiet_recording_is_not_a_pause() -> None:
    gate = gate_of(np.concatenate([silence(0.5), tone(0.8, level=0.004), silence(0.5)]))
    assert (gate[13:32] == 1).all() and gate[0] == 0 and gate[-1] == 0


def test_a_closed_mouth_is_the_references_own() -> None:
    open_face = AVERAGE_FACE.copy()
    open_face[[65, 66, 67, 55, 56, 57, 58, 59], 1] += 0.05
    open_face[[61, 62, 63, 49, 50, 51, 52, 53], 1] -= 0.01
    open_face[5:12, 1] += 0.03
    assert float(mouth_opening(open_face)) > 0.25
    closed = closed_mouth(open_face)
    assert float(mouth_opening(closed)) < 0.01
    assert float(mouth_width(closed)) == pytest.approx(float(mouth_width(open_face)))
    np.testing.assert_array_equal(closed[list(POSE)], open_face[list(POSE)])
    # lips keep their thickness, and the chin rises
    for outer, inner in ((51, 62), (57, 66)):
        before, after = (abs(float(f[outer, 1] - f[inner, 1])) for f in (open_face, closed))
        assert after == pytest.approx(before, abs=1e-6)
    assert closed[8, 1] < open_face[8, 1]
    again = closed.copy()
    uncross_lips(again)
    np.testing.assert_allclose(again, closed, atol=1e-6)


def test_a_closed_mouth_of_a_shut_one_is_itself() -> None:
    shut = closed_mouth(AVERAGE_FACE)
    np.testing.assert_allclose(closed_mouth(shut), shut, atol=1e-6)
    assert np.abs(shut - AVERAGE_FACE)[list(CONTENT)].max() < 0.04


def test_a_closed_mouth_needs_68_points() -> None:
    with pytest.raises(ShapeError, match="expected \\(68, 2\\)"):
        closed_mouth(AVERAGE_FACE[:5])


def test_a_lip_that_touches_for_one_frame_touches_when_served() -> None:
    gap = np.full((41, 1), 0.03, np.float32)
    gap[20] = 0.0
    served = smooth(gap, 25.0, min_cutoff_hz=_MIN_CUTOFF_HZ, beta=_BETA)
    assert served[20, 0] < 0.04 * 0.03


def test_a_lip_that_touches_in_one_reading_touches() -> None:
    gaps = np.full((3, 12), 0.2)
    gaps[:, 4] = 0.1, 0.0, 0.2
    gaps[:, 5] = 0.0, 0.3, 0.2  # beside a narrower moment: the others are on their way
    gaps[:, 8] = 0.2, 0.2, 0.14
    faces = np.repeat(np.asarray(AVERAGE_FACE, np.float32)[None], 36, axis=0).reshape(3, 12, 68, 2)
    width = mouth_width(faces[0, 0])
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        faces[..., lower, 0] = faces[..., upper, 0]
        faces[..., lower, 1] = faces[..., upper, 1] + gaps * width
    opening = mouth_opening(_agree(faces))
    assert opening[4] == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(opening[[5, 8]], gaps[:, [5, 8]].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(opening[[0, 1, 2, 10, 11]], 0.2, atol=1e-5)
