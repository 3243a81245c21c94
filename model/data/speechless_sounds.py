"""Sound without speech: rooms, breath and music, in which a mouth rests."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.media.audio import SAMPLE_RATE, log_mel

Waveform = NDArray[np.float64]

_LENGTH = 3 * SAMPLE_RATE
_BREATH_SHARE = 0.15
_MUSIC_SHARE = 0.30
_SCALE = (0, 2, 4, 5, 7, 9, 11)  # semitones of a major scale


def noise_recordings(count: int) -> NDArray[np.float16]:
    """Log-mels `(count, 300, 80)` of rooms, breath and music at many levels, three seconds each."""
    rng = np.random.default_rng(0)
    mels = []
    for _ in range(count):
        kind = rng.random()
        if kind < _MUSIC_SHARE:
            sound, level = music(rng), 10 ** rng.uniform(-3, -0.7)
        elif kind < _MUSIC_SHARE + _BREATH_SHARE:
            sound, level = breath(rng), 10 ** rng.uniform(-4, -1.3)
        else:
            sound, level = room(rng), 10 ** rng.uniform(-6, -1)
        mels.append(log_mel((level * sound / sound.std()).astype(np.float32)))
    return np.stack(mels).astype(np.float16)


def room(rng: np.random.Generator) -> Waveform:
    """Coloured hiss, hum, slow waves and clicks, `(48000,)`, any level."""
    time = np.arange(_LENGTH) / SAMPLE_RATE
    sound = _hiss(rng, tilt=rng.uniform(-0.3, 1.6), resonances=int(rng.integers(0, 4)))
    if rng.random() < 0.4:
        base = rng.choice([50.0, 60.0, 100.0, rng.uniform(40, 300)])
        hum = sum(
            rng.uniform(0, 1) / k * np.sin(2 * np.pi * k * base * time + rng.uniform(0, 6))
            for k in range(1, 12)
        )
        sound = sound + rng.uniform(0.3, 4) * np.asarray(hum)
    if rng.random() < 0.4:  # slow waves: traffic, wind
        sound = sound * (1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time))
    for _ in range(rng.integers(0, 4) if rng.random() < 0.3 else 0):  # clicks and knocks
        at, decay = rng.integers(_LENGTH - 800), rng.uniform(20, 300)
        sound[at : at + 800] += (
            rng.uniform(2, 12) * rng.normal(size=800) * np.exp(-np.arange(800) / decay)
        )
    return sound


def breath(rng: np.random.Generator) -> Waveform:
    """One to three breaths through the nose, in a quiet room, `(48000,)`."""
    sound = 0.02 * _hiss(rng, tilt=1.0, resonances=0)
    for _ in range(int(rng.integers(1, 4))):
        length = int(rng.uniform(0.2, 0.8) * SAMPLE_RATE)
        at = int(rng.integers(_LENGTH - length))
        swell = np.sin(np.pi * np.linspace(0, 1, length) ** rng.uniform(0.6, 1.8)) ** 2
        air = _hiss(rng, tilt=rng.uniform(0.2, 1.2), resonances=3)[:length]
        sound[at : at + length] += rng.uniform(0.3, 1.0) * swell * air
    return sound


def music(rng: np.random.Generator) -> Waveform:
    """Chords, a melody and drums of one tempo, each of them now and then, `(48000,)`."""
    beat_s = rng.uniform(0.25, 0.7)
    key_hz = 110.0 * 2 ** rng.uniform(0, 1)
    sound = 1e-3 * rng.normal(size=_LENGTH)
    for voice_share, octave, notes in ((0.8, 1, 3), (0.6, 2, 1), (0.4, 0, 1)):
        if rng.random() > voice_share:
            continue
        partials = 1.0 / np.arange(1, 13) ** rng.uniform(0.6, 2.5)
        decay_s, attack_s = rng.uniform(0.1, 2.0), rng.uniform(0.003, 0.08)
        hold_s = beat_s * rng.choice([0.5, 1, 2])
        for at_s in np.arange(rng.uniform(0, beat_s), 2.95, hold_s):
            time = np.arange(int(min(hold_s * 1.5, 3.0 - at_s) * SAMPLE_RATE)) / SAMPLE_RATE
            swell = np.minimum(time / attack_s, 1.0) * np.exp(-time / decay_s)
            first = int(at_s * SAMPLE_RATE)
            for _ in range(notes):
                pitch_hz = key_hz * 2 ** (octave + rng.choice(_SCALE) / 12)
                tone = sum(
                    weight * np.sin(2 * np.pi * k * pitch_hz * time + rng.uniform(0, 6))
                    for k, weight in enumerate(partials, start=1)
                    if k * pitch_hz < SAMPLE_RATE / 2
                )
                sound[first : first + len(time)] += swell * np.asarray(tone)
    if rng.random() < 0.6:
        for at_s in np.arange(0, 2.7, beat_s * rng.choice([0.5, 1])):
            time = np.arange(int(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
            first = int(at_s * SAMPLE_RATE)
            if rng.random() < 0.5:  # a kick: a tone that falls
                hit = np.sin(2 * np.pi * 50 * (time + 0.05 * (1 - np.exp(-time / 0.03))))
                hit *= np.exp(-time / 0.08)
            else:
                hit = rng.normal(size=len(time)) * np.exp(-time / rng.uniform(0.01, 0.08))
            sound[first : first + len(time)] += rng.uniform(0.3, 2.0) * hit
    return sound


def _hiss(rng: np.random.Generator, tilt: float, resonances: int) -> Waveform:
    """Noise `(48000,)` whose spectrum falls as frequency to the power `-tilt`, standard deviation 1."""
    spectrum = np.fft.rfft(rng.normal(size=_LENGTH))
    frequency = np.maximum(np.fft.rfftfreq(_LENGTH, 1 / SAMPLE_RATE), 20.0)
    spectrum *= (frequency / 500.0) ** -tilt
    for _ in range(resonances):  # of a room, a fan, a nose
        centre, width = rng.uniform(60, 6000), rng.uniform(0.05, 0.5)
        spectrum *= 1 + rng.uniform(0, 6) * np.exp(-0.5 * (np.log(frequency / centre) / width) ** 2)
    sound = np.fft.irfft(spectrum, _LENGTH)
    return np.asarray(sound / sound.std(), np.float64)


SPEECHLESS: Final = {"music": music, "breath": breath}
"""Sounds in which it is measured whether a mouth rests."""


def speechless(name: str, count: int) -> list[NDArray[np.float32]]:
    """`count` recordings `(48000,)` of one of `SPEECHLESS`, peak 0.3, never those of training."""
    rng = np.random.default_rng([7, list(SPEECHLESS).index(name)])
    sounds = [SPEECHLESS[name](rng) for _ in range(count)]
    return [(0.3 * sound / np.abs(sound).max()).astype(np.float32) for sound in sounds]
