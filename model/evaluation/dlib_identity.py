"""Whose face it is, by dlib's network of 128 numbers: for development only, nothing else installs it.

    pip install --group identity

Faces are aligned by our own landmarks, so of the package's models the recognition network alone is read.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError

_PACKAGE: Final = "face_recognition_models"
_NETWORK: Final = Path("models", "dlib_face_recognition_resnet_model_v1.dat")
_CHIP_PX: Final = 150
_PADDING: Final = 0.25  # what the network was trained with


class DlibIdentity:
    """Embeds faces; the cosine of two embeddings is near 1 for one person.

    Raises:
        CheckpointError: The two packages are not installed.
    """

    def __init__(self) -> None:
        # found, not imported: the package's own code needs an old setuptools
        package = find_spec(_PACKAGE)
        if package is None or package.origin is None or find_spec("dlib") is None:
            raise CheckpointError(
                "dlib-bin and face-recognition-models are not installed; get them with "
                "`pip install --group identity`, or give another network as --identity"
            )
        self._dlib = importlib.import_module("dlib")
        network = Path(package.origin).parent / _NETWORK
        self._network = self._dlib.face_recognition_model_v1(str(network))

    def __call__(
        self, frames: list[NDArray[np.uint8]], landmarks: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Unit vectors `(N, 128)` of the faces with `landmarks` `(N, 68, 2)`, pixels, in `frames`."""
        rows = [self._embed(frame, face) for frame, face in zip(frames, landmarks, strict=True)]
        embeddings = np.array(rows, np.float32)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    def _embed(self, frame: NDArray[np.uint8], face: NDArray[np.float32]) -> list[float]:
        dlib = self._dlib
        low, high = face.min(axis=0).astype(int), face.max(axis=0).astype(int)
        points = [dlib.point(int(x), int(y)) for x, y in np.round(face)]
        box = dlib.rectangle(*low.tolist(), *high.tolist())
        shape = dlib.full_object_detection(box, points)
        chip = dlib.get_face_chip(np.ascontiguousarray(frame), shape, _CHIP_PX, _PADDING)
        return list(self._network.compute_face_descriptor(chip))
