"""The crop: one similarity transform for training and inference, fitted to points that speech does not move.

Fitting a box to all landmarks would tell the network how far the jaw is open, so only eye corners and nose
bridge count. Crop units run from 0 to 1 over the square template; a closed chin lands near y 0.80, a wide-open
one near 0.95.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.landmarks import NUM_LANDMARKS

ANCHORS: Final = (36, 39, 42, 45, 27, 28, 29, 30)
"""Eye corners and nose bridge: the points that the crop is fitted to."""

TEMPLATE: Final = np.array(
    [
        *((0.313, 0.300), (0.426, 0.307), (0.574, 0.307), (0.687, 0.300)),
        *((0.500, 0.285), (0.500, 0.348), (0.500, 0.410), (0.500, 0.449)),
    ],
    np.float32,
)
"""Where the anchors go, crop units: medians over 1,063 portraits, made symmetric."""

MASK_TOP: Final = 0.50
"""Crop height of the nose base: everything below may be generated."""
_CHEEK_MARGIN: Final = 0.04
_CONTOUR_ENDS: Final = (0, 1, 2, 14, 15, 16)

Affine = NDArray[np.float32]
"""`(2, 3)` matrix."""

PictureT = TypeVar("PictureT", bound=NDArray[Any])


def fit_similarity(source: NDArray[np.float32], target: NDArray[np.float32]) -> Affine:
    """Least-squares similarity (scale, rotation, shift; no reflection) from `source` to `target`, both `(N, 2)`."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    x, y = (source - source_mean).astype(np.float64).T
    u, v = (target - target_mean).astype(np.float64).T
    norm = float((x * x + y * y).sum())
    a = float((x * u + y * v).sum()) / norm
    b = float((x * v - y * u).sum()) / norm
    linear = np.array([(a, -b), (b, a)])
    shift = target_mean - linear @ source_mean
    return np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)


def crop_affine(landmarks: NDArray[np.float32]) -> Affine:
    """Transform from picture pixels to crop units.

    Args:
        landmarks: `(68, 2)`, pixels.
    Raises:
        ShapeError: `landmarks` has another shape.
    """
    if landmarks.shape != (NUM_LANDMARKS, 2):
        raise ShapeError(f"landmarks have shape {landmarks.shape}; expected (68, 2)")
    return fit_similarity(landmarks[list(ANCHORS)], TEMPLATE)


def jitter_affine(affine: Affine, rng: np.random.Generator, strength: float = 1.0) -> Affine:
    """`affine` followed by a small random similarity of the crop (training: independent for reference and target).

    Standard deviations at strength 1: shift 0.012, scale 2.5 %, rotation 1.5 degrees.
    """
    angle = rng.normal(0, np.radians(1.5) * strength)
    scale = np.exp(rng.normal(0, 0.025 * strength))
    shift = rng.normal(0, 0.012 * strength, 2)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([(cosine, -sine), (sine, cosine)])
    centre = np.array([0.5, 0.5])
    moved = linear @ affine
    moved[:, 2] += centre - linear @ centre + shift
    return moved.astype(np.float32)


