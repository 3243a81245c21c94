"""A recorded voice once more: higher and faster, deeper and slower, whispered, sung, through a codec."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate, istft, resample_poly, stft

from model.data.phones import SILENCE_PHONE
from model.data.speechless_sounds import music
from model.media.audio import HOP_LENGTH, SAMPLE_RATE, SAMPLES_PER_FRAME
from model.media.ffmpeg import ffmpeg_path

Waveform = NDArray[np.float32]

_WINDOW: Final = 512
_HOP: Final = 128
_ENVELOPE: Final = 36  # cepstral coefficients that are the throat, not the voice
_MUSIC_DB: Final = -5.0  # against the speech
_CODECS: Final = (
    ("-ar", "8000", "-c:a", "pcm_mulaw", "-f", "wav"),
    ("-c:a", "libopus", "-b:a", "8k", "-f", "ogg"),
    ("-c:a", "libopus", "-b:a", "16k", "-f", "ogg"),
    ("-c:a", "libmp3lame", "-b:a", "24k", "-f", "mp3"),
    ("-c:a", "aac", "-b:a", "24k", "-f", "adts"),
)


def change_speed(
    waveform: Waveform, phones: NDArray[np.uint8], factor: float
) -> tuple[Waveform, NDArray[np.uint8]]:
    """Play `(N,)` at 16 kHz faster and higher (factor above 1), or slower and deeper.

    Returns:
        Whole video frames, and their phones of `(N / 160,)`.
    """
    ratio = Fraction(factor).limit_denominator(40)
    factor = float(ratio)
    played = np.asarray(resample_poly(waveform, ratio.denominator, ratio.numerator), np.float32)
    count = -(-len(played) // SAMPLES_PER_FRAME) * SAMPLES_PER_FRAME
    there = (np.arange(count // HOP_LENGTH) * factor).astype(int)
    spoken = phones[np.minimum(there, len(phones) - 1)]
    moved = np.where(there < len(phones), spoken, np.uint8(SILENCE_PHONE))
    return np.pad(played, (0, count - len(played))), moved


def with_excitation(waveform: Waveform, excitation: NDArray[np.floating[Any]]) -> Waveform:
    """Speak `(N,)` at 16 kHz with another source: the throat's envelope, frame by frame, on `excitation`.

    The `excitation` `(N,)` has a flat spectrum.
    """
    settings = {"nperseg": _WINDOW, "noverlap": _WINDOW - _HOP}
    _, _, spoken = stft(waveform, **settings)
    _, _, source = stft(excitation, **settings)
    log_magnitude = np.log(np.abs(spoken) + 1e-6)
    cepstrum = np.fft.irfft(log_magnitude, axis=0)
    cepstrum[_ENVELOPE:-_ENVELOPE] = 0.0
    envelope = np.exp(np.fft.rfft(cepstrum, axis=0).real)
    _, sound = istft(envelope * source / (np.abs(source).mean() + 1e-9), **settings)
    sound = np.pad(sound, (0, max(0, len(waveform) - len(sound))))[: len(waveform)]
    level = np.sqrt((waveform**2).mean()) / (np.sqrt((sound**2).mean()) + 1e-9)
    return np.asarray(sound * level, np.float32)


def whisper(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """No voice, only air; lows are weak as in a real whisper."""
    air = np.diff(rng.normal(size=len(waveform) + 1))
    return with_excitation(waveform, air)


def sing(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """Notes of 0.25 to 1 s with vibrato in place of the voice; hisses stay hissed."""
    base_hz, notes_hz = rng.uniform(110, 330), np.empty(len(waveform))
    at = 0
    while at < len(waveform):
        length = int(rng.uniform(0.25, 1.0) * SAMPLE_RATE)
        notes_hz[at : at + length] = base_hz * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 12]) / 12)
        at += length
    glide = np.exp(-np.arange(800) / 200)
    notes_hz = np.convolve(notes_hz, glide / glide.sum(), mode="full")[: len(waveform)]
    notes_hz = np.maximum(notes_hz, 60.0)
    time = np.arange(len(waveform)) / SAMPLE_RATE
    notes_hz *= 1 + 0.02 * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * time)
    turns = np.cumsum(notes_hz) / SAMPLE_RATE
    pulses = np.diff(np.floor(turns), prepend=0.0)  # one at each turn
    hiss = rng.normal(size=len(waveform)) * np.sqrt(base_hz / SAMPLE_RATE)
    return with_excitation(waveform, np.where(_voiced(waveform), pulses, hiss))


def _voiced(waveform: Waveform) -> NDArray[np.bool_]:
    """Where `(N,)` sounds mostly below 1 kHz, as a voice does and a hiss does not."""
    _, _, spectrum = stft(waveform, nperseg=_WINDOW, noverlap=_WINDOW - _HOP)
    magnitude = np.abs(spectrum)
    low = magnitude[: _WINDOW * 1000 // SAMPLE_RATE].sum(axis=0)
    share = low / (magnitude.sum(axis=0) + 1e-9)
    frames = np.minimum(np.arange(len(waveform)) // _HOP, len(share) - 1)
    return np.asarray(share[frames] > 0.35)


def through_codec(waveform: Waveform, codec: tuple[str, ...]) -> Waveform:
    """Encode and decode `(N,)`; the result has N samples and is in step with what went in.

    Raises:
        RuntimeError: ffmpeg cannot do it.
    """
    raw = ("-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "1")
    sound = waveform.tobytes()
    for given, wanted in ((raw, codec), ((), raw)):
        command = [ffmpeg_path(), "-nostdin", "-v", "error", *given, "-i", "pipe:0", *wanted]
        done = subprocess.run([*command, "pipe:1"], input=sound, capture_output=True, check=False)
        if done.returncode:
            reason = done.stderr.decode()[-200:]
            raise RuntimeError(f"ffmpeg cannot use the codec {codec}: {reason}")
        sound = done.stdout
    decoded = np.frombuffer(sound, np.float32)
    # MP3 and AAC without a container begin with their encoder's priming: take the delay that fits.
    late = _delay(waveform, decoded)
    moved = decoded[late:] if late >= 0 else np.pad(decoded, (-late, 0))
    return np.pad(moved, (0, max(0, len(waveform) - len(moved))))[: len(waveform)]


def _delay(waveform: Waveform, decoded: Waveform) -> int:
    """Samples by which `decoded` comes late, by the peak of their correlation."""
    product = correlate(decoded, waveform, method="fft")
    return int(np.argmax(product)) - (len(waveform) - 1)


def alter(
    waveform: Waveform, phones: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Waveform, NDArray[np.uint8]]:
    """One of the changes, or two, drawn at random; see `change_speed` for shapes."""
    kind = rng.random()
    if kind < 0.2:
        waveform = whisper(waveform, rng)
    elif kind < 0.45:
        waveform = sing(waveform, rng)
        return change_speed(waveform, phones, float(rng.uniform(0.7, 1.0)))
    waveform, phones = change_speed(waveform, phones, float(rng.uniform(0.8, 1.25)))
    if kind > 0.6:
        waveform = through_codec(waveform, _CODECS[rng.integers(len(_CODECS))])
    return waveform, phones


def with_music(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """Music 5 dB below the speech `(N,)`."""
    accompaniment = np.resize(music(rng), len(waveform))
    level = float(waveform.std() / accompaniment.std()) * 10 ** (_MUSIC_DB / 20)
    mixed = waveform + level * accompaniment
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())), np.float32)


DIFFICULT: Final[dict[str, Callable[[Waveform, np.random.Generator], Waveform]]] = {
    "whispered": whisper,
    "sung": sing,
    "telephone": lambda waveform, _: through_codec(waveform, _CODECS[0]),
    "with_music": with_music,
}
"""What speech-driven lips stumble over: a sentence again with its timing, so that the real video still
says what the lips should do."""
