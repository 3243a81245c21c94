"""Which face of a picture a job is about, and whether it can be drawn: said the same way by all who ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.detection import DetectedFace, FaceDetector, select_face
from model.face.small_faces import choose_picture, find_faces
from model.face.suitability import check_suitable
from worker.contract.assets import FoundFace
from worker.failures import describe

MOST_FACES: Final = 16
"""So many can be named by `face_index`."""
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Portrait:
    """A picture that is looked at.

    Args:
        image: Normalised, `(H, W, 3)`, uint8 RGB.
        read_original: Reads it as large as it was sent; None where it was not shrunk.
    """

    image: Picture
    read_original: Callable[[], Picture] | None = None


def judge_face(
    detector: FaceDetector, portrait: Portrait, face_index: int, *, check: bool
) -> list[DetectedFace]:
    """Look at the face that a job is about.

    Args:
        detector: Finds faces.
        portrait: The job's picture.
        face_index: Which face.
        check: Whether one that can only be drawn badly is refused.

    Returns:
        All faces of the picture that would be animated, largest first.

    Raises:
        InputError: The face is absent, too small, or cannot be drawn.
    """
    image = portrait.image
    if portrait.read_original is not None:
        image, face_index = choose_picture(detector, image, portrait.read_original, face_index)
    faces = find_faces(detector, image)
    face = select_face(faces, face_index)
    if check:
        check_suitable(image, face.landmarks)
    return faces


def list_faces(detector: FaceDetector, portrait: Portrait) -> tuple[FoundFace, ...]:
    """All faces of a picture, and why a job with each of them would be refused.

    Small faces of a picture that was shrunk are looked for in the original, as a job does.
    """
    image, shown = portrait.image, portrait.image
    faces = find_faces(detector, image)
    if portrait.read_original is not None:
        original = portrait.read_original()
        if len(found := find_faces(detector, original)) > len(faces):
            faces, shown = found, original
    return tuple(
        _told(detector, portrait, index, face, shown)
        for index, face in enumerate(faces[:MOST_FACES])
    )


def _told(
    detector: FaceDetector, portrait: Portrait, index: int, face: DetectedFace, shown: Picture
) -> FoundFace:
    height, width = shown.shape[:2]
    shrunk = portrait.image.shape[1] / width
    told = found_face(index, face, width, height, size_px=face.size_px * shrunk)
    try:
        judge_face(detector, portrait, index, check=True)
    except InputError as error:
        return refused(told, error)
    return told


def found_face(
    index: int, face: DetectedFace, width: int, height: int, *, size_px: float | None = None
) -> FoundFace:
    """A face as callers see it.

    Args:
        index: What `face_index` calls it.
        face: In pixels of a picture.
        width: Of that picture.
        height: Of that picture.
        size_px: Its size in the normalised picture; None = there it is as large.
    """
    left, top, right, bottom = face.bbox_xyxy

    def share(edge: float, side: int) -> float:
        return round(min(1.0, max(0.0, edge / side)), 5)

    return FoundFace(
        index=index,
        box=(share(left, width), share(top, height), share(right, width), share(bottom, height)),
        size_px=round(face.size_px if size_px is None else size_px, 1),
    )


def refused(face: FoundFace, error: InputError) -> FoundFace:
    """The same face, with the reason why it is refused."""
    failure = describe(error)
    return face.model_copy(update={"refused": failure.code, "detail": failure.detail})
