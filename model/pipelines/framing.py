"""What is shown of a picture or film: all of it, or a window around head and shoulders.

    face's landmarks ─▶ head, crown to chin ─▶ window of the wanted shape that holds it
                                                 │  moved into the picture, shrunk to fit it
                                                 ├─ small: enlarged, 512 px on its shorter side
                                                 └─ the picture is too narrow for the head in this shape: a mat

A film's window holds the head's whole way and stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.detection import DetectedFace, FaceDetector, select_face
from model.face.small_faces import find_faces
from model.face.suitability import check_suitable
from model.media.window import Mat, Window
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import Reference
from model.pipelines.presets import Frame


@dataclass(frozen=True)
class Shape:
    """Of a window.

    Attributes:
        width: Of its sides' ratio.
        height: Of its sides' ratio.
        size: Its shorter side, in heads (crown to chin).
        above: What is above the crown, as a share of its height.
    """

    width: int
    height: int
    size: float
    above: float


SHAPES: Final[Mapping[Frame, Shape]] = {
    "square": Shape(1, 1, 2.1, 0.11),
    "portrait": Shape(9, 16, 1.8, 0.14),
    "landscape": Shape(16, 9, 2.0, 0.10),
}
LEAST_PX: Final = 512
"""Shorter side of a window; smaller ones are enlarged."""
_CROWN: Final = 0.62
"""Of a face's height (brows to chin), what of the head is above the brows."""
_BELOW: Final = 0.10
"""And what of the chin is below its landmarks."""
_EARS: Final = 0.12
"""Of its width, on each side."""
_ROOM: Final = 1.3
"""A window is at least so many times as high as the head."""
_ROOM_ASIDE: Final = 1.1
"""And so many times as wide."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Framed:
    """A window, and what is around it.

    Attributes:
        window: What is cut out.
        mat: What it is laid upon, or None.
    """

    window: Window
    mat: Mat | None


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photograph that speaks.

    Attributes:
        reference: Its picture and face.
        bbox_xyxy: The face in pixels of the video.
        mat: What the picture is laid upon when it is finished, or None.
    """

    reference: Reference
    bbox_xyxy: Box
    mat: Mat | None = None


def frame_photograph(
    detector: FaceDetector, image: NDArray[np.uint8], options: RenderOptions
) -> Portrait:
    """A photograph's face, and of the photograph what the options want to be shown.

    Args:
        detector: Finds faces.
        image: `(H, W, 3)`, uint8 RGB.
        options: The caller's choices.
    Raises:
        InputError: It shows no such face, or one that can only be drawn badly.
    """
    face = select_face(find_faces(detector, image), options.face_index)
    if options.check_face:
        check_suitable(image, face.landmarks)
    if options.frame == "source":
        return Portrait(Reference.of(image, face.landmarks), face.bbox_xyxy)
    height, width = image.shape[:2]
    framed = choose_window(face.landmarks[None], (width, height), options.frame, options.max_side)
    picture = framed.window.cut(image)
    found = _again(detector, picture, framed.window.place(face.landmarks))
    return Portrait(Reference.of(picture, found.landmarks), on_mat(found, framed.mat), framed.mat)


def on_mat(face: DetectedFace, mat: Mat | None) -> Box:
    """A face's box in the video."""
    x0, y0, x1, y1 = face.bbox_xyxy
    left, top = (0, 0) if mat is None else (mat.left, mat.top)
    return (x0 + left, y0 + top, x1 + left, y1 + top)


