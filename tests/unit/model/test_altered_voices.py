from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.voice_alteration import (
    alter,
    change_speed,
    sing,
    through_codec,
    whisper,
)
from model.media.audio import SAMPLE_RATE, SAMPLES_PER_FRAME

VOWEL, SILENCE = 1, 0


def make_voice(seconds: float = 1.6) -> NDArray[np.float32]:
    """A buzz of 120 Hz that swells three times a second."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30))
    return (0.1 * buzz * (0.5 - 0.5 * np.cos(2 * np.pi * 3 * time))).astype(np.float32)


def loudness(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    count = len(waveform) // 640
    return np.sqrt((waveform[: 640 * count].reshape(count, 640) ** 2).mean(axis=1))


def harmonicity(waveform: NDArray[np.float32], pitch_hz: float) -> float:
    """How like the sound is to itself a period later."""
    lag = round(SAMPLE_RATE / pitch_hz)
    return float(np.corrcoef(waveform[:-lag], waveform[lag:])[0, 1])


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_phones_keep_step_when_the_speed_changes(factor: float) -> None:
    voice, phones = make_voice(), np.full(160, VOWEL, np.uint8)
    phones[80:] = SILENCE
    played, moved = change_speed(voice, phones, factor)
    assert len(played) % SAMPLES_PER_FRAME == 0 and len(moved) == len(played) // 160
    assert np.flatnonzero(moved == VOWEL)[-1] == pytest.approx(80 / factor, abs=2)
    assert len(played) == pytest.approx(len(voice) / factor, abs=SAMPLES_PER_FRAME)


def test_a_whisper_keeps_time_and_loses_its_pitch() -> None:
    voice = make_voice()
    whispered = whisper(voice, np.random.default_rng(0))
    assert whispered.shape == voice.shape
    assert np.corrcoef(loudness(whispered), loudness(voice))[0, 1] > 0.8
    assert harmonicity(voice, 120) > 0.8 > 0.3 > harmonicity(whispered, 120)


def test_a_song_keeps_time_and_has_another_pitch() -> None:
    voice = make_voice()
    sung = sing(voice, np.random.default_rng(0))
    assert sung.shape == voice.shape
    assert np.corrcoef(loudness(sung), loudness(voice))[0, 1] > 0.7
    assert harmonicity(sung, 120) < 0.8


@pytest.mark.parametrize(
    "codec",
    [
        ("-ar", "8000", "-c:a", "pcm_mulaw", "-f", "wav"),
        ("-c:a", "aac", "-b:a", "24k", "-f", "adts"),
    ],
)
def test_a_codec_moves_nothing(codec: tuple[str, ...]) -> None:
    voice = make_voice()
    heard = through_codec(voice, codec)
    assert heard.shape == voice.shape
    assert np.corrcoef(heard, voice)[0, 1] > 0.9
    assert not np.array_equal(heard, voice)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(RuntimeError, match="no_such_codec"):
        through_codec(make_voice(0.2), ("-c:a", "no_such_codec", "-f", "wav"))


def test_every_change_keeps_whole_frames() -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        waveform, phones = alter(make_voice(), np.full(160, VOWEL, np.uint8), rng)
        assert len(waveform) == 160 * len(phones) and len(phones) % 4 == 0
        assert np.isfinite(waveform).all()
