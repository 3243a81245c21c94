"""A film's sound, in step with its pictures.

Containers start their streams at different times: GRID's MPEG files begin their sound some hundredths
before the first picture, MP4s hide an encoder's priming, downloads may be late by whole frames. What
counts is the time of the first decoded picture; the sound is padded or cut to begin there.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import UnsupportedMediaError
from model.media.audio import SAMPLE_RATE, SAMPLES_PER_FRAME
from model.media.ffmpeg import ffmpeg_path
from model.media.probe import probe

_TIME_BASE: Final = re.compile(r"#tb 0: (\d+)/(\d+)")
_PACKET: Final = re.compile(r"^0,\s*-?\d+,\s*(-?\d+),", re.MULTILINE)


def read_sound(path: Path, *, from_zero: bool = True) -> NDArray[np.float32]:
    """Decode a media file's sound: `(N,)` float32, 16 kHz mono; gaps between packets are silent.

    A late start becomes leading silence `from_zero`; otherwise the first sample is the first that there is.

    Raises:
        UnsupportedMediaError: No sound track, or it cannot be decoded.
    """
    resample = "aresample=async=1" + (":first_pts=0" if from_zero else "")
    output = ["-vn", "-af", resample, "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "-"]
    return np.frombuffer(_ffmpeg(path, output), np.float32)


def read_sound_in_step(film: Path, sound: Path | None = None) -> NDArray[np.float32]:
    """Decode the sound of a film, `(N,)` float32, 16 kHz mono; sample 0 sounds when its first picture is shown.

    Args:
        film: A video file.
        sound: A file with its sound, when the film has none; it starts with the first picture.
    Raises:
        UnsupportedMediaError: No picture, no sound, or it cannot be decoded.
    """
    if sound is not None:
        return read_sound(sound)
    info = probe(film)
    if not info.num_frames:
        raise UnsupportedMediaError(f"{film.name} shows no picture; expected a film")
    if info.audio_codec is None:
        raise UnsupportedMediaError(f"{film.name} has no sound; expected a film of a talking face")
    shown_s = _first_time_s(film, ["-map", "0:V:0", "-frames:v", "1", "-c:v", "rawvideo"])
    heard_s = _first_time_s(film, ["-map", "0:a:0", "-frames:a", "1", "-c:a", "pcm_s16le"])
    waveform = read_sound(film, from_zero=False)
    late = round((heard_s - shown_s) * SAMPLE_RATE)
    return np.pad(waveform, (late, 0)) if late > 0 else waveform[-late:]


def fit_sound(waveform: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """Cut or pad 16 kHz sound to `num_frames` video frames, `(640 T,)`."""
    samples = num_frames * SAMPLES_PER_FRAME
    cut = waveform[:samples]
    return np.pad(cut, (0, samples - len(cut))).astype(np.float32)


def _first_time_s(film: Path, decode: Sequence[str]) -> float:
    """Time of the first picture or sound that a decoder gives, seconds."""
    # The decoder is asked, not the container: it knows what is priming and what is shown first.
    exact = ["-fps_mode", "passthrough", "-enc_time_base", "demux"]
    listing = _ffmpeg(film, ["-copyts", *decode, *exact, "-f", "framecrc", "-"]).decode()
    base, packet = _TIME_BASE.search(listing), _PACKET.search(listing)
    if base is None or packet is None:
        raise UnsupportedMediaError(f"cannot decode {film.name}: nothing in it can be decoded")
    return float(int(packet[1]) * Fraction(int(base[1]), int(base[2])))


def _ffmpeg(path: Path, output: Sequence[str]) -> bytes:
    command = [ffmpeg_path(), "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
    command += ["-i", f"file:{path}", *output]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()[-3:]
        raise UnsupportedMediaError(f"cannot decode {path.name}: {' / '.join(lines)}")
    return done.stdout
