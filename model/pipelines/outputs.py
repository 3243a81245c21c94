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
from model.face.alignment import crop_affine, warp_points
from model.face.head_motion import HeadMotion
from model.face.landmarks import NUM_LANDMARKS
from model.media.frames import FrameSource
from model.media.window import Mat, Window, WindowedFrames
from model.pipelines.presets import Frame, Init, Region

_ARRAYS: Final = ("image", "crop_affine", "reference_landmarks", "target_landmarks")
_PARTS: Final = ("reference_affine", "more_references", "footage", "head", "mat")
_REFERENCE: Final = ("image", "crop_affine", "landmarks")
_FOOTAGE: Final = ("source_index", "landmarks", "hidden", "share")
_MOTION: Final = tuple(field.name for field in dataclasses.fields(HeadMotion))


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture of the person.

    Attributes:
        image: `(H, W, 3)`, uint8 RGB.
        crop_affine: `(2, 3)` float32, picture pixels to crop units.
        landmarks: The face `(68, 2)` float32, crop units.
    """

    image: NDArray[np.uint8]
    crop_affine: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    @classmethod
    def of(cls, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Reference:
        """A picture whose face is at `landmarks` `(68, 2)`, pixels."""
        affine = crop_affine(landmarks)
        return cls(image, affine, warp_points(affine, landmarks))


@dataclass(frozen=True, eq=False)
class Footage:
    """Moving pictures that a mouth is drawn into; T frames are shown of the source's N.

    Attributes:
        frames: The source.
        source_index: Source frame of each frame shown `(T,)`, int64.
        landmarks: The face that each of them shows `(T, 68, 2)` float32, units of its own crop.
        hidden: `(T,)`; True where nothing is drawn: the face is gone for long, or the frame is not dubbed.
        share: How far each frame's mouth is the wanted one `(T,)` float32: below 1 at the borders of parts.
        held_frames: Source frames without the face, whose pose is held.
        looped: Whether the source ran out before the sound.
        window: What `frames` are of the whole footage; None = all.
    """

    frames: FrameSource
    source_index: NDArray[np.int64]
    landmarks: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    share: NDArray[np.float32]
    held_frames: tuple[int, ...] = ()
    looped: bool = False
    window: Window | None = None


@dataclass(frozen=True, eq=False)
class HeadPath:
    """How a photograph's head moves once its mouth is drawn; T frames are shown of the motion's N.

    Attributes:
        motion: Of the head.
        source_index: Frame of the motion at each frame shown `(T,)`, int64.
        held_frames: Driver's frames without a face, whose pose is bridged.
        looped: Whether the driver ran out and was shown backwards.
    """

    motion: HeadMotion
    source_index: NDArray[np.int64]
    held_frames: tuple[int, ...] = ()
    looped: bool = False


# Identity, not content, tells two plans apart: the pipeline keeps what it derived from each.
@dataclass(frozen=True, eq=False)
class RenderPlan:
    """Everything that decides a video's frames, and nothing that a network must compute again.

    Attributes:
        image: The reference picture `(H, W, 3)`, uint8 RGB; without footage it is also what the
            mouth is drawn into.
        crop_affine: Pixels to crop units, float32: the picture's `(2, 3)`, or with footage every
            frame's `(T, 2, 3)`.
        reference_landmarks: The picture's face `(68, 2)` float32, crop units.
        target_landmarks: Every frame's face `(T, 68, 2)` float32, units of its own crop.
        face_bbox_xyxy: The chosen face, pixels of the picture or of the footage's first good frame.
        fps: Frames per second.
        preset: A key of `model.pipelines.presets.PRESETS`.
        num_inference_steps: Denoising steps a frame; 0 for the portrait engine alone.
        init: Start of the sampler.
        seed: Of the one noise that all frames share.
        restore_detail: Whether the photograph's fine detail is added to generated pixels.
        batch_size: Most frames of a batch; the first ones are smaller (`scenes.batch_spans`).
        reference_affine: The picture's crop `(2, 3)`, with footage only.
        more_references: Further pictures of the same person.
        footage: What the mouth is drawn into, or None for the picture.
        head: How the finished picture's head moves, or None for a still one; never with footage.
        region: What the networks draw.
        motion: Strength of the head's own motion that was asked for; 0 = still, or a driver's.
        blink: Whether blinks of its own were.
        loop: Whether the last frame is the first one.
        frame: What is shown of picture or footage: "source" = all.
        mat: What finished frames are laid upon, where a picture is too narrow for `frame`.
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
    reference_affine: NDArray[np.float32] | None = None
    more_references: tuple[Reference, ...] = ()
    footage: Footage | None = None
    head: HeadPath | None = None
    region: Region = "mouth"
    motion: float = 0.0
    blink: bool = False
    loop: bool = False
    frame: Frame = "source"
    mat: Mat | None = None

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
        affines = (2, 3) if self.footage is None else (targets[0], 2, 3)
        if self.crop_affine.shape != affines or (self.reference_affine is None) != (
            self.footage is None
        ):
            raise ShapeError(
                f"crop_affine has shape {self.crop_affine.shape}; expected {affines}, and "
                "reference_affine with footage only"
            )
        if self.footage is not None and self.footage.landmarks.shape != targets:
            raise ShapeError(
                f"footage has landmarks {self.footage.landmarks.shape}; expected {targets}"
            )

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self.target_landmarks)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is drawn into, pixels: the video's, but for a mat."""
        if self.footage is not None:
            return self.footage.frames.width, self.footage.frames.height
        return int(self.image.shape[1]), int(self.image.shape[0])

    @property
    def height(self) -> int:
        """Height of the video, pixels."""
        return self.size[1] if self.mat is None else self.mat.height

    @property
    def width(self) -> int:
        """Width of the video, pixels."""
        return self.size[0] if self.mat is None else self.mat.width

    @property
    def held_frames(self) -> tuple[int, ...]:
        """Frames of the footage or of the driver without the face; the last good pose is held there."""
        moving = self.footage or self.head
        return () if moving is None else moving.held_frames

    @property
    def looped(self) -> bool:
        """Whether footage or driver was shorter than the sound."""
        moving = self.footage or self.head
        return moving is not None and moving.looped

    @property
    def reference(self) -> Reference:
        """The picture that lips, jaw and identity come from."""
        affine = self.crop_affine if self.reference_affine is None else self.reference_affine
        return Reference(self.image, affine, self.reference_landmarks)

    @property
    def references(self) -> tuple[Reference, ...]:
        """All pictures of the person."""
        return (self.reference, *self.more_references)

    def affine(self, index: int) -> NDArray[np.float32]:
        """Pixels to crop units of frame `index`, `(2, 3)`."""
        return self.crop_affine if self.footage is None else self.crop_affine[index]

    def save(self, path: Path) -> None:
        """Write the plan as one npz file: plain arrays and a line of JSON; footage's frames stay where they are."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in (*_ARRAYS, *_PARTS)
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for number, reference in enumerate(self.more_references):
            for name in _REFERENCE:
                arrays[f"more_{number}_{name}"] = getattr(reference, name)
        values["num_more"] = len(self.more_references)
        if self.footage is not None:
            arrays["reference_affine"] = self.reference_affine
            arrays |= {f"footage_{name}": getattr(self.footage, name) for name in _FOOTAGE}
            values["footage"] = {"looped": self.looped, "held_frames": self.held_frames}
            if self.footage.window is not None:
                values["window"] = dataclasses.asdict(self.footage.window)
        if self.mat is not None:
            values["mat"] = dataclasses.asdict(self.mat)
        if self.head is not None:
            arrays["head_source_index"] = self.head.source_index
            moving = {name: getattr(self.head.motion, name) for name in _MOTION}
            arrays |= {f"head_{name}": value for name, value in moving.items() if value is not None}
            values["head"] = {"looped": self.looped, "held_frames": self.held_frames}
        with path.open("wb") as file:  # given a name, numpy would add a suffix to it
            np.savez_compressed(file, values=np.array(json.dumps(values)), **arrays)

    @classmethod
    def load(cls, path: Path, frames: FrameSource | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            path: The file.
            frames: The footage's source, whole; needed for a plan with footage.
        Raises:
            ShapeError: The arrays are not a plan's.
            ValueError: The plan has footage and `frames` is None, or the other way round.
        """
        with np.load(path, allow_pickle=False) as file:
            values = json.loads(str(file["values"]))
            arrays = {name: file[name] for name in file.files if name != "values"}
        kept = values.pop("footage", None)
        if (kept is None) != (frames is None):
            raise ValueError(
                f"{path.name} is a plan {'with' if kept else 'without'} footage; give `frames` "
                "for one with footage, and only then"
            )
        values["face_bbox_xyxy"] = tuple(values["face_bbox_xyxy"])
        values["more_references"] = tuple(
            Reference(**{name: arrays[f"more_{number}_{name}"] for name in _REFERENCE})
            for number in range(values.pop("num_more"))
        )
        if "mat" in values:
            values["mat"] = Mat(**values["mat"])
        window = Window(**cut) if (cut := values.pop("window", None)) else None
        if kept is not None and frames is not None:
            values["reference_affine"] = arrays["reference_affine"]
            values["footage"] = Footage(
                frames=frames if window is None else WindowedFrames(frames, window),
                window=window,
                held_frames=tuple(kept["held_frames"]),
                looped=kept["looped"],
                **{name: arrays[f"footage_{name}"] for name in _FOOTAGE},
            )
        if (path_values := values.pop("head", None)) is not None:
            values["head"] = HeadPath(
                motion=HeadMotion(
                    **{n: arrays[f"head_{n}"] for n in _MOTION if f"head_{n}" in arrays}
                ),
                source_index=arrays["head_source_index"],
                held_frames=tuple(path_values["held_frames"]),
                looped=path_values["looped"],
            )
        return cls(**{name: arrays[name] for name in _ARRAYS}, **values)


@dataclass
class TalkingFaceOutput(BaseOutput):
    """A finished video in memory.

    Attributes:
        frames: `(T, H, W, 3)`, uint8 RGB.
        fps: Frames per second.
    """

    frames: NDArray[np.uint8]
    fps: float
