"""What is said about people whom nothing was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.held_out_speech import Sound
from model.data.unseen_films import UnseenFilm, held_still
from model.evaluation.unseen_speakers import (
    interval,
    measure_set,
    shifted,
    strengths_of_others,
)
from model.face.landmarks import lip_gap, mouth_opening
from tests.unit.model.conftest import make_face


def talking(curve: np.ndarray) -> np.ndarray:
    return np.stack([make_face(float(gap)) for gap in curve]).astype(np.float32)


def make_film(name: str, speaker: str, curve: np.ndarray) -> UnseenFilm:
    mel = np.zeros((4 * len(curve), 80), np.float32)
    return UnseenFilm(name, speaker, Sound(mel), talking(curve), None)


WAVE = 0.03 * (1 + np.sin(np.linspace(0, 15, 60)))


def test_an_offset_pairs_frames_that_belong_together() -> None:
    # Lips lead the sound by three frames: what ours do at frame 3 the real ones did at frame 0.
    film = make_film("a", "one", WAVE[3:])
    said = talking(WAVE[:-3])
    ours, real = shifted(film, said, 3)
    np.testing.assert_allclose(mouth_opening(ours), mouth_opening(real), atol=1e-6)
    late, early = shifted(film, said, -3)
    assert len(late) == len(early) == len(said) - 3


def test_a_copy_scores_one_and_a_small_mouth_is_told() -> None:
    films = [make_film("a", "one", WAVE), make_film("b", "two", WAVE[::-1])]
    columns, _ = measure_set(films, 0, lambda film, strength: film.faces, None)
    ours = columns["population's style"]
    assert ours["r"] == pytest.approx(1.0, abs=1e-4)
    assert ours["p99"] == pytest.approx(columns["real film"]["p99"])
    half = measure_set(films, 0, lambda film, strength: talking(0.5 * WAVE), None)[0]
    assert half["population's style"]["p99"] < 0.6 * columns["real film"]["p99"]


def test_the_paired_gain_is_against_the_baseline() -> None:
    films = [make_film("a", "one", WAVE), make_film("b", "two", WAVE[::-1])]
    columns, _ = measure_set(
        films, 0, lambda film, _: film.faces, lambda film, _: talking(np.roll(WAVE, 4))
    )
    ours = columns["population's style"]
    assert ours["gain"] == pytest.approx(ours["r"] - columns["baseline"]["r"], abs=1e-5)
    assert ours["gain_low"] <= ours["gain"] <= ours["gain_high"]


def test_style_is_never_read_from_the_clip_that_is_measured() -> None:
    films = [
        make_film("a", "one", WAVE),
        make_film("b", "one", 2 * WAVE),
        make_film("c", "two", WAVE),
    ]
    said = [talking(WAVE)] * 3
    strengths = strengths_of_others(films, said)
    assert strengths[0] == pytest.approx(2.0, rel=0.1)  # the other clip's, not its own
    assert strengths[1] == pytest.approx(1.0, rel=0.1)
    assert strengths[2] == 1.0  # nobody else has this speaker


def test_the_interval_draws_speakers_not_clips() -> None:
    values = np.array([1.0] * 9 + [0.0], np.float32)
    assert interval(values, ["one"] * 10) == pytest.approx((0.9, 0.9))
    low, high = interval(values, ["one"] * 9 + ["two"])
    assert (low, high) == pytest.approx((0.0, 1.0))


def test_a_turning_camera_is_not_speech() -> None:
    faces = 400.0 * talking(np.full(30, 0.03))
    angle = np.linspace(0.0, 0.15, 30)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(
        -1, 2, 2
    )
    moved = np.einsum("tij,tnj->tni", turn, faces).astype(np.float32)
    assert lip_gap(held_still(moved)).std() < 0.002


def test_figures_without_phones_say_nothing_of_phones() -> None:
    films = [make_film("a", "one", WAVE)]
    columns, _ = measure_set(films, 0, lambda film, strength: film.faces, None)
    assert "closure" not in columns["population's style"]
