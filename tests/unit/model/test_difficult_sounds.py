from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data.held_out_speech import Sound, Sounds, load_held_out, load_sounds
from model.data.speechless_sounds import SPEECHLESS, speechless
from model.data.voice_alteration import DIFFICULT
from model.evaluation.landmark_figures import form_figures, language_figures, sound_figures
from model.face.landmarks import CONTENT


@pytest.mark.parametrize("name", list(DIFFICULT))
def test_a_sentence_is_altered_and_keeps_its_length(name: str) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(16_000) / 16_000
    sentence = (0.2 * np.sin(2 * np.pi * 150 * time) * (time > 0.3)).astype(np.float32)
    altered = DIFFICULT[name](sentence, rng)
    assert altered.shape == sentence.shape and altered.dtype == np.float32
    assert np.abs(altered - sentence).max() > 1e-3


@pytest.mark.parametrize("name", list(SPEECHLESS))
def test_speechless_sounds_are_the_same_every_time_and_differ(name: str) -> None:
    first, again = speechless(name, 3), speechless(name, 3)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], first[1])


def test_a_mouth_that_moves_half_has_half_the_figures(prepared: Path) -> None:
    data = load_held_out(prepared)
    rng = np.random.default_rng(0)
    way = rng.normal(0, 0.01, (*data.faces.shape[:2], 1, 1)).astype(np.float32)
    data.faces[:, :, list(CONTENT)] *= 1 + way
    mean = data.faces.mean(axis=1, keepdims=True)
    half = form_figures(list(mean + 0.5 * (data.faces - mean)), data)
    whole = form_figures(list(data.faces), data)
    assert whole["width_ratio"] == whole["chin_ratio"] == pytest.approx(1.0)
    assert half["width_ratio"] == pytest.approx(0.5, abs=0.02)
    assert half["chin_ratio"] == pytest.approx(0.5, abs=0.02)
    assert whole["width_r"] == pytest.approx(1.0) and "synthetic_closure" not in whole


def test_a_frozen_mouth_rests_in_music_and_answers_no_sound(prepared: Path) -> None:
    data = load_held_out(prepared)
    waveform = np.random.default_rng(0).normal(0, 0.1, 75 * 640).astype(np.float32)
    clips = [Sound(sound.mel, waveform) for sound in load_sounds(data).clips]
    data = replace(data, portraits=np.repeat(data.portraits[:1], 24, axis=0))

    def frozen(sound: Sound, reference: np.ndarray) -> np.ndarray:
        return np.repeat(reference[None], len(sound.mel) // 4, axis=0)

    figures = sound_figures(frozen, data, Sounds(clips, []))
    assert figures["music_std"] == pytest.approx(0.0, abs=1e-6)
    assert figures["whispered_r"] == pytest.approx(figures["sung_r"])
    assert language_figures(frozen, data) == {}
