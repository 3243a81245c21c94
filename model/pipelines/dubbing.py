"""Footage for a sound: which frame shows when, where its face is, and which frame the others are drawn from.

footage ─▶ boomerang over the sound ─▶ track ─▶ calm crops, landmarks ─▶ pose for the completer
                                         └────▶ reference: sharp, usual mouth, usual pose
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError, UnsupportedMediaError
from model.face.alignment import invert_affine, warp_points
from model.face.detection import DetectedFace, FaceDetector
from model.face.head_motion import relative_motion
from model.face.landmarks import POSE
from model.face.suitability import check_suitable
from model.face.tracking import (
    FaceTrack,
    choose_extremes,
    choose_reference,
    crop_landmarks,
    smooth_crops,
    track_face,
)
from model.media.audio import FPS, num_frames
from model.media.frames import Ending, FrameSource, shown_numbers
from model.media.window import Mat, WindowedFrames
from model.pipelines.dubbed_parts import drawn_share
from model.pipelines.framing import choose_window, on_mat
from model.pipelines.landmark_completion import num_output_frames
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import Footage, HeadPath, Reference


@dataclass(frozen=True)
class FollowedFace:
    """One face through footage, T frames for a sound.

    Attributes:
        footage: What is shown.
        crop_affine: Every frame's crop `(T, 2, 3)`, pixels to crop units.
        pose: Pose points at 25 fps `(ceil(25 * seconds), 37, 2)`, crop units.
        bbox_xyxy: The face in the first frame that shows it, pixels.
        reference: The frame that shows the person best.
        more_references: Frames that show what it hides: lips shut, and teeth.
        mat: What finished frames are laid upon, or None.
    """

    footage: Footage
    crop_affine: NDArray[np.float32]
    pose: NDArray[np.float32]
    bbox_xyxy: tuple[float, float, float, float]
    reference: Reference
    more_references: tuple[Reference, ...]
    mat: Mat | None = None

    def check_suitable(self) -> None:
        """Refuse footage in whose best frames the face can only be drawn badly.

        Raises:
            InputError: None of the reference frames shows a whole mouth; that of the best one.
        """
        first: InputError | None = None
        for one in (self.reference, *self.more_references):
            face = warp_points(invert_affine(one.crop_affine), one.landmarks)
            try:
                check_suitable(one.image, face, "video")
            except InputError as error:
                first = first or error
            else:
                return
        if first is not None:
            raise first


def follow_footage(
    source: FrameSource,
    detector: FaceDetector,
    *,
    num_samples: int,
    fps: float,
    options: RenderOptions,
) -> FollowedFace:
    """Follow a face through as much of `source` as a sound needs.

    Args:
        source: The footage.
        detector: Finds faces.
        num_samples: Length of the sound at 16 kHz.
        fps: Frame rate of the result; the source's nearest frames are shown.
        options: Which face (see `track_face`), what is shown of it, which parts are dubbed, and what
            comes behind the footage's end.
    Raises:
        InputError: As `track_face` says, or the footage has no frames.
    """
    ending = options.video_shorter
    index, at_model_rate, track = _track(
        source, detector, num_samples, fps, options.face_index, ending
    )
    landmarks, framed = track.landmarks, None
    if options.frame != "source":
        size = (source.width, source.height)
        shown = np.unique(index[track.found[index]])
        faces = landmarks[shown] if len(shown) else landmarks
        framed = choose_window(faces, size, options.frame, options.max_side)
        landmarks = framed.window.place(landmarks)
        source = WindowedFrames(source, framed.window)
    affines = smooth_crops(landmarks, source.fps, track.scene)
    own = crop_landmarks(landmarks, affines, source.fps, track.scene)

    best = choose_reference(own, track.found, track.sharpness)
    extremes = choose_extremes(own, track.found, track.sharpness, best)
    reference, *more = (
        Reference.of(next(iter(source.read(n, n + 1))), landmarks[n]) for n in (best, *extremes)
    )
    first = int(np.flatnonzero(track.found)[0])
    mat = None if framed is None else framed.mat
    share = np.ones(len(index), np.float32)
    if options.dubbed is not None:
        share = drawn_share(len(index), fps, options.dubbed)
    return FollowedFace(
        footage=Footage(
            frames=source,
            source_index=index,
            landmarks=own[index],
            hidden=track.hidden(source.fps)[index] | (share == 0.0),
            share=share,
            held_frames=tuple(np.flatnonzero(~track.found).tolist()),
            looped=_has_ended(source, len(index), fps),
            window=None if framed is None else framed.window,
        ),
        crop_affine=affines[index],
        pose=own[at_model_rate][:, list(POSE)],
        bbox_xyxy=on_mat(DetectedFace.from_landmarks(landmarks[first], 1.0), mat),
        reference=reference,
        more_references=tuple(more),
        mat=mat,
    )


def follow_driver(
    driver: FrameSource, detector: FaceDetector, *, num_samples: int, fps: float
) -> HeadPath:
    """How a photograph's head goes a driver's way.

    Args:
        driver: The video of a head; its largest face counts.
        detector: Finds faces.
        num_samples: Length of the sound at 16 kHz.
        fps: Frame rate of the result.
    Raises:
        InputError: As `track_face` says, or the driver has no frames.
    """
    index, _, track = _track(driver, detector, num_samples, fps, 0, "bounce")
    return HeadPath(
        motion=relative_motion(track, driver.fps),
        source_index=index,
        held_frames=tuple(np.flatnonzero(~track.found).tolist()),
        looped=_has_ended(driver, len(index), fps),
    )


def _has_ended(source: FrameSource, num_wanted: int, fps: float) -> bool:
    """Whether footage has fewer frames than are wanted at another rate; a single one is a picture."""
    return source.num_frames > 1 and bool(
        _positions(source, num_wanted, fps)[-1] >= source.num_frames
    )


def _track(
    source: FrameSource,
    detector: FaceDetector,
    num_samples: int,
    fps: float,
    face_index: int,
    ending: Ending,
) -> tuple[NDArray[np.int64], NDArray[np.int64], FaceTrack]:
    """Frames shown at the result's rate and at 25 fps, and the face through all that are needed."""
    if source.num_frames < 1:
        raise UnsupportedMediaError("The video has no frames; expected at least one.")
    index = shown_frames(source, num_output_frames(num_samples, fps), fps, ending)
    at_model_rate = shown_frames(source, num_frames(num_samples), FPS, ending)
    needed = int(max(index.max(), at_model_rate.max())) + 1
    return index, at_model_rate, track_face(source.read(0, needed), detector, face_index)


def shown_frames(
    source: FrameSource, num_wanted: int, fps: float, ending: Ending = "bounce"
) -> NDArray[np.int64]:
    """Source frame shown at each of `num_wanted` frames of another rate `(T,)`; see `shown_numbers`."""
    position = _positions(source, num_wanted, fps)
    return shown_numbers(int(position[-1]) + 1, source.num_frames, ending)[position]


def _positions(source: FrameSource, num_wanted: int, fps: float) -> NDArray[np.int64]:
    """Source frame at each frame of another rate `(T,)`, as if the source went on for ever."""
    times = np.arange(num_wanted) * (source.fps / fps)
    # The small addend keeps 25 of 25.0001 fps from repeating a frame at a rounding's mercy.
    return np.floor(times + 1e-3).astype(np.int64)
