"""The pipeline that ships and a plan of the example, for a GPU's checks, on a bare machine too: without MediaPipe."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from model.face.detection import DetectedFace
from model.media.audio import SAMPLE_RATE
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

ROOT = Path(__file__).resolve().parents[1]


class KnownFace:
    """A detector that knows the example portrait at any size, and no other picture."""

    def __init__(self) -> None:
        known = json.loads((ROOT / "tests" / "gpu" / "portrait.json").read_text())
        self._units = np.array(known["landmarks"], np.float32) / known["side"]

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return [DetectedFace.from_landmarks(self._units * np.float32(len(image)), 1.0)]


def load_example_pipeline(device: str, dtype: str = "auto") -> TalkingFacePipeline:
    """The checkpoint that ships."""
    pipeline = load_pipeline(device=device, dtype="fp32" if device == "cpu" else dtype)
    pipeline.detector = KnownFace()
    return pipeline


def example_picture(side: int) -> NDArray[np.uint8]:
    """The example portrait `(side, side, 3)`."""
    picture = cv2.imread(str(ROOT / "examples" / "portrait.jpg"))
    assert picture is not None
    resized = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized[..., ::-1]).astype(np.uint8)


def example_speech(seconds: float) -> NDArray[np.float32]:
    """The example voice at 16 kHz, repeated to a length."""
    sound, rate = soundfile.read(ROOT / "examples" / "speech.wav", dtype="float32")
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    known = np.arange(len(sound)) / rate
    return np.interp(times % known[-1], known, sound).astype(np.float32)


def example_plan(
    pipeline: TalkingFacePipeline,
    preset: str,
    seconds: float,
    side: int,
    *,
    motion: str = "natural",
    references: int = 1,
) -> RenderPlan:
    """The example portrait and voice; more references are the portrait again."""
    image = example_picture(side)
    return pipeline.prepare(
        image,
        example_speech(seconds),
        RenderOptions(preset=preset, motion=motion),  # type: ignore[arg-type]
        references=[image] * (references - 1),
    )
