"""`talkface doctor --image`: the faces of a picture, by the number that `face_index` takes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ListedFace:
    """One face, as `face_index` counts it.

    Args:
        face_index: 0 is the largest.
        bbox_xyxy: Left, top, right and bottom of its landmarks, in pixels of the picture as the service shrinks
            it; where no face is large enough in that one, as it was sent.
        size_px: Longer side of the box.
        is_large_enough: It can be animated.
    """

    face_index: int
    bbox_xyxy: tuple[int, int, int, int]
    size_px: int
    is_large_enough: bool


def list_faces(image: Path) -> list[ListedFace]:
    """Bring a picture through the intake and look for faces as a job would.

    Args:
        image: Any picture that may be sent.

    Raises:
        IntakeError: The picture cannot be used.
        ModelError: The detector is missing.
    """
    import numpy as np
    from PIL import Image

    from model.face.detection import MIN_FACE_PX
    from model.face.detectors import load_detector
    from model.face.small_faces import find_faces
    from worker.contract.intake.file_names import ORIGINAL, PORTRAIT
    from worker.contract.intake.limits import IntakeLimits
    from worker.contract.intake.pictures import accept_image

    with tempfile.TemporaryDirectory(prefix="talkface-") as name:
        folder = Path(name)
        info = accept_image(image, folder / PORTRAIT, IntakeLimits(), original=folder / ORIGINAL)

        def read(file: str) -> np.ndarray:
            with Image.open(folder / file, formats=("PNG", "JPEG")) as picture:
                return np.asarray(picture.convert("RGB"), dtype=np.uint8)

        detector = load_detector("mediapipe")
        faces = find_faces(detector, read(PORTRAIT))
        if info.has_original and not any(face.size_px >= MIN_FACE_PX for face in faces):
            # Around each of these a picture is cut out.
            faces = find_faces(detector, read(ORIGINAL)) or faces
    return [
        ListedFace(
            face_index=number,
            bbox_xyxy=tuple(round(edge) for edge in face.bbox_xyxy),  # type: ignore[arg-type]
            size_px=round(face.size_px),
            is_large_enough=face.size_px >= MIN_FACE_PX,
        )
        for number, face in enumerate(faces)
    ]
