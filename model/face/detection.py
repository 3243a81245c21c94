"""Faces and their 68 landmarks in a picture, behind one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import FaceIndexError, FaceTooSmallError, MissingDependencyError, NoFaceError
from model.face.landmarks import MESH_TO_68

MIN_FACE_PX = 64


@dataclass(frozen=True)
class DetectedFace:
    """One face.

    Attributes:
        landmarks: `(68, 2)` float32, pixels of the picture, origin at the top left corner.
        bbox_xyxy: Left, top, right, bottom of the landmarks in pixels.
        score: Detector's confidence, 0 to 1.
    """

    landmarks: NDArray[np.float32]
    bbox_xyxy: tuple[float, float, float, float]
    score: float

    @classmethod
    def from_landmarks(cls, landmarks: NDArray[np.float32], score: float) -> DetectedFace:
        """A face whose box is the landmarks' extent."""
        left, top = landmarks.min(axis=0).tolist()
        right, bottom = landmarks.max(axis=0).tolist()
        return cls(landmarks.astype(np.float32), (left, top, right, bottom), score)

    @property
    def size_px(self) -> float:
        """Longer side of the box in pixels."""
        left, top, right, bottom = self.bbox_xyxy
        return max(right - left, bottom - top)


class FaceDetector(Protocol):
    """Finds faces; every adapter gives the same 68 points."""

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """Find the faces of `image` `(H, W, 3)` uint8 RGB, largest first; an empty list when there is none."""
        ...


def select_face(
    faces: Sequence[DetectedFace], face_index: int = 0, min_face_px: float = MIN_FACE_PX
) -> DetectedFace:
    """Choose one of the faces, largest first.

    Raises:
        NoFaceError: `faces` is empty.
        FaceIndexError: `face_index` is not below the number of faces.
        FaceTooSmallError: The chosen face is smaller than `min_face_px`.
    """
    if not faces:
        raise NoFaceError(
            "No face was found in the picture; expected one frontal, unobstructed face. "
            "Send a picture in which eyes, nose and mouth are visible."
        )
    if face_index >= len(faces):
        raise FaceIndexError(
            f"face_index is {face_index}, but the picture shows {len(faces)} face(s); "
            f"expected 0 to {len(faces) - 1} (0 is the largest)."
        )
    face = faces[face_index]
    if face.size_px < min_face_px:
        raise FaceTooSmallError(
            f"The face is {face.size_px:.0f} px large; expected at least {min_face_px:.0f} px. "
            "Send a larger picture or a closer crop."
        )
    return face


class MediaPipeFaceDetector:
    """MediaPipe's face mesh with refined lips, run on each face that its full-range detector finds.

    The picture's faces are cut out first, so that small faces of large pictures get the mesh's full resolution.
    Needs no download: the models are inside the wheel of mediapipe 0.10.21.

    Raises:
        MissingDependencyError: mediapipe is not installed.
    """

    _MARGIN = 0.6  # of the detected box on each side: the mesh wants the whole head
    _MESH_PX = 512  # a cut-out is scaled down to this; the mesh itself looks at 192 px

    def __init__(self, min_confidence: float = 0.5) -> None:
        try:
            from mediapipe.python.solutions import face_detection, face_mesh
        except ImportError as error:
            raise MissingDependencyError(
                "mediapipe is not installed, and it is the embedded face detector; expected version "
                "0.10.21. Install it as `make install` does (requirements/no-deps.txt)."
            ) from error
        self._finders: list[Any] = [
            face_detection.FaceDetection(
                model_selection=selection, min_detection_confidence=min_confidence
            )
            for selection in (1, 0)  # full range first; the short-range one knows close-ups better
        ]
        self._mesh: Any = face_mesh.FaceMesh(
            static_image_mode=True,
            max_num_faces=1,
            refine_landmarks=True,
            min_detection_confidence=min_confidence,
        )

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        faces: list[DetectedFace] = []
        for box, score in self._find_boxes(image):
            landmarks = self._mesh_landmarks(image, box)
            if landmarks is None or any(_same_face(landmarks, face.landmarks) for face in faces):
                continue
            faces.append(DetectedFace.from_landmarks(landmarks, score))
        return sorted(faces, key=lambda face: face.size_px, reverse=True)

    def _find_boxes(
        self, image: NDArray[np.uint8]
    ) -> list[tuple[tuple[float, float, float, float], float]]:
        height, width = image.shape[:2]
        boxes = []
        for finder in self._finders:
            for found in finder.process(image).detections or []:
                box = found.location_data.relative_bounding_box
                pixels = (
                    box.xmin * width,
                    box.ymin * height,
                    (box.xmin + box.width) * width,
                    (box.ymin + box.height) * height,
                )
                boxes.append((pixels, float(found.score[0])))
            if boxes:
                break
        return boxes

    def _mesh_landmarks(
        self, image: NDArray[np.uint8], box: tuple[float, float, float, float]
    ) -> NDArray[np.float32] | None:
        import cv2

        left, top, right, bottom = box
        half = (0.5 + self._MARGIN) * max(right - left, bottom - top)
        centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
        height, width = image.shape[:2]
        x0, x1 = max(0, int(centre_x - half)), min(width, int(centre_x + half) + 1)
        y0, y1 = max(0, int(centre_y - half)), min(height, int(centre_y + half) + 1)
        if x1 - x0 < 8 or y1 - y0 < 8:
            return None
        cut = np.ascontiguousarray(image[y0:y1, x0:x1])
        if max(cut.shape[:2]) > self._MESH_PX:
            scale = self._MESH_PX / max(cut.shape[:2])
            cut = np.asarray(
                cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        meshes = self._mesh.process(cut).multi_face_landmarks
        if not meshes:
            return None
        mesh = meshes[0].landmark
        points = np.array([(mesh[i].x, mesh[i].y) for i in MESH_TO_68], np.float32)
        scaled: NDArray[np.float32] = points * (x1 - x0, y1 - y0) + (x0, y0)
        return scaled.astype(np.float32)


def _same_face(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether two sets of landmarks lie on one face: their centres are closer than half its size."""
    distance = float(np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)))
    return distance < 0.5 * float(np.ptp(first, axis=0).max())
