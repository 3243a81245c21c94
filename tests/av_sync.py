"""Films in which a flash and a click come at the same times, and when both are seen and heard in what becomes of them.

    film (flash = click) ─▶ intake ─▶ input.mkv, sound.flac ─▶ renderer without a model ─▶ output.mp4
                                          shift 1                                            shift 2

A shift is when the click begins less when the flash does, in seconds; above 0 the sound is late.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import imageio_ffmpeg
import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.films import ffmpeg
from worker.contract.intake.entry import take_in
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.uploads import Uploads
from worker.contract.messages import SamplingOptions, Stage
from worker.render_request import RenderRequest
from worker.test_card import TestCardRenderer
from worker.video_file import NO_LABEL

RATE_HZ: Final = 48_000
FLASH_FRAMES: Final = 3
CODECS: Final[dict[str, tuple[str, ...]]] = {
    "mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
    "mov": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "pcm_s16le"),
    "mkv": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "flac"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    "ts": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
    "avi": ("-c:v", "mpeg4", "-c:a", "pcm_s16le"),
}
"""AVI records no delay: there the sound begins with the pictures."""


class Nobody:
    """A sink for progress that nobody watches."""

    def stage(self, stage: Stage) -> None:
        """A stage begins."""

    def frames(self, done: int, total: int) -> None:
        """Frames are written."""


@dataclass(frozen=True)
class Shifts:
    """Seconds by which the click is late, one for each flash.

    Attributes:
        fps: Frames per second of the result.
        taken: After the intake.
        made: In the finished MP4.
    """

    fps: float
    taken: list[float]
    made: list[float]


def write_film(path: Path, rate: str, moments_s: list[float], delay_s: float) -> Path:
    """A film by its suffix's codecs, whose sound track begins `delay_s` behind the pictures.

    Args:
        path: Where to.
        rate: Frames per second, such as 30000/1001.
        moments_s: When flashes and clicks are, to the nearest frame.
        delay_s: Of the sound track.
    """
    fps = Fraction(rate)
    flashes = [round(moment_s * fps) for moment_s in moments_s]
    end_s = max(moments_s) + 0.7
    samples = np.random.default_rng(0).normal(0, 1e-4, round((end_s - delay_s) * RATE_HZ))
    burst = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ // 50) / RATE_HZ)
    for number in flashes:
        first = round((float(number / fps) - delay_s) * RATE_HZ)
        samples[first : first + len(burst)] += burst
    wav = path.with_suffix(".clicks.wav")
    soundfile.write(wav, samples, RATE_HZ)
    white = "+".join(f"between(n\\,{n}\\,{n + FLASH_FRAMES - 1})" for n in flashes)
    ffmpeg(
        *("-f", "lavfi", "-i", f"color=black:s=96x96:r={rate}:d={end_s:.3f}"),
        *("-itsoffset", f"{delay_s:.3f}", "-i", wav, "-map", "0:v", "-map", "1:a"),
        *("-vf", f"drawbox=c=white:t=fill:enable='{white}',format=yuv420p"),
        *CODECS[path.suffix[1:]],
        path,
    )
    wav.unlink()
    return path


def measure(film: Path, folder: Path, **options: Any) -> Shifts:
    """Take a film in as a video and as its own voice, render it, and say how far apart both are."""
    # A busy machine is no fault of the film.
    limits = IntakeLimits(wall_clock_s=900.0)
    job = take_in(Uploads(film, video=film), folder, SamplingOptions(**options), limits)
    fps = job.options.fps
    taken = shifts(
        [number / fps for number in _flashes(folder / "input.mkv")],
        _onsets_s(*soundfile.read(folder / "sound.flac", always_2d=True)),
    )
    output = folder / "output.mp4"
    TestCardRenderer().render(RenderRequest.of(job, folder.joinpath, output, NO_LABEL), Nobody())
    times_s = _shown_s(output)
    heard = folder / "heard.wav"
    ffmpeg("-copyts", "-i", output, "-af", "aresample=async=1:first_pts=0", heard)
    made = shifts(
        [times_s[number] for number in _flashes(output)],
        _onsets_s(*soundfile.read(heard, always_2d=True)),
    )
    return Shifts(fps, taken, made)


def shifts(flashes_s: list[float], clicks_s: list[float]) -> list[float]:
    """By pairs; as many flashes as clicks are expected."""
    assert len(flashes_s) == len(clicks_s), (flashes_s, clicks_s)
    return [click - flash for flash, click in zip(flashes_s, clicks_s, strict=True)]


def _flashes(film: Path) -> list[int]:
    """Numbers of the frames at which a flash begins."""
    raw = _output(film, "-vf", "scale=2:2:flags=area,format=gray", "-f", "rawvideo")
    bright = np.frombuffer(raw, np.uint8).reshape(-1, 4).mean(axis=1) > 128
    return np.flatnonzero(np.diff(bright.astype(np.int8), prepend=0) == 1).tolist()


def _shown_s(film: Path) -> list[float]:
    """When each picture is shown, by the container's clock."""
    listed = _output(film, "-map", "0:v", "-c", "copy", "-f", "framecrc").decode()
    tick = next(line for line in listed.splitlines() if line.startswith("#tb 0:")).split(": ")[1]
    packets = [line.split(",") for line in listed.splitlines() if line[0] != "#"]
    return sorted(float(int(packet[2]) * Fraction(tick)) for packet in packets)


def _onsets_s(samples: NDArray[np.float64], rate_hz: int) -> list[float]:
    places = np.flatnonzero(np.abs(samples).max(axis=1) > 0.1)
    first = np.flatnonzero(np.diff(places, prepend=-rate_hz) > 0.1 * rate_hz)
    return [float(place / rate_hz) for place in places[first]]


def _output(film: Path, *arguments: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-copyts", "-i", str(film)]
    command += ["-fps_mode", "passthrough", *arguments, "pipe:1"]
    return subprocess.run(command, capture_output=True, check=True).stdout
