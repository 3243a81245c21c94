from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.filmed_motion import clip_motion, smooth, without_tilt
from model.data.phones import CLOSURES, PHONES, SILENCE_PHONE, UNKNOWN_PHONE, silence_share
from model.face.landmarks import CONTENT, NUM_LANDMARKS, lip_gap
from model.training.builders.phone_teacher import (
    closure_share,
    known_phones,
    loudness,
    shut_lips,
    teacher_input,
)

VOWEL = PHONES.index("AA")


def make_faces(frames: int = 6, gap: float = 6.0) -> NDArray[np.float32]:
    """A face in a 200 px picture, the same in all frames."""
    rng = np.random.default_rng(0)
    face = rng.uniform(60, 140, (NUM_LANDMARKS, 2)).astype(np.float32)
    face[61:64, 1], face[[67, 66, 65], 1] = 120, 120 + gap
    face[[67, 66, 65], 0] = face[61:64, 0]
    return np.repeat(face[None], frames, axis=0)


def test_smoothing_has_no_lag_and_keeps_constants() -> None:
    pulse = np.zeros((31, 1), np.float32)
    pulse[15] = 1.0
    assert smooth(pulse, 2.0)[:, 0].argmax() == 15
    np.testing.assert_allclose(smooth(np.ones((9, 2), np.float32), 2.0), 1.0, atol=1e-6)


def test_only_long_silences_shut_the_mouth() -> None:
    phones = np.full(240, VOWEL, np.uint8)
    phones[20:28] = SILENCE_PHONE  # 80 ms: a stop
    phones[120:200] = SILENCE_PHONE
    share = silence_share(phones)
    assert share.shape == (60,)
    assert not share[:30].any()
    np.testing.assert_allclose(share[33:47], 1.0)
    assert share[30] < 0.5 and not share[50:].any()


def test_silence_at_the_ends_has_no_ramp_there() -> None:
    share = silence_share(np.full(80, SILENCE_PHONE, np.uint8))
    np.testing.assert_allclose(share, 1.0)


@pytest.mark.parametrize("phone", CLOSURES)
def test_closures_shut_the_lips_in_their_middle(phone: int) -> None:
    phones = np.full(120, VOWEL, np.uint8)
    phones[57:64] = phone  # middle 60: frame 15
    share = closure_share(phones)
    assert share[15] == pytest.approx(1.0)
    assert share[10] == 0.0 and share[20] == 0.0
    faces = make_faces(30)
    before = lip_gap(faces)
    shut_lips(faces, share)
    gap = lip_gap(faces)
    assert gap[15] == pytest.approx(0.0, abs=1e-3)
    assert gap[5] == pytest.approx(before[5])


def test_loudness_forgets_the_gain() -> None:
    mel = np.random.default_rng(0).normal(0, 0.5, (100, 80)).astype(np.float32)
    np.testing.assert_allclose(loudness(mel), loudness(mel - 0.3), atol=1e-4)


def test_phones_that_nobody_filmed_take_the_lips_of_others() -> None:
    phones = np.array([PHONES.index(p) for p in ("SH", "HH", "AA", "HH", "SIL")], np.uint8)
    phones = np.append(phones, np.uint8(UNKNOWN_PHONE))
    wanted = [PHONES.index(p) for p in ("CH", "AA", "AA", "HH", "SIL", "SIL")]
    assert known_phones(phones).tolist() == wanted


def test_input_has_four_phones_and_energies_a_frame() -> None:
    phones = np.full(40, 255, np.uint8)
    inputs = teacher_input(phones, np.zeros((40, 80), np.float32))
    assert inputs.shape == (10, 4 * 41)
    assert float(inputs[:, SILENCE_PHONE].min()) == 1.0  # unknown counts as silence


def test_a_moving_camera_is_not_lip_motion() -> None:
    faces = make_faces(12)
    angle = np.linspace(0, 0.2, 12)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1)
    moved = np.einsum("tij,tnj->tni", turn.reshape(-1, 2, 2), faces).astype(np.float32)
    rows = clip_motion(moved)
    assert rows["landmarks"].shape == (12, NUM_LANDMARKS, 2)
    spread = rows["content"].std(axis=0).max()
    drift = (moved[:, list(CONTENT)] / 80).std(axis=0).max()
    assert spread < 0.1 * drift


def test_nods_are_taken_away_and_speech_stays() -> None:
    rng = np.random.default_rng(0)
    count, frames = 6, 60
    nod = rng.normal(0, 1, (count, frames)).astype(np.float32)
    gap = np.where(rng.random((count, frames)) < 0.5, 0.0, 0.2).astype(np.float32)
    rigid, way, speech = rng.normal(0, 0.01, (3, 62)).astype(np.float32)
    tilt = nod[..., None] * rigid[:42]
    flat = nod[..., None] * way + gap[..., None] * speech
    content, explained = without_tilt(flat.reshape(count, frames, 31, 2), tilt, gap)
    assert explained > 0.95
    wanted = (gap[..., None] * speech).reshape(content.shape)
    assert np.abs(content - wanted).max() < 0.2 * np.abs(flat).max()
