"""Whether a mouth can be seen where the landmarks say that one is.

    picture, landmarks ─▶ patch around the lips ─▶ histograms of oriented gradients ─▶ linear score

A mesh guesses a mouth behind masks, hands and hair and on the muzzles of animals; whoever draws there makes a
smear. The score is above 0 where the patch looks as mouths do on photographs: `model.training.builders.
mouth_visibility` fitted it to portraits, in many lights, against portraits whose mouths were covered.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.landmarks import LIPS

WEIGHTS: Final = Path(__file__).with_name("mouth_visibility.npz")

_PATCH_PX: Final = 64
_PATCH_WIDTH: Final = 0.56
"""Side of the patch in pixels, and in crop units."""
_CELL_PX: Final = 8
_BINS: Final = 9
_LEAST_GRADIENT: Final = 1.5
"""Levels a pixel below which gradients are noise: blocks of less stay small."""
_MOST: Final = 0.25
"""No direction counts for more than this share of its block (Dalal and Triggs 2005)."""


def mouth_patch(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Surroundings of the lips, upright, in grey.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        landmarks: `(68, 2)`, pixels.
    Returns:
        `(64, 64)` float32, 0 to 255.
    """
    affine = crop_affine(landmarks)
    middle = warp_points(affine, landmarks)[list(LIPS)].mean(axis=0)
    affine[:, 2] -= middle - _PATCH_WIDTH / 2
    patch = crop_image(image, (affine / _PATCH_WIDTH).astype(np.float32), _PATCH_PX)
    return cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(np.float32)


def patch_features(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Histograms of oriented gradients of a patch `(64, 64)`: `(1764,)` float32.

    Nine directions without sign in cells of 8 px; blocks of 2 x 2 cells are normalised together.
    """
    # 1. direction and size of the gradient at every pixel
    down, right = np.gradient(patch)
    size = np.hypot(right, down)
    place = np.mod(np.arctan2(down, right), np.pi) / np.pi * _BINS
    first = np.floor(place).astype(int) % _BINS
    second, weight = (first + 1) % _BINS, place - np.floor(place)
    # 2. shared between the two nearest directions, summed over cells
    bins = np.zeros((*patch.shape, _BINS), np.float32)
    rows, columns = np.indices(patch.shape)
    bins[rows, columns, first] = size * (1 - weight)
    bins[rows, columns, second] = size * weight
    cells = len(patch) // _CELL_PX
    grid = bins.reshape(cells, _CELL_PX, cells, _CELL_PX, _BINS).sum(axis=(1, 3))
    # 3. light taken out block by block, so that shade on one cheek changes little
    windows = np.lib.stride_tricks.sliding_window_view(grid, (2, 2), axis=(0, 1))
    blocks = windows.reshape(cells - 1, cells - 1, -1)
    least = _LEAST_GRADIENT * _CELL_PX**2
    blocks = blocks / np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + least**2)
    blocks = np.minimum(blocks, _MOST)
    blocks /= np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 1e-3)
    return blocks.reshape(-1).astype(np.float32)


def mouth_visibility(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> float:
    """How surely a mouth is seen: above 0 it is.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        landmarks: `(68, 2)`, pixels.
    """
    weights, bias = _weights()
    return float(patch_features(mouth_patch(image, landmarks)) @ weights + bias)


@cache
def _weights() -> tuple[NDArray[np.float32], float]:
    with np.load(WEIGHTS, allow_pickle=False) as file:
        return file["weights"].astype(np.float32), float(file["bias"])
