"""One face through pictures that follow each other: quicker than to detect it in each anew.

MediaPipe's mesh looks where the face was in the picture before, so a picture costs 4 ms of one core instead
of 11. For measuring what was drawn; nothing that is drawn comes from it.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import MissingDependencyError
from model.face.landmarks import MESH_TO_68
from model.lean_imports import lean_imports

CLOSE_UP_PX: Final = 256
"""Side of what the mesh is shown; it looks at 192 px itself."""


class MeshFollower:
    """Landmarks of one face, close-up by close-up.

    Raises:
        MissingDependencyError: mediapipe is not installed.
    """

    def __init__(self) -> None:
        try:
            with lean_imports("mediapipe"):
                from mediapipe.python.solutions import face_mesh
        except ImportError as error:
            raise MissingDependencyError(
                "mediapipe is not installed, and it follows faces; expected version 0.10.21. Install it "
                "as `make install` does (requirements/no-deps.txt)."
            ) from error
        self._mesh: Any = face_mesh.FaceMesh(
            static_image_mode=False, max_num_faces=1, refine_landmarks=True
        )

    def begin(self) -> None:
        """The next close-up does not follow the last one."""
        self._mesh.reset()

    def __call__(self, close_up: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The 68 landmarks of the face in `close_up` `(S, S, 3)` uint8 RGB, pixels; None where none is found."""
        meshes = self._mesh.process(close_up).multi_face_landmarks
        if not meshes:
            return None
        height, width = close_up.shape[:2]
        mesh = meshes[0].landmark
        points = [(mesh[i].x * width, mesh[i].y * height) for i in MESH_TO_68]
        return np.array(points, np.float32)


def close_up(
    frame: NDArray[np.uint8], centre: tuple[float, float], side_px: float
) -> NDArray[np.uint8]:
    """A square of a picture `(H, W, 3)` uint8 RGB around a point, `(256, 256, 3)`; its edge is repeated."""
    half, scale = side_px / 2, CLOSE_UP_PX / side_px
    shift = np.array(
        [[scale, 0.0, -scale * (centre[0] - half)], [0.0, scale, -scale * (centre[1] - half)]]
    )
    cut = cv2.warpAffine(
        frame,
        shift,
        (CLOSE_UP_PX, CLOSE_UP_PX),
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cut, np.uint8)
