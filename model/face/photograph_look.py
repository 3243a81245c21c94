"""How sharp and how grainy a photograph is, so that what is drawn into it is neither more nor less so.

strongest edges, blurred once more ─▶ how blurred they were (Zhuo and Sim 2011)
cheeks, less what is coarse ────────▶ grain
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.landmarks import CONTOUR
from model.face.mouth_light import CHEEKS, LUMA

Field = NDArray[np.float32]

_REBLUR_PX: Final = 1.0
_EDGE_SHARE: Final = 95.0
"""Percentile of the gradient from which it is an edge."""
_DRAWN_PX: Final = 1.6
"""Blur that a drawn mouth has anyway; usual photographs have no more."""
_MOST_BLUR: Final = 0.03
"""Of the crop: what is softer shows no mouth."""
_GRAIN_PX: Final = 1.5
_PORES: Final = 0.018
"""Standard deviation of clean skin, as a share of its brightness: the median of 20 portraits of 400 px and more."""
_LEAST_GRAIN: Final = 0.5
_MOST_GRAIN: Final = 12.0
"""Standard deviations of brightness, of 255."""
_MAD_TO_SD: Final = 1.4826
_KEPT: Final = 0.75
"""Standard deviation of unit noise, blurred by 0.5 px, that is finer than `_GRAIN_PX`."""


@dataclass(frozen=True, eq=False)
class PhotographLook:
    """Sharpness and grain of one crop `(S, S, 3)`.

    Attributes:
        blur_px: Standard deviation of the Gaussian that a drawn mouth lacks, pixels of the crop.
        grain: Noise that it lacks `(S, S)`, levels; None for a clean photograph.
    """

    blur_px: float
    grain: Field | None

    @classmethod
    def from_crop(
        cls, crop: NDArray[np.uint8], landmarks: NDArray[np.float32], own: float = 0.0
    ) -> PhotographLook:
        """Measure a crop.

        Args:
            crop: `(S, S, 3)` uint8 RGB.
            landmarks: `(68, 2)`, crop units.
            own: Share of the mouth that is its own pixels, 0 to 1: those have their grain.
        """
        size = len(crop)
        luma = (crop.astype(np.float32) @ LUMA).astype(np.float32)
        blur = min(_edge_blur(luma, landmarks), _MOST_BLUR * size)
        deviation = (1.0 - own) * _grain(luma, landmarks)
        grain = None
        if deviation >= _LEAST_GRAIN:
            rng = np.random.default_rng(size)
            noise = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 0.5)
            grain = (min(deviation, _MOST_GRAIN) / _KEPT / noise.std() * noise).astype(np.float32)
        return cls(float(np.sqrt(max(blur**2 - _DRAWN_PX**2, 0.0))), grain)

    def apply(self, picture: Field, cover: Field, rows: slice, columns: slice) -> Field:
        """A part of the crop whose drawn pixels are as soft and as grainy as the rest.

        Args:
            picture: `(h, w, 3)`, 0 to 255.
            cover: `(h, w)`, how much of each pixel was drawn.
            rows: Of the crop.
            columns: Of the crop.
        """
        if self.blur_px > 0.3:
            soft = cv2.GaussianBlur(picture, (0, 0), self.blur_px)
            near = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), self.blur_px)
            weight = np.clip(6.0 * near, 0.0, 1.0)[..., None]
            picture = picture + weight * (soft - picture)
        if self.grain is not None:
            picture = picture + (cover * self.grain[rows, columns])[..., None]
        return np.asarray(picture, np.float32)


def _edge_blur(luma: Field, landmarks: NDArray[np.float32]) -> float:
    """Standard deviation of the Gaussian that the face's strongest edges went through, pixels."""
    size = len(luma)
    face = np.zeros(luma.shape, np.uint8)
    outline = np.concatenate([landmarks[list(CONTOUR)], landmarks[26:16:-1]])
    hull = cv2.convexHull((outline * size).astype(np.float32))[:, 0]
    cv2.fillConvexPoly(face, np.round(hull).astype(np.int32), 1)
    sharp, again = (_gradient(one) for one in (luma, cv2.GaussianBlur(luma, (0, 0), _REBLUR_PX)))
    inside = cv2.erode(face, np.ones((3, 3), np.uint8)) > 0
    if not inside.any():
        return 0.0
    edges = inside & (again >= np.percentile(again[inside], _EDGE_SHARE)) & (again > 0)
    ratio = float(np.median(sharp[edges] / again[edges])) if edges.any() else np.inf
    # Blurred by s, an edge's gradient goes as 1 / s: the ratio is sqrt(1 + (reblur / s)^2).
    return _REBLUR_PX / float(np.sqrt(max(ratio**2 - 1.0, 1e-3)))


def _gradient(luma: Field) -> Field:
    right = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1)
    return np.hypot(right, down).astype(np.float32)


def _grain(luma: Field, landmarks: NDArray[np.float32]) -> float:
    """Standard deviation of what is finer than 1.5 px, and no pores, in the calmest of the cheeks' patches."""
    size = len(luma)
    fine = luma - cv2.GaussianBlur(luma, (0, 0), _GRAIN_PX)
    half, deviations = max(3, round(0.03 * size)), []
    for first, second in CHEEKS:
        x, y = np.round((landmarks[first] + landmarks[second]) / 2 * size).astype(int)
        patch = fine[max(0, y - half) : y + half, max(0, x - half) : x + half]
        if patch.size:
            deviation = float(_MAD_TO_SD * np.median(np.abs(patch)))
            skin = float(luma[max(0, y - half) : y + half, max(0, x - half) : x + half].mean())
            deviations.append(float(np.sqrt(max(deviation**2 - (_PORES * skin) ** 2, 0.0))))
    return min(deviations, default=0.0)
