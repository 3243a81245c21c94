"""The completer runs at 25 frames a second, films at their own rate: lips come at the same moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import CONTENT
from model.media.audio import SAMPLE_RATE
from model.networks.landmark_completion import LandmarkCompleter
from model.pipelines.landmark_completion import complete_landmarks

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 2.5


@pytest.fixture(scope="module")
def completer() -> LandmarkCompleter:
    """The one that ships."""
    folder = ROOT / "model" / "weights" / "landmark_completer"
    network = LandmarkCompleter.from_pretrained(folder, low_cpu_mem_usage=False)
    assert isinstance(network, LandmarkCompleter)
    return network.eval()


@pytest.fixture(scope="module")
def waveform() -> NDArray[np.float32]:
    sound, rate = soundfile.read(ROOT / "examples" / "speech.wav", dtype="float32")
    times = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    return np.interp(times, np.arange(len(sound)) / rate, sound).astype(np.float32)


def lips(
    completer: LandmarkCompleter, waveform: NDArray[np.float32], fps: float
) -> NDArray[np.float64]:
    faces = complete_landmarks(completer, waveform, AVERAGE_FACE, fps=fps)
    return faces[:, list(CONTENT)].reshape(len(faces), -1).astype(np.float64)


@pytest.fixture(scope="module")
def at_25(completer: LandmarkCompleter, waveform: NDArray[np.float32]) -> PchipInterpolator:
    points = lips(completer, waveform, 25.0)
    return PchipInterpolator(np.arange(len(points)) / 25.0, points)


@pytest.mark.parametrize("fps", [24000 / 1001, 30000 / 1001, 50.0, 60000 / 1001])
def test_lips_come_when_they_come_at_25_frames_a_second(
    completer: LandmarkCompleter,
    waveform: NDArray[np.float32],
    at_25: PchipInterpolator,
    fps: float,
) -> None:
    points = lips(completer, waveform, fps)

    times_s = np.arange(len(points)) / fps
    inside = (times_s > 0.1) & (times_s < SECONDS - 0.1)
    lags_s = np.arange(-0.03, 0.0301, 0.0005)
    wrong = [float(((at_25(times_s[inside] + lag) - points[inside]) ** 2).sum()) for lag in lags_s]
    assert len(points) == int(np.ceil(fps * SECONDS - 1e-6))
    assert abs(lags_s[int(np.argmin(wrong))]) <= 0.005
    # A shift that would be seen is seen here.
    assert min(wrong) < 0.1 * wrong[0] and min(wrong) < 0.1 * wrong[-1]
