"""Faces and their 68 landmarks in a picture, behind one small protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import FaceIndexError, FaceTooSmallError, MissingDependencyError, NoFaceError
from model.face.landmarks import MESH_TO_68
from model.lean_imports import lean_imports

MIN_FACE_PX = 64
# Faces that stand on their heads are found as if they stood upright, but score less.
_SURE_SCORE = 0.87
_PLAIN_SCORE = 0.9
_LIKELY_SCORE = 0.8
_FAR_SCORE = 0.25
# The mesh itself copes with faces up to this angle.
_SURE_ROLL = 60.0


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


@dataclass(frozen=True)
class FoundBox:
    """A square around a face, and how it stands.

    Attributes:
        x: Its centre, pixels from the left.
        y: Pixels from the top.
        size: Its side in pixels.
        score: Detector's confidence, 0 to 1.
        roll_degrees: By how much the face is turned with the clock; 0 is upright.
    """

    x: float
    y: float
    size: float
    score: float
    roll_degrees: float

    @classmethod
    def of(cls, found: Any, width: int, height: int) -> FoundBox:
        """From a detection of MediaPipe in a picture of this size."""
        box = found.location_data.relative_bounding_box
        right_eye, left_eye = found.location_data.relative_keypoints[:2]
        across = ((left_eye.x - right_eye.x) * width, (left_eye.y - right_eye.y) * height)
        return cls(
            x=(box.xmin + box.width / 2) * width,
            y=(box.ymin + box.height / 2) * height,
            size=max(box.width * width, box.height * height),
            score=float(found.score[0]),
            roll_degrees=float(np.degrees(np.arctan2(across[1], across[0]))),
        )

    @property
    def is_plain(self) -> bool:
        """Whether there is no doubt that the face stands so."""
        return self.score >= _PLAIN_SCORE and abs(self.roll_degrees) <= _SURE_ROLL

    def area(self, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the square with a margin, inside the picture."""
        half = (0.5 + margin) * self.size
        return (
            max(0, int(self.x - half)),
            max(0, int(self.y - half)),
            min(width, int(self.x + half) + 1),
            min(height, int(self.y + half) + 1),
        )

    def turned_back(self, quarter_turns: int, width: int, height: int) -> FoundBox:
        """The same face in the picture before `np.rot90(picture, quarter_turns)`.

        Args:
            quarter_turns: Against the clock.
            width: Of the turned picture.
            height: Of the turned picture.
        """
        x, y, roll = self.x, self.y, self.roll_degrees
        for _ in range(quarter_turns):
            # One quarter turn with the clock.
            x, y = height - y, x
            width, height = height, width
            roll += 90
        roll = (roll + 180) % 360 - 180
        return dataclasses.replace(self, x=x, y=y, roll_degrees=roll)