def choose_window(
    faces: NDArray[np.float32], size: tuple[int, int], frame: Frame, max_side: int | None = None
) -> Framed:
    """The window that holds a head in every one of its places.

    Args:
        faces: Its face in T pictures `(T, 68, 2)`, pixels.
        size: Width and height of the pictures.
        frame: A key of `SHAPES`.
        max_side: Longest side of the result in pixels; None = no bound.
    """
    shape = SHAPES[frame]
    ratio = shape.width / shape.height
    heads = head_boxes(faces)
    held = np.clip(
        np.concatenate([heads[:, :2].min(axis=0), heads[:, 2:].max(axis=0)]),
        0.0,
        np.array((*size, *size), np.float32),
    )
    head = np.median(heads[:, 2:] - heads[:, :2], axis=0)
    way_px = 1.02 * max(held[3] - held[1], (held[2] - held[0]) / ratio)

    # 1. so large that head and shoulders are in it, and all of the head's way
    shorter = shape.size * head[1]
    height = max(shorter if ratio >= 1 else shorter / ratio, way_px)
    # 2. no larger than the picture; where it has no room for a head in this shape, as large as it has one
    # side for, and a mat beside the other
    fitting = min(height, size[1], size[0] / ratio)
    least = max(_ROOM * min(head[1], size[1] / _ROOM), _ROOM_ASIDE * head[0] / ratio, way_px)
    if fitting < least:
        fitting = max(min(height, max(size[1], size[0] / ratio)), way_px)
    height = float(fitting)
    width = height * ratio

    # 3. the crown near the upper edge, the head in the middle; moved into the picture
    crown = held[1] - shape.above * height
    top, inner_height = _span(crown, height, held[1], held[3], size[1])
    middle = (held[0] + held[2] - width) / 2
    left, inner_width = _span(middle, width, held[0], held[2], size[0])
    return _sized(left, top, inner_width, inner_height, width, height, max_side)


def head_boxes(faces: NDArray[np.float32]) -> NDArray[np.float32]:
    """Heads from crown to chin `(T, 4)`, x0 y0 x1 y1, of faces `(T, 68, 2)`."""
    low, high = faces.min(axis=1), faces.max(axis=1)
    across, down = (high - low).T
    return np.stack(
        [
            low[:, 0] - _EARS * across,
            low[:, 1] - _CROWN * down,
            high[:, 0] + _EARS * across,
            high[:, 1] + _BELOW * down,
        ],
        axis=1,
    ).astype(np.float32)


def _span(start: float, length: float, low: float, high: float, limit: int) -> tuple[int, int]:
    """First pixel and number of pixels of a window's side, as far as the picture has them.

    Args:
        start: Where the window would like to begin.
        length: Of its side.
        low: First pixel that it has to hold.
        high: Behind the last one.
        limit: The picture's pixels.
    """
    if length >= limit:
        return 0, limit
    start = float(np.clip(start, max(0.0, high - length), min(low, limit - length)))
    first = min(round(start), limit - round(length))
    return first, round(length)


def _sized(
    left: int,
    top: int,
    inner_width: int,
    inner_height: int,
    width: float,
    height: float,
    max_side: int | None,
) -> Framed:
    """Even sides, enlarged where it is small, and a mat where the picture has less than the window."""
    scale = max(1.0, LEAST_PX / min(width, height))
    if max_side is not None:
        scale = min(scale, max_side / max(width, height))
    has_mat = inner_width < round(width) or inner_height < round(height)
    if scale == 1.0 and not has_mat:
        # The picture's own pixels, one row or column less where a side is odd.
        inner_width, inner_height = inner_width // 2 * 2, inner_height // 2 * 2
        window = Window(left, top, inner_width, inner_height, inner_width, inner_height)
        return Framed(window, None)
    out = [2 * max(1, round(side * scale / 2)) for side in (width, height)]
    if not has_mat:
        return Framed(Window(left, top, inner_width, inner_height, out[0], out[1]), None)
    shown = [
        min(out[0], max(2, round(inner_width * scale))),
        min(out[1], max(2, round(inner_height * scale))),
    ]
    window = Window(left, top, inner_width, inner_height, shown[0], shown[1])
    return Framed(window, Mat((out[0] - shown[0]) // 2, (out[1] - shown[1]) // 2, out[0], out[1]))


def _again(
    detector: FaceDetector, picture: NDArray[np.uint8], landmarks: NDArray[np.float32]
) -> DetectedFace:
    """The face at `landmarks` `(68, 2)`, looked at once more where it is larger."""
    wanted = DetectedFace.from_landmarks(landmarks, 1.0)
    centre = landmarks.mean(axis=0)
    found = [
        face
        for face in detector(picture)
        if np.linalg.norm(face.landmarks.mean(axis=0) - centre) < 0.3 * wanted.size_px
    ]
    return min(
        found, key=lambda face: float(np.abs(face.landmarks - landmarks).mean()), default=wanted
    )