def warp_points(affine: Affine, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply `affine` to `points` `(..., 2)`."""
    moved: NDArray[np.float32] = (points @ affine[:, :2].T + affine[:, 2]).astype(np.float32)
    return moved


def invert_affine(affine: Affine) -> Affine:
    """The transform that undoes `affine`."""
    inverse: Affine = np.asarray(cv2.invertAffineTransform(affine), np.float32)
    return inverse


def compose_affines(second: Affine, first: Affine) -> Affine:
    """`first`, then `second`."""
    linear = second[:, :2] @ first[:, :2]
    shift = second[:, :2] @ first[:, 2] + second[:, 2]
    return np.concatenate([linear, shift[:, None]], axis=1)


def pixel_affine(affine: Affine, size: int) -> Affine:
    """`affine` with its output in pixels of a `size` x `size` crop, pixel centres at whole numbers."""
    scaled = affine * np.float32(size)
    scaled[:, 2] -= 0.5
    # Picture pixels count centres at whole numbers too, while landmarks count pixel corners there.
    scaled[:, 2] += 0.5 * scaled[:, :2].sum(axis=1)
    return scaled.astype(np.float32)


def source_pixels(affine: Affine) -> float:
    """Source pixels in one unit of `affine`'s output; for a crop's transform, the crop's side."""
    return 1.0 / float(np.hypot(affine[0, 0], affine[1, 0]))


def low_pass(picture: PictureT, shrink: float) -> PictureT:
    """Blur away what a grid `shrink` times coarser cannot hold: warpAffine does not.

    Args:
        picture: `(H, W, 3)`, any dtype that OpenCV blurs.
        shrink: Source pixels in one pixel of the result; nothing happens up to 1.
    """
    sigma = 0.5 * float(np.sqrt(max(shrink**2 - 1.0, 0.0)))
    if sigma <= 0.2:
        return picture
    return cast(PictureT, cv2.GaussianBlur(picture, (0, 0), sigma))


def crop_image(image: NDArray[np.uint8], affine: Affine, size: int) -> NDArray[np.uint8]:
    """Cut the face out.

    Args:
        image: `(H, W, 3)`, uint8 RGB.
        affine: Picture pixels to crop units.
        size: Side of the crop in pixels.
    Returns:
        `(size, size, 3)`, uint8; beyond the picture's edge its border is repeated.
    """
    matrix = pixel_affine(affine, size)
    shrink = source_pixels(matrix)
    crop = cv2.warpAffine(
        _low_pass_box(image, shrink, matrix, size),
        matrix,
        (size, size),
        flags=cv2.INTER_CUBIC if shrink < 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(crop, np.uint8)


def _low_pass_box(
    image: NDArray[np.uint8], shrink: float, matrix: Affine, size: int
) -> NDArray[np.uint8]:
    """`low_pass` of an image as far as a crop of it looks; elsewhere the result is not defined."""
    if shrink <= 1.0:
        return image
    corners = np.array([(-1, -1), (size, -1), (-1, size), (size, size)], np.float32)
    seen = warp_points(invert_affine(matrix), corners)
    reach = np.ceil(4.0 * 0.5 * shrink) + 2.0  # the kernel of 8 bit pictures ends at 3 sigma
    sides = np.array(image.shape[1::-1])
    low = np.clip(np.floor(seen.min(axis=0)) - 1, 0, sides - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + 2, low + 1, sides).astype(int)
    first = np.maximum(low - int(reach), 0)
    last = np.minimum(high + int(reach), sides)
    soft = low_pass(image[first[1] : last[1], first[0] : last[0]], shrink)
    # As large as the image, so that the crop's places stay as they are, bit for bit.
    whole = np.empty_like(image)
    inside = soft[low[1] - first[1] :, low[0] - first[0] :]
    whole[low[1] : high[1], low[0] : high[0]] = inside[: high[1] - low[1], : high[0] - low[0]]
    return whole


def recrop(crop: NDArray[np.uint8], affine: Affine, size: int) -> NDArray[np.uint8]:
    """Another crop `(size, size, 3)` out of a crop `(S, S, 3)`; `affine` leads from its units to the new ones."""
    pixels = affine.copy()
    pixels[:, :2] /= np.float32(len(crop))
    return crop_image(crop, pixels, size)


def lower_face_mask(landmarks: NDArray[np.float32], size: int) -> NDArray[np.bool_]:
    """What may be generated: below the nose base, between the widened contour ends, down to the bottom edge.

    Uses pose points only: a mask that followed jaw or lips would give their position away.

    Args:
        landmarks: `(68, 2)`, crop units.
        size: Side of the mask in cells.
    Returns:
        `(size, size)`, True where generated.
    """
    ends = landmarks[list(_CONTOUR_ENDS), 0]
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    columns = (centres > ends.min() - _CHEEK_MARGIN) & (centres < ends.max() + _CHEEK_MARGIN)
    rows = centres > MASK_TOP
    mask: NDArray[np.bool_] = rows[:, None] & columns[None, :]
    return mask