class MediaPipeFaceDetector:
    """MediaPipe's face mesh with refined lips, run on each face that its detectors find, at any angle.

    The picture's faces are cut out first, so that small faces of large pictures get the mesh's full resolution;
    one that stands at more than 60 degrees is turned upright for the mesh.
    Needs no download: the models are inside the wheel of mediapipe 0.10.21.

    Raises:
        MissingDependencyError: mediapipe is not installed.
    """

    _MARGIN = 0.6  # of the detected box on each side: the mesh wants the whole head
    _MESH_PX = 512  # a cut-out is scaled down to this; the mesh itself looks at 192 px

    def __init__(self, min_confidence: float = 0.5) -> None:
        try:
            with lean_imports("mediapipe"):
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
        # As the picture stands; a quarter turn further each time, while nothing is sure.
        for quarter_turns in (0, 1, 3, 2):
            turned = np.ascontiguousarray(np.rot90(image, quarter_turns))
            height, width = turned.shape[:2]
            for box in self._find_upright(turned):
                found = box.turned_back(quarter_turns, width, height)
                if quarter_turns or not box.is_plain:
                    found = self._turned(image, found)
                landmarks = self._mesh_landmarks(image, found)
                if landmarks is None or any(
                    is_same_face(landmarks, one.landmarks) for one in faces
                ):
                    continue
                faces.append(DetectedFace.from_landmarks(landmarks, found.score))
            best_score = max((face.score for face in faces), default=0.0)
            if best_score >= _LIKELY_SCORE:
                break
        # What looks like a face the wrong way up is none beside a better one.
        likely = [face for face in faces if face.score > best_score - _FAR_SCORE]
        return sorted(likely, key=lambda face: face.size_px, reverse=True)

    def _find_upright(self, image: NDArray[np.uint8]) -> list[FoundBox]:
        height, width = image.shape[:2]
        for finder in self._finders:
            detections = finder.process(image).detections or []
            if detections:
                return [FoundBox.of(found, width, height) for found in detections]
        return []

    def _turned(self, image: NDArray[np.uint8], box: FoundBox) -> FoundBox:
        """The box with the angle of the quarter turn in which its face is found most surely.

        A face that stands on its head is found as well, but less surely, and the wrong way up.
        """
        x0, y0, x1, y1 = box.area(self._MARGIN, image.shape[1], image.shape[0])
        cut = image[y0:y1, x0:x1]
        if min(cut.shape[:2]) < 8:
            return box
        best, best_score = box, 0.0
        for quarter_turns in range(4):
            turned = np.ascontiguousarray(np.rot90(cut, quarter_turns))
            height, width = turned.shape[:2]
            # The short-range detector: in the cut-out the face is as large as in a close-up.
            for detection in self._finders[-1].process(turned).detections or []:
                found = FoundBox.of(detection, width, height)
                if abs(found.roll_degrees) <= _SURE_ROLL and found.score > best_score:
                    back = found.turned_back(quarter_turns, width, height)
                    best = dataclasses.replace(back, x=back.x + x0, y=back.y + y0)
                    best_score = found.score
            if best_score >= _SURE_SCORE and quarter_turns == 0:
                break
        return best

    def _mesh_landmarks(
        self, image: NDArray[np.uint8], box: FoundBox
    ) -> NDArray[np.float32] | None:
        import cv2

        if abs(box.roll_degrees) > _SURE_ROLL:
            return self._turned_landmarks(image, box)
        x0, y0, x1, y1 = box.area(self._MARGIN, image.shape[1], image.shape[0])
        if x1 - x0 < 8 or y1 - y0 < 8:
            return None
        cut = np.ascontiguousarray(image[y0:y1, x0:x1])
        if max(cut.shape[:2]) > self._MESH_PX:
            scale = self._MESH_PX / max(cut.shape[:2])
            cut = np.asarray(
                cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        points = self._mesh_points(cut)
        if points is None:
            return None
        scaled: NDArray[np.float32] = points * (x1 - x0, y1 - y0) + (x0, y0)
        return scaled.astype(np.float32)

    def _turned_landmarks(
        self, image: NDArray[np.uint8], box: FoundBox
    ) -> NDArray[np.float32] | None:
        """Landmarks of a face that does not stand upright: it is turned for the mesh, its points back."""
        import cv2

        side = (1 + 2 * self._MARGIN) * box.size
        size = max(8, min(self._MESH_PX, round(side)))
        angle = np.radians(box.roll_degrees)
        turn = (
            size
            / side
            * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        )
        shift = size / 2 - turn @ (box.x, box.y)
        cut = cv2.warpAffine(
            image,
            np.column_stack([turn, shift]),
            (size, size),
            flags=cv2.INTER_AREA,
            borderMode=cv2.BORDER_REPLICATE,
        )
        points = self._mesh_points(np.asarray(cut, np.uint8))
        if points is None:
            return None
        back: NDArray[np.float32] = (points * size - shift) @ np.linalg.inv(turn).T
        return back.astype(np.float32)

    def _mesh_points(self, cut: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The 68 points `(68, 2)` in parts of the cut-out's sides."""
        meshes = self._mesh.process(cut).multi_face_landmarks
        if not meshes:
            return None
        mesh = meshes[0].landmark
        return np.array([(mesh[i].x, mesh[i].y) for i in MESH_TO_68], np.float32)


def is_same_face(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether two sets of landmarks lie on one face: their centres are closer than half its size."""
    distance = float(np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)))
    return distance < 0.5 * float(np.ptp(first, axis=0).max())
