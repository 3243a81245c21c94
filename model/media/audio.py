"""Speech in, log-mel out: constants derived from one another, then four small functions.

16 kHz mono, a 10 ms hop and 25 video frames a second make exactly four mel frames a video frame; mel frame `4 t + k`
is centred at `t / 25 + k / 100` seconds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError, UnsupportedMediaError

SAMPLE_RATE: Final = 16_000
FPS: Final = 25
SAMPLES_PER_FRAME: Final = SAMPLE_RATE // FPS  # 640
N_FFT: Final = 512
WIN_LENGTH: Final = 400  # 25 ms
HOP_LENGTH: Final = 160  # 10 ms
_MELS_AT_ONCE: Final = 1024  # 10 s
N_MELS: Final = 80
MELS_PER_FRAME: Final = SAMPLES_PER_FRAME // HOP_LENGTH  # 4

POWER_FLOOR: Final = 1e-6  # mel power below this is silence
LOG_MEL_MEAN: Final = -4.2  # of log10 power over speech at the level below, rounded
LOG_MEL_STD: Final = 1.6
SILENCE: Final = (np.log10(POWER_FLOOR) - LOG_MEL_MEAN) / LOG_MEL_STD
"""Value of `log_mel` where there is no sound at all."""

_SPEECH_RMS: Final = 0.1  # -20 dBFS, level of the loud 25 ms stretches after normalisation
_MAX_GAIN: Final = 10.0 ** (30 / 20)  # 30 dB: more would make room noise speak


def num_frames(num_samples: int) -> int:
    """Video frames that cover `num_samples` of sound: `ceil(25 * seconds)`, nothing dropped."""
    return -(-num_samples // SAMPLES_PER_FRAME)


def load_waveform(path: Path) -> NDArray[np.float32]:
    """Load a normalised sound file.

    Args:
        path: 16 kHz mono FLAC or WAV, as intake writes it.
    Returns:
        Waveform `(N,)`, float32, full scale 1.
    Raises:
        UnsupportedMediaError: Not a sound file, another rate or more channels.
    """
    import soundfile

    try:
        waveform, sample_rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UnsupportedMediaError(f"{path.name} is not a readable sound file: {error}") from error
    if sample_rate != SAMPLE_RATE or waveform.shape[1] != 1:
        raise UnsupportedMediaError(
            f"{path.name} has {sample_rate} Hz and {waveform.shape[1]} channel(s); expected 16000 Hz mono. "
            "Let intake normalise uploads first."
        )
    mono: NDArray[np.float32] = waveform[:, 0]
    return mono


def speech_gain(waveform: NDArray[np.float32]) -> float:
    """What brings speech to one level, whatever the microphone's gain.

    The loud stretches (95th percentile of the 25 ms RMS) come to -20 dBFS; silence and faint noise are lifted by at
    most 30 dB.

    Args:
        waveform: `(N,)`, float32.
    """
    count = len(waveform) // WIN_LENGTH
    if count == 0:
        return 1.0
    stretches = waveform[: count * WIN_LENGTH].reshape(count, WIN_LENGTH)
    power = np.einsum("ij,ij->i", stretches, stretches, dtype=np.float64) / WIN_LENGTH
    loud_rms = float(np.percentile(np.sqrt(power), 95))
    return min(_SPEECH_RMS / max(loud_rms, 1e-9), _MAX_GAIN)


def log_mel(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standardised log-mel spectrogram of `waveform`, padded with silence to whole video frames.

    Args:
        waveform: `(N,)`, float32, 16 kHz.
    Returns:
        `(4 * T, 80)`, float32, `T = num_frames(N)`.
    Raises:
        ShapeError: `waveform` is not one-dimensional or is empty.
    """
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ShapeError(f"waveform has shape {waveform.shape}; expected (N,) with N > 0")
    frames = num_frames(len(waveform))
    gain = np.float32(speech_gain(waveform))
    count = MELS_PER_FRAME * frames
    standardised = np.empty((count, N_MELS), np.float32)
    window, filters = _analysis_window(), mel_filters()
    # Piece by piece: the complex spectrogram of ten minutes is 120 MB.
    for start in range(0, count, _MELS_AT_ONCE):
        stop = min(count, start + _MELS_AT_ONCE)
        # a window is centred on its hop; beyond both ends there is silence
        begin, end = start * HOP_LENGTH - N_FFT // 2, (stop - 1) * HOP_LENGTH + N_FFT // 2
        piece = gain * waveform[max(begin, 0) : end]
        missing = max(-begin, 0)
        padded = np.pad(piece, (missing, end - begin - missing - len(piece)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
        spectrum = np.fft.rfft(windows * window, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2) @ filters
        log_power = np.log10(np.maximum(power, POWER_FLOOR))
        standardised[start:stop] = (log_power - LOG_MEL_MEAN) / LOG_MEL_STD
    return standardised


@cache
def _analysis_window() -> NDArray[np.float32]:
    """Hann's window of `WIN_LENGTH` in the middle of `N_FFT` samples."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WIN_LENGTH) / WIN_LENGTH)
    return np.pad(hann, (N_FFT - WIN_LENGTH) // 2).astype(np.float32)


@cache
def mel_filters() -> NDArray[np.float32]:
    """From power `(257,)` to mel power `(80,)`: triangles of equal area on Slaney's scale, as librosa has them.

    Written out, because importing librosa takes more than a second and 110 MB.

    Returns:
        `(257, 80)`.
    """
    # Slaney's scale is linear to 1 kHz, 15 mels, and logarithmic above, 27 mels to 6.4 kHz.
    top = 15.0 + 27.0 * np.log(SAMPLE_RATE / 2 / 1000.0) / np.log(6.4)
    mels = np.linspace(0.0, top, N_MELS + 2)
    edges_hz = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * 6.4 ** ((mels - 15.0) / 27.0))
    hertz = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    triangles = [
        np.interp(hertz, edges, (0.0, 1.0, 0.0)) * 2.0 / (edges[2] - edges[0])
        for edges in np.lib.stride_tricks.sliding_window_view(edges_hz, 3)
    ]
    return np.stack(triangles, axis=1).astype(np.float32)


def move_sound(source: Path, destination: Path, offset_ms: int) -> None:
    """Write a sound file that is heard later, after silence, or earlier, its beginning cut off.

    Args:
        source: FLAC or WAV, any rate and channels.
        destination: FLAC of the same rate and channels, 16 bit.
        offset_ms: Above 0: later.
    """
    import soundfile

    with soundfile.SoundFile(source) as old:
        samples = round(offset_ms * old.samplerate / 1000)
        with soundfile.SoundFile(
            destination, "w", old.samplerate, old.channels, "PCM_16", format="FLAC"
        ) as new:
            if samples > 0:
                new.write(np.zeros((samples, old.channels), np.int16))
            else:
                old.seek(min(-samples, len(old)))
            for block in old.blocks(2**20, dtype="int16"):
                new.write(block)
