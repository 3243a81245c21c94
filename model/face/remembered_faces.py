"""What a detector found is kept, so that the same pictures need not be looked at again.

    recorder = FaceRecorder(detector)        asked like a detector, it notes every picture and its faces
    track_face(frames, recorder)
    recorder.faces.save(path)

    detector = RememberingDetector(detector, RememberedFaces.load(path))    the same answers at once

A picture is known by a digest of its pixels, so what is remembered can never be wrong for a picture,
whoever asks, in whatever order and with whatever options; what is not known is looked for.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import UnsupportedMediaError
from model.face.detection import DetectedFace, FaceDetector
from model.face.landmarks import NUM_LANDMARKS

_DIGEST_BYTES: Final = 16
_MOST_PICTURES: Final = 200_000
"""An hour of film at 50 frames a second; a file that says more is none of ours."""


class RememberedFaces:
    """The faces of pictures that were looked at; they can be saved and loaded."""

    def __init__(self) -> None:
        self._faces: dict[bytes, list[DetectedFace]] = {}

    def __len__(self) -> int:
        return len(self._faces)

    def find(self, image: NDArray[np.uint8]) -> list[DetectedFace] | None:
        """The faces of `image` `(H, W, 3)` uint8 RGB, largest first; None where it was not looked at."""
        found = self._faces.get(_digest(image))
        return None if found is None else list(found)

    def add(self, image: NDArray[np.uint8], faces: list[DetectedFace]) -> None:
        """Note the faces of `image` `(H, W, 3)` uint8 RGB."""
        self._faces[_digest(image)] = list(faces)

    def save(self, path: Path) -> None:
        """Write an `.npz`: plain arrays, nothing that is executed when it is read."""
        digests = np.array([list(digest) for digest in self._faces], np.uint8)
        every = [face for faces in self._faces.values() for face in faces]
        points = [face.landmarks for face in every]
        with path.open("xb") as out:
            np.savez(
                out,
                digests=digests.reshape(-1, _DIGEST_BYTES),
                counts=np.array([len(faces) for faces in self._faces.values()], np.int64),
                landmarks=np.array(points, np.float32).reshape(-1, NUM_LANDMARKS, 2),
                scores=np.array([face.score for face in every], np.float32),
            )

    @classmethod
    def load(cls, path: Path) -> RememberedFaces:
        """Read what `save` wrote.

        Raises:
            UnsupportedMediaError: It is anything else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                digests, counts = stored["digests"], stored["counts"]
                landmarks, scores = stored["landmarks"], stored["scores"]
        # What numpy raises for a file that is no archive of arrays, or not these.
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise _broken(path, str(error)) from error
        _check(path, digests, counts, landmarks, scores)
        remembered, start = cls(), 0
        for digest, count in zip(digests, counts.tolist(), strict=True):
            span = range(start, start + count)
            remembered._faces[digest.tobytes()] = [
                DetectedFace.from_landmarks(landmarks[n], float(scores[n])) for n in span
            ]
            start += count
        return remembered


class FaceRecorder:
    """A detector whose answers are noted.

    Args:
        detector: Who looks.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self.faces = RememberedFaces()

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """See `FaceDetector`."""
        found = self._detector(image)
        self.faces.add(image, found)
        return found


class RememberingDetector:
    """A detector that need not look at pictures that are remembered.

    Args:
        detector: Who looks at the others.
        faces: What is remembered.
    """

    def __init__(self, detector: FaceDetector, faces: RememberedFaces) -> None:
        self._detector = detector
        self._faces = faces

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """See `FaceDetector`."""
        known = self._faces.find(image)
        return self._detector(image) if known is None else known


def _digest(image: NDArray[np.uint8]) -> bytes:
    # The shape belongs to it: the same bytes may be another picture.
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()[:_DIGEST_BYTES]


def _check(
    path: Path,
    digests: NDArray[np.generic],
    counts: NDArray[np.generic],
    landmarks: NDArray[np.generic],
    scores: NDArray[np.generic],
) -> None:
    is_whole = (
        digests.dtype == np.uint8
        and digests.shape == (len(counts), _DIGEST_BYTES)
        and len(digests) <= _MOST_PICTURES
        and counts.dtype == np.int64
        and counts.ndim == 1
        and bool((counts.astype(np.int64) >= 0).all())
        and landmarks.dtype == np.float32
        and landmarks.shape == (int(counts.astype(np.int64).sum()), NUM_LANDMARKS, 2)
        and scores.dtype == np.float32
        and scores.shape == landmarks.shape[:1]
    )
    if not is_whole:
        raise _broken(path, "its arrays have other shapes or types")
    if not (np.isfinite(landmarks).all() and np.isfinite(scores).all()):
        raise _broken(path, "a number in it is not finite")


def _broken(path: Path, reason: str) -> UnsupportedMediaError:
    return UnsupportedMediaError(
        f"{path.name} holds no remembered faces ({reason}); expected what RememberedFaces.save wrote."
    )
