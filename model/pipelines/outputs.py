"""What the pipeline hands over: the plan of a job, and its frames."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from diffusers.utils import BaseOutput
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.landmarks import NUM_LANDMARKS
from model.pipelines.presets import Init

_ARRAYS: Final = ("image", "crop_affine", "reference_landmarks", "target_landmarks")


# Identity, not content, tells two plans apart: the pipeline keeps what it derived from each.
@dataclass(frozen=True, eq=False)
class RenderPlan:
    """Everything that decides a video's frames, and nothing that a network must compute again.

    Attributes:
        image: The picture `(H, W, 3)`, uint8 RGB.
        crop_affine: `(2, 3)` float32, picture pixels to crop units.
        reference_landmarks: The picture's face `(68, 2)` float32, crop units.
        target_landmarks: Every frame's face `(T, 68, 2)` float32, crop units.
        face_bbox_xyxy: The chosen face, picture pixels.
        fps: Frames per second.
        preset: A key of `model.pipelines.presets.PRESETS`.
        num_inference_steps: Denoising steps a frame; 0 for the portrait engine alone.
        init: Start of the sampler.
        seed: Of the one noise that all frames share.
        restore_detail: Whether the photograph's fine detail is added to generated pixels.
        batch_size: Frames a batch; batches start at its multiples.
    """

    image: NDArray[np.uint8]
    crop_affine: NDArray[np.float32]
    reference_landmarks: NDArray[np.float32]
    target_landmarks: NDArray[np.float32]
    face_bbox_xyxy: tuple[float, float, float, float]
    fps: float
    preset: str
    num_inference_steps: int
    init: Init
    seed: int
    restore_detail: bool
    batch_size: int

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ShapeError(
                f"image has shape {self.image.shape} and dtype {self.image.dtype}; "
                "expected (H, W, 3) uint8"
            )
        wanted = (NUM_LANDMARKS, 2)
        targets, reference = self.target_landmarks.shape, self.reference_landmarks.shape
        if len(targets) != 3 or not targets[0] or targets[1:] != wanted or reference != wanted:
            raise ShapeError(
                f"target landmarks {targets}, reference landmarks {reference}; "
                "expected (T, 68, 2) with T >= 1 and (68, 2)"
            )

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self.target_landmarks)

    @property
    def height(self) -> int:
        """Height of picture and video, pixels."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Width of picture and video, pixels."""
        return int(self.image.shape[1])

    def save(self, path: Path) -> None:
        """Write the plan as one npz file: plain arrays and a line of JSON."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _ARRAYS
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with path.open("wb") as file:  # given a name, numpy would add a suffix to it
            np.savez_compressed(file, values=np.array(json.dumps(values)), **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ShapeError: The arrays are not a plan's.
        """
        with np.load(path, allow_pickle=False) as file:
            values = json.loads(str(file["values"]))
            arrays = {name: file[name] for name in _ARRAYS}
        values["face_bbox_xyxy"] = tuple(values["face_bbox_xyxy"])
        return cls(**arrays, **values)


@dataclass
class TalkingFaceOutput(BaseOutput):
    """A finished video in memory.

    Attributes:
        frames: `(T, H, W, 3)`, uint8 RGB.
        fps: Frames per second.
    """

    frames: NDArray[np.uint8]
    fps: float
