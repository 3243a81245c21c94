"""Who is where in a film: faces of single frames become tracks.

A track ends where the film cuts and where its face vanishes, jumps or changes its size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.detection import DetectedFace, FaceDetector, MediaPipeFaceDetector
from model.face.tracking import follow, thumbnail

_CUT: Final = 18.0
"""Mean difference of two thumbnails, of 255. Frames of one shot differ by a few; of two portraits'
photographs, 99 % differ by more. A cut too many only divides a track."""


@cache
def face_detector() -> FaceDetector:
    """This process's detector, static: no filter over time, so no lag."""
    cv2.setNumThreads(1)
    return MediaPipeFaceDetector()


@dataclass
class FaceTrack:
    """One face in consecutive frames, the first of which has the number `first` in the film."""

    first: int
    faces: list[DetectedFace] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """`(T, 68, 2)`, pixels of the film."""
        return np.stack([face.landmarks for face in self.faces]).astype(np.float32)

    @property
    def size_px(self) -> float:
        """Median over the frames of the longer side of the face's box."""
        return float(np.median([face.size_px for face in self.faces]))

    def piece(self, start: int, stop: int) -> FaceTrack:
        """Frames `start` to `stop` of this track."""
        return FaceTrack(self.first + start, self.faces[start:stop])


@dataclass(frozen=True)
class FilmFaces:
    """What `find_tracks` saw: tracks, the earlier and larger ones first; frames seen, and those without a face."""

    tracks: list[FaceTrack]
    num_frames: int
    num_empty: int


def find_tracks(
    frames: Iterable[NDArray[np.uint8]],
    detector: FaceDetector,
    wanted: NDArray[np.bool_] | None = None,
) -> FilmFaces:
    """Follow every face of a film, `(H, W, 3)` uint8 RGB each; one frame is held at a time.

    `wanted` says of each frame whether it is looked at; frames beyond its end are not. None for all.
    """
    open_tracks: list[FaceTrack] = []
    closed: list[FaceTrack] = []
    seen = empty = 0
    before: NDArray[np.float32] | None = None
    for number, frame in enumerate(frames):
        small = thumbnail(frame)
        look = wanted is None or (number < len(wanted) and bool(wanted[number]))
        if not look or (before is not None and float(np.abs(small - before).mean()) > _CUT):
            closed += open_tracks
            open_tracks = []
        before = small
        if not look:
            continue
        faces = detector(frame)
        seen += 1
        empty += not faces
        carried: list[FaceTrack] = []
        for track in sorted(open_tracks, key=lambda track: -track.faces[-1].size_px):
            face = follow(track.faces[-1], faces) if faces else None
            if face is None:
                closed.append(track)
                continue
            faces = [other for other in faces if other is not face]
            track.faces.append(face)
            carried.append(track)
        open_tracks = carried + [FaceTrack(number, [face]) for face in faces]
    tracks = sorted(closed + open_tracks, key=lambda track: (track.first, -track.size_px))
    return FilmFaces(tracks, seen, empty)


def overlaps_larger(track: FaceTrack, others: Iterable[FaceTrack]) -> bool:
    """Whether one of `others` is larger than `track` and shares a frame with it."""
    return any(
        other.first < track.first + len(track)
        and track.first < other.first + len(other)
        and other.size_px > track.size_px
        for other in others
        if other is not track
    )
