"""What a detector found is kept, and answers for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import UnsupportedMediaError
from model.face.detection import DetectedFace
from model.face.remembered_faces import FaceRecorder, RememberedFaces, RememberingDetector


class Detector:
    """Finds as many faces as the first pixel says, and counts how often it is asked."""

    def __init__(self) -> None:
        self.num_asked = 0

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        self.num_asked += 1
        rng = np.random.default_rng(int(image[0, 0, 0]))
        points = [rng.random((68, 2)).astype(np.float32) for _ in range(int(image[0, 0, 0]))]
        return [DetectedFace.from_landmarks(each, 0.5) for each in points]


def pictures() -> list[NDArray[np.uint8]]:
    return [np.full((8, 6, 3), count, np.uint8) for count in (0, 1, 3)]


def test_the_same_pictures_are_not_looked_at_again(tmp_path: Path) -> None:
    recorder = FaceRecorder(Detector())
    before = [recorder(picture) for picture in pictures()]
    recorder.faces.save(tmp_path / "faces.npz")
    detector = Detector()
    remembering = RememberingDetector(detector, RememberedFaces.load(tmp_path / "faces.npz"))

    after = [remembering(picture) for picture in pictures()]

    assert detector.num_asked == 0
    for first, second in zip(before, after, strict=True):
        assert [face.score for face in first] == [face.score for face in second]
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.landmarks, other.landmarks)
    # Another picture, if only by its shape.
    remembering(pictures()[1].reshape(6, 8, 3))
    assert detector.num_asked == 1


def test_no_picture_at_all(tmp_path: Path) -> None:
    RememberedFaces().save(tmp_path / "faces.npz")

    assert len(RememberedFaces.load(tmp_path / "faces.npz")) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"digests": np.zeros((1, 4), np.uint8)},
        {"counts": np.array([-1], np.int64)},
        {"counts": np.array([7], np.int64)},
        {"landmarks": np.full((1, 68, 2), np.nan, np.float32)},
        {"landmarks": np.zeros((1, 68, 2), np.float64)},
        {"scores": np.zeros(2, np.float32)},
        {"counts": np.array([{"a": 1}], object)},
    ],
)
def test_a_file_that_is_wrong_is_refused(
    tmp_path: Path, wrong: dict[str, NDArray[np.generic]]
) -> None:
    right = {
        "digests": np.zeros((1, 16), np.uint8),
        "counts": np.ones(1, np.int64),
        "landmarks": np.zeros((1, 68, 2), np.float32),
        "scores": np.zeros(1, np.float32),
    }
    np.savez(tmp_path / "right.npz", **right)
    np.savez(tmp_path / "wrong.npz", **{**right, **wrong})  # type: ignore[arg-type]

    assert len(RememberedFaces.load(tmp_path / "right.npz")) == 1
    with pytest.raises(UnsupportedMediaError):
        RememberedFaces.load(tmp_path / "wrong.npz")
    (tmp_path / "bytes.npz").write_bytes(b"no archive")
    with pytest.raises(UnsupportedMediaError):
        RememberedFaces.load(tmp_path / "bytes.npz")
