"""Faces that are small in a large picture: they are looked for piece by piece, and the picture is cut around one.

A detector shrinks what it is given to a few hundred pixels, so a face of 250 px in 6000 px is a speck to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.detection import (
    MIN_FACE_PX,
    DetectedFace,
    FaceDetector,
    is_same_face,
    select_face,
)

_PARTS: Final = (2, 4)
"""Pieces have this part of the picture's longest side, and overlap by half."""
_MIN_PIECE_PX: Final = 256
_MIN_SCORE: Final = 0.8
"""Among many pieces one looks like a face by chance."""
_SURROUNDINGS: Final = 4.0
"""A cut-out has so many times the face's size: head and shoulders."""

Picture = NDArray[np.uint8]


def find_faces(detector: FaceDetector, image: Picture) -> list[DetectedFace]:
    """All faces of a photograph, largest first; where none is found at once, piece by piece.

    Args:
        detector: Looks at the whole and at each piece.
        image: `(H, W, 3)`, uint8 RGB.
    """
    if faces := detector(image):
        return faces
    for part in _PARTS:
        size = -(-max(image.shape[:2]) // part)
        if size < _MIN_PIECE_PX:
            break
        for left, top in _corners(image, size):
            piece = np.ascontiguousarray(image[top : top + size, left : left + size])
            for face in detector(piece):
                landmarks = face.landmarks + np.array((left, top), np.float32)
                is_new = not any(is_same_face(landmarks, one.landmarks) for one in faces)
                if face.score >= _MIN_SCORE and is_new:
                    faces.append(DetectedFace.from_landmarks(landmarks, face.score))
        if faces:
            break
    return sorted(faces, key=lambda face: face.size_px, reverse=True)


def choose_picture(
    detector: FaceDetector, image: Picture, read_original: Callable[[], Picture], face_index: int
) -> tuple[Picture, int]:
    """The picture that is animated: the shrunk one, or a cut-out of the original around a small face.

    Args:
        detector: Finds faces.
        image: The picture as it was shrunk, `(H, W, 3)`, uint8 RGB.
        read_original: Reads it as it was sent.
        face_index: Which face speaks.

    Returns:
        `image` where that face is large enough, or where no face is found in the original either; and the face's
        number among those of the picture that is returned.

    Raises:
        FaceIndexError: The original shows fewer faces.
        FaceTooSmallError: The face is too small in the original too.
    """
    faces = detector(image)
    if face_index < len(faces) and faces[face_index].size_px >= MIN_FACE_PX:
        return image, face_index
    original = read_original()
    found = find_faces(detector, original)
    if not found:
        return image, face_index
    face, side_px = select_face(found, face_index), max(image.shape[:2])
    if face.size_px * side_px / max(original.shape[:2]) >= MIN_FACE_PX:
        return image, face_index
    cut = cut_around(original, face, side_px)
    # Beside the person there may be others, whose faces count as well.
    middle = np.array(cut.shape[1::-1]) / 2
    away = [
        np.linalg.norm(one.landmarks.mean(axis=0) - middle) for one in find_faces(detector, cut)
    ]
    return cut, int(np.argmin(away)) if away else 0


def cut_around(original: Picture, face: DetectedFace, max_side: int) -> Picture:
    """Head and shoulders of one person, with even sides.

    Args:
        original: `(H, W, 3)`, uint8 RGB.
        face: One of its faces.
        max_side: Longest side of the result in pixels.
    """
    import cv2

    left, top, right, bottom = face.bbox_xyxy
    half = _SURROUNDINGS * face.size_px / 2
    height, width = original.shape[:2]
    x0, x1 = (int(np.clip((left + right) / 2 + side, 0, width)) for side in (-half, half))
    y0, y1 = (int(np.clip((top + bottom) / 2 + side, 0, height)) for side in (-half, half))
    cut = original[y0:y1, x0:x1]
    scale = min(1.0, max_side / max(cut.shape[:2]))
    size = [2 * int(side * scale / 2) for side in (cut.shape[1], cut.shape[0])]
    if scale == 1.0:
        return np.ascontiguousarray(cut[: size[1], : size[0]])
    return np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA), np.uint8)


def _corners(image: Picture, size: int) -> Iterator[tuple[int, int]]:
    """Left and top of each piece."""
    height, width = image.shape[:2]
    for top in range(0, max(1, height - size // 2), size // 2):
        for left in range(0, max(1, width - size // 2), size // 2):
            yield left, top
