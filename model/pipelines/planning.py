"""What is decided before anything is drawn: whose face, its mouth in every frame, the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import AudioTooShortError, ShapeError
from model.face.detection import FaceDetector, select_face
from model.face.small_faces import find_faces
from model.face.suitability import check_suitable
from model.media.audio import SAMPLE_RATE
from model.media.window import Mat
from model.networks.landmark_completion import LandmarkCompleter
from model.pipelines.dubbing import FollowedFace
from model.pipelines.head_paths import close_loop
from model.pipelines.landmark_completion import complete_landmarks, follow_face
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import HeadPath, Reference, RenderPlan
from model.pipelines.parallel import one_thread
from model.pipelines.presets import PRESETS

MIN_SECONDS: Final = 0.2
"""Shortest sound that is animated."""

Box = tuple[float, float, float, float]


def check_inputs(pictures: Sequence[NDArray[np.uint8]], waveform: NDArray[np.float32]) -> None:
    """Say what can be said before any work.

    Raises:
        AudioTooShortError: The sound is shorter than `MIN_SECONDS`.
        ShapeError: A picture is not `(H, W, 3)` uint8, or the sound not `(N,)` float32.
    """
    for image in pictures:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ShapeError(
                f"image has shape {image.shape} and dtype {image.dtype}; expected (H, W, 3) uint8"
            )
    if waveform.ndim != 1 or waveform.dtype != np.float32:
        raise ShapeError(
            f"waveform has shape {waveform.shape} and dtype {waveform.dtype}; expected (N,) float32"
        )
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < MIN_SECONDS:
        raise AudioTooShortError(
            f"The sound is {seconds:.2f} s long; expected at least {MIN_SECONDS} s. "
            "Send a longer recording."
        )


def find_reference(
    detector: FaceDetector,
    image: NDArray[np.uint8],
    face_index: int = 0,
    *,
    check: bool = True,
) -> tuple[Reference, Box]:
    """A picture's face `(H, W, 3)`, and its box in pixels.

    Args:
        detector: Finds faces.
        image: `(H, W, 3)` uint8 RGB.
        face_index: Which one.
        check: Whether one that can only be drawn badly is refused.
    Raises:
        InputError: The picture shows no face, or none that can be drawn.
    """
    face = select_face(find_faces(detector, image), face_index)
    if check:
        check_suitable(image, face.landmarks)
    return Reference.of(image, face.landmarks), face.bbox_xyxy


@dataclass(frozen=True)
class Planner:
    """Completes landmarks, and settles what options leave to the preset.

    Attributes:
        completer: On the CPU, fp32.
        batch_size: Frames a batch.
        workers: Threads that complete landmarks.
    """

    completer: LandmarkCompleter
    batch_size: int
    workers: int = 1

    def plan(
        self,
        waveform: NDArray[np.float32],
        references: Sequence[Reference],
        followed: FollowedFace | None,
        bbox_xyxy: Box,
        fps: float,
        options: RenderOptions,
        head: HeadPath | None = None,
        shown_too: Sequence[Reference] = (),
        mat: Mat | None = None,
    ) -> RenderPlan:
        """The plan of a video.

        Args:
            waveform: `(N,)`, float32, 16 kHz mono.
            references: Pictures of the person; the first one's mouth moves.
            followed: The face in footage, or None: the mouth is drawn into the first picture.
            bbox_xyxy: The chosen face, pixels.
            fps: Frame rate of the result.
            options: The caller's choices, but for `fps`.
            head: How the head of the first picture moves, or None.
            shown_too: Further pictures that only the drawing looks at, not the landmarks.
            mat: What finished frames are laid upon, or None.
        """
        first, *more = references
        with one_thread():
            targets = complete_landmarks(
                self.completer,
                waveform,
                first.landmarks,
                fps=fps,
                lip_strength=options.lip_strength,
                more_references=[reference.landmarks for reference in more],
                pose=None if followed is None else followed.pose,
                workers=self.workers,
            )
        if followed is not None:
            own, share = followed.footage.landmarks, followed.footage.share[:, None, None]
            targets = follow_face(targets, first.landmarks, own)
            targets = np.where(share == 1.0, targets, own + share * (targets - own))
        elif options.loop:
            targets = close_loop(targets, fps)

        preset = PRESETS[options.preset]
        steps, restore_detail = options.num_inference_steps, options.restore_detail
        if steps is None or not preset.num_inference_steps:
            steps = preset.num_inference_steps
        return RenderPlan(
            image=first.image,
            crop_affine=first.crop_affine if followed is None else followed.crop_affine,
            reference_landmarks=first.landmarks,
            target_landmarks=targets,
            face_bbox_xyxy=bbox_xyxy,
            fps=fps,
            preset=options.preset,
            num_inference_steps=steps,
            init=options.init or preset.init,
            seed=options.seed,
            restore_detail=preset.restore_detail if restore_detail is None else restore_detail,
            batch_size=self.batch_size,
            reference_affine=None if followed is None else first.crop_affine,
            more_references=(*more, *shown_too),
            footage=None if followed is None else followed.footage,
            head=head,
            region=options.region,
            motion=options.motion_strength,
            blink=bool(options.blink),
            loop=options.loop,
            frame=options.frame,
            mat=mat,
        )
