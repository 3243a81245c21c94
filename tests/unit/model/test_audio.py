from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from model.errors import ShapeError, UnsupportedMediaError
from model.media.audio import (
    FPS,
    HOP_LENGTH,
    MELS_PER_FRAME,
    N_MELS,
    SAMPLE_RATE,
    SILENCE,
    load_waveform,
    log_mel,
    num_frames,
    speech_gain,
)


def make_tone(seconds: float, level: float = 0.1, hertz: float = 440.0) -> NDArray[np.float32]:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_four_mel_frames_a_video_frame() -> None:
    assert SAMPLE_RATE == FPS * MELS_PER_FRAME * HOP_LENGTH
    assert log_mel(make_tone(1.0)).shape == (4 * 25, N_MELS)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (640, 1), (641, 2), (16_000, 25)])
def test_any_started_frame_counts(samples: int, frames: int) -> None:
    assert num_frames(samples) == frames
    assert len(log_mel(np.ones(samples, np.float32))) == MELS_PER_FRAME * frames


def test_the_microphones_gain_does_not_matter() -> None:
    loud, faint = make_tone(1.0, 0.5), make_tone(1.0, 0.01)
    np.testing.assert_allclose(log_mel(loud), log_mel(faint), atol=1e-3)


def test_faint_noise_is_not_lifted_to_speech() -> None:
    hiss = np.random.default_rng(0).normal(0, 1e-5, SAMPLE_RATE).astype(np.float32)
    assert np.sqrt(((speech_gain(hiss) * hiss) ** 2).mean()) < 1e-3


def test_digital_silence_is_one_value() -> None:
    mel = log_mel(np.zeros(SAMPLE_RATE, np.float32))
    np.testing.assert_allclose(mel, SILENCE, atol=1e-5)
    assert log_mel(make_tone(1.0)).max() > SILENCE + 1


def test_a_tone_lights_its_own_mel_at_its_own_time() -> None:
    sound = np.concatenate([np.zeros(SAMPLE_RATE // 2, np.float32), make_tone(0.5)])
    power = log_mel(sound)
    assert power[:48].max() < power[55:].max() - 1
    low, high = log_mel(make_tone(0.5, hertz=300)), log_mel(make_tone(0.5, hertz=3000))
    assert low[20].argmax() < high[20].argmax()


def test_nothing_to_hear_is_refused() -> None:
    with pytest.raises(ShapeError):
        log_mel(np.zeros(0, np.float32))
    with pytest.raises(ShapeError):
        log_mel(np.zeros((2, 100), np.float32))


def test_load_waveform_reads_flac(tmp_path: Path) -> None:
    tone = make_tone(0.25)
    soundfile.write(tmp_path / "tone.flac", tone, SAMPLE_RATE)
    np.testing.assert_allclose(load_waveform(tmp_path / "tone.flac"), tone, atol=1e-4)


def test_wrong_rate_channels_or_bytes_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "rate.wav", make_tone(0.25), 44_100)
    soundfile.write(tmp_path / "stereo.wav", np.stack([make_tone(0.25)] * 2, axis=1), SAMPLE_RATE)
    (tmp_path / "text.wav").write_text("no sound at all")
    for name in ("rate.wav", "stereo.wav", "text.wav", "absent.wav"):
        with pytest.raises(UnsupportedMediaError, match=name):
            load_waveform(tmp_path / name)
