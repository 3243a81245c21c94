from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data.phones import PHONES, SILENCE_PHONE
from model.data.voice_corpora import utterances, write_voices
from model.media.audio import HOP_LENGTH, SAMPLES_PER_FRAME
from model.training.builders.synthetic_voices import Synthesizer, random_text, synthesize, to_phones


@pytest.fixture(scope="module")
def speak() -> Synthesizer:
    try:
        return Synthesizer()
    except OSError:
        pytest.skip("espeak-ng's library is not installed")


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("b", ["B"]),
        ("iː", ["IY"]),
        ("y", ["UW"]),  # rounded, as the lips see it
        ("aɪ", ["AY"]),
        ("tʃ", ["CH"]),
        ("ts", ["T", "S"]),
        ("ɔ̃", ["AO"]),
        ("tɕh", ["CH"]),
        ("(en)", []),
        ("", []),
    ],
)
def test_ipa_becomes_our_phones(ipa: str, phones: list[str]) -> None:
    assert to_phones(ipa) == phones


def test_texts_differ_and_hold_numbers() -> None:
    rng = np.random.default_rng(0)
    texts = [random_text(rng) for _ in range(20)]
    assert len(set(texts)) == 20
    assert any(letter.isdigit() for text in texts for letter in text)


def test_phones_lie_where_they_sound(speak: Synthesizer) -> None:
    waveform, phones = speak("mama", "en+m1")
    assert len(waveform) % SAMPLES_PER_FRAME == 0
    assert len(phones) == len(waveform) // HOP_LENGTH
    power = (waveform.reshape(-1, HOP_LENGTH) ** 2).mean(axis=1)
    spoken = phones != SILENCE_PHONE
    assert spoken.any() and not spoken[:20].any()
    assert power[spoken].mean() > 100 * power[~spoken].mean()
    assert (phones == PHONES.index("M")).sum() >= 4


def test_faster_is_shorter(speak: Synthesizer) -> None:
    _, slow = speak("mama papa", "de", words_per_minute=100)
    _, fast = speak("mama papa", "de", words_per_minute=220)
    assert (fast != SILENCE_PHONE).sum() < 0.8 * (slow != SILENCE_PHONE).sum()


def test_an_unknown_voice_is_named(speak: Synthesizer) -> None:
    with pytest.raises(ValueError, match="no-such-voice"):
        speak("mama", "no-such-voice")


def test_arrays_are_laid_out_as_the_other_voices(speak: Synthesizer, tmp_path: Path) -> None:
    write_voices(tmp_path / "synthetic.npz", synthesize(2))
    arrays = np.load(tmp_path / "synthetic.npz")
    assert arrays["log_mel"].shape == (arrays["lengths"].sum(), 80)
    assert arrays["phones"].shape == (arrays["lengths"].sum(),)
    assert len(arrays["names"]) == 2 and (arrays["lengths"] % 4 == 0).all()
    spans = [there for _, there in utterances(arrays)]
    assert spans[0].start == 0 and spans[0].stop == spans[1].start
