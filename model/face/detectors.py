"""The face detectors by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from model.face.detection import FaceDetector, MediaPipeFaceDetector
from model.face.face_alignment_detector import FaceAlignmentDetector

DetectorName = Literal["mediapipe", "face-alignment"]


def load_detector(
    name: DetectorName, *, weights_dir: Path | None = None, device: str = "cpu"
) -> FaceDetector:
    """Load a detector.

    Args:
        name: "mediapipe" carries its models, "face-alignment" needs its weights.
        weights_dir: Folder of face-alignment's weights; None = the package's own cache.
        device: Where face-alignment runs; mediapipe is on the CPU.
    Raises:
        MissingDependencyError: The package or its weights are absent.
        CheckpointError: face-alignment's weights are not what they should be.
    """
    if name == "mediapipe":
        return MediaPipeFaceDetector()
    return FaceAlignmentDetector(weights_dir, device)
