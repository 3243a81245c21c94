"""When a known text's phones are spoken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data.phone_alignment import GRID_GRAMMAR, align_phones, recognise
from model.data.phones import PHONES, SILENCE_PHONE, UNKNOWN_PHONE, runs_of
from model.data.sound import read_sound

ROOT = Path(__file__).parents[3]
COUNT = 440  # of 10 ms, the length of the example
TEXT = "maybe people would move home below the blue moon but please be patient"
FIRST_WORDS = ["M", "EY", "B", "IY", "P", "IY", "P", "AH", "L"]


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    return read_sound(ROOT / "examples" / "speech.wav")


def test_phones_come_in_the_order_of_the_text(waveform: np.ndarray) -> None:
    labels = align_phones(waveform, TEXT, COUNT)
    assert labels.shape == (COUNT,)
    spoken = labels[(labels != SILENCE_PHONE) & (labels != UNKNOWN_PHONE)]
    order = spoken[np.flatnonzero(np.diff(spoken, prepend=UNKNOWN_PHONE))]
    assert [PHONES[k] for k in order[: len(FIRST_WORDS)]] == FIRST_WORDS


def test_quiet_stretches_are_silence(waveform: np.ndarray) -> None:
    padded = np.pad(waveform, (8000, 0))  # half a second of nothing before the first word
    labels = align_phones(padded, TEXT, COUNT + 50)
    first, last = runs_of(labels == SILENCE_PHONE)[0]
    assert first == 0 and last >= 40


def test_a_text_that_is_not_said_leaves_phones_unknown() -> None:
    labels = align_phones(np.zeros(3200, np.float32), "bin blue at f two now again please", 20)
    assert (labels == UNKNOWN_PHONE).all()


def test_a_grammar_names_one_of_its_sentences(waveform: np.ndarray) -> None:
    words = recognise(waveform, GRID_GRAMMAR).split()
    assert len(words) in (0, 6)
    assert all(word in GRID_GRAMMAR for word in words)
