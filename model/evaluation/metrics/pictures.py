"""How like the real frame a drawn one is: PSNR and SSIM around the mouth, sharpness of the lips.

Frames are compared in the real video's own crop, at its own resolution or a given one, and within a mask that the
real video decides; so every system of a clip is measured on the same pixels:

    real landmarks ─▶ calm crops (2, 3) ─▶ hull of all jaws, below the nose base ─▶ mask (S, S)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from model.errors import ShapeError
from model.face.alignment import crop_image, lower_face_mask, source_pixels, warp_points
from model.face.compositing import soft_mask
from model.face.landmarks import OUTER_LIPS

Crops = NDArray[np.uint8]

FINE_PX: Final = 256
"""Side of the crops in which faces of any size are compared with each other."""
_CROP_PX: Final = (96, 256)
"""Least and greatest side of the crops that are compared."""
_SSIM_WINDOW: Final = 7


class FaceWindow:
    """Where the frames of one clip are compared: crops of side S, and a mask `(S, S)` of the lower face over it.

    Args:
        affines: `(T, 2, 3)`, picture pixels to crop units.
        landmarks: Real landmarks `(T, 68, 2)`, pixels.
        crop_px: Side of the crops; None = the face's own size within 96 to 256.
    """

    def __init__(
        self,
        affines: NDArray[np.float32],
        landmarks: NDArray[np.float32],
        crop_px: int | None = None,
    ) -> None:
        self._affines = affines
        native = np.median([source_pixels(affine) for affine in affines])
        self.size_px = crop_px or int(np.clip(round(float(native)), *_CROP_PX))
        faces = np.stack(list(map(warp_points, affines, landmarks)))
        below = lower_face_mask(np.median(faces, axis=0), 128)
        soft = soft_mask(faces, below)
        side = (self.size_px, self.size_px)
        self.mask = cv2.resize(soft, side, interpolation=cv2.INTER_AREA) > 0.5

    def crop(self, frame: NDArray[np.uint8], index: int) -> Crops:
        """The face `(S, S, 3)` of frame `index` `(H, W, 3)`."""
        return crop_image(frame, self._affines[index], self.size_px)

    def crops(self, frames: Iterable[NDArray[np.uint8]]) -> list[Crops]:
        """The faces of the first frames."""
        return [self.crop(frame, index) for index, frame in enumerate(frames)]


def psnr(first: Crops, second: Crops, mask: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB of `(S, S, 3)` uint8 over `mask` `(S, S)`; infinite where both are equal.

    Raises:
        ShapeError: The shapes differ.
    """
    _check(first, second)
    squares = (first.astype(np.float64) - second) ** 2
    error = float(squares.mean() if mask is None else squares[mask].mean())
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(first: Crops, second: Crops, mask: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """Structural similarity (scikit-image's, 7 x 7 windows), mean over the whole crop and over `mask`.

    Of `(S, S, 3)` uint8 each, and `(S, S)`; None = everywhere.

    Raises:
        ShapeError: The shapes differ.
    """
    _check(first, second)
    whole, similarity = structural_similarity(
        first, second, win_size=_SSIM_WINDOW, channel_axis=2, data_range=255, full=True
    )
    inside = similarity if mask is None else similarity[mask]
    return float(whole), float(inside.mean())


def mouth_sharpness(frame: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> float:
    """Variance of the Laplacian in the box of the outer lips `(68, 2)`, pixels of `frame` `(H, W, 3)` uint8 RGB."""
    lips = landmarks[list(OUTER_LIPS)]
    x0, y0 = np.maximum(lips.min(axis=0).astype(int), 0)
    x1, y1 = lips.max(axis=0).astype(int) + 1
    box = frame[y0:y1, x0:x1]
    if not box.size:
        return float("nan")
    grey = cv2.cvtColor(box, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def fine_sharpness(
    frame: NDArray[np.uint8], affine: NDArray[np.float32], landmarks: NDArray[np.float32]
) -> float:
    """`mouth_sharpness` in a crop of `FINE_PX`, so that it does not depend on the face's size in the picture.

    The affine is picture pixels to crop units; `landmarks` `(68, 2)` are the face shown, crop units.
    """
    return mouth_sharpness(crop_image(frame, affine, FINE_PX), landmarks * np.float32(FINE_PX))


def _check(first: Crops, second: Crops) -> None:
    if first.shape != second.shape or first.ndim != 3:
        raise ShapeError(
            f"pictures have shapes {first.shape} and {second.shape}; expected one (H, W, 3)"
        )
