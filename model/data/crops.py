"""Pictures of clips and photographs, and what training does to them: another light, a mirror, rough landmarks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import UnsupportedMediaError
from model.face.alignment import Affine, compose_affines, jitter_affine, recrop, warp_points
from model.face.landmarks import CONTENT, flip_landmarks, mouth_opening
from model.face.mouth_crop import NetworkCrop, network_affine

_WARP_NOISE: Final = 0.004  # crop units; a warp in use follows predicted, not true, landmarks
FACE_PX: Final = 256
"""Side of the faces that the denoiser's crops are cut out of."""
_JITTER: Final = {"face": 1.0, "mouth": 2.0}
"""Strength of a crop's jitter: a mouth is less surely found than a face."""
_BROKEN: Final = 0.1
_BROKEN_NOISE: Final = 0.02
"""Share of warps whose lips are not to be trusted, and how far off their landmarks are."""

Crop = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Picture `(S, S, 3)` and its landmarks `(68, 2)`, crop units."""


def film_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a film as they are stored, `(H, W, 3)` uint8 RGB."""
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        yield np.ascontiguousarray(read[1][..., ::-1]).astype(np.uint8)


def spread_frames(
    landmarks: NDArray[np.float32], count: int, rng: np.random.Generator
) -> list[int]:
    """`count` frames of a clip `(T, 68, 2)` whose mouth openings are spread over the clip's range."""
    opening = mouth_opening(landmarks)
    wanted = rng.uniform(opening.min(), opening.max(), count)
    noise = [rng.normal(0, 0.01, len(opening)) for _ in wanted]
    return sorted(
        {int(np.abs(opening - v + n).argmin()) for v, n in zip(wanted, noise, strict=True)}
    )


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a photograph as `(H, W, 3)` uint8 RGB.

    Raises:
        UnsupportedMediaError: OpenCV cannot decode it.
    """
    stored = cv2.imread(str(path))
    if stored is None:
        raise UnsupportedMediaError(f"{path} is not a picture that OpenCV decodes; remove it")
    return np.ascontiguousarray(stored[..., ::-1]).astype(np.uint8)


def name_seed(path: Path) -> int:
    """Seed of a file's random choices: the same in every run and on every machine."""
    return zlib.crc32(path.name.encode())


def cut_crop(picture: Crop, affine: Affine, size: int) -> Crop:
    """Another crop with `size` pixels a side out of a crop; `affine` leads from its units to the new ones."""
    image, landmarks = picture
    return recrop(image, affine, size), warp_points(affine, landmarks)


def jittered_affine(
    crop: NetworkCrop,
    face: NDArray[np.float32],
    usual: NDArray[np.float32],
    rng: np.random.Generator,
) -> Affine:
    """A face's crop units to those of a jittered crop of what the denoiser looks at (`network_affine`)."""
    jitter = jitter_affine(np.eye(2, 3, dtype=np.float32), rng, _JITTER[crop])
    return compose_affines(jitter, network_affine(crop, face, usual))


def recolour(image: NDArray[np.uint8], rng_seed: int) -> NDArray[np.uint8]:
    """Another exposure and tint, sometimes grey; the same for the same seed."""
    rng = np.random.default_rng(rng_seed)
    gain = 1 + 0.10 * rng.standard_normal() + 0.05 * rng.standard_normal(3)
    shift = 12 * rng.standard_normal()
    if rng.random() < 0.06:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    return np.clip(image * gain + shift, 0, 255).astype(np.uint8)


def roughen(landmarks: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Landmarks `(68, 2)` with lips and jaw off by as much as a prediction's; now and then by far more."""
    rough = landmarks.copy()
    noise = _BROKEN_NOISE if rng.random() < _BROKEN else _WARP_NOISE * rng.random()
    rough[list(CONTENT)] += rng.normal(0, noise, (len(CONTENT), 2))
    return rough


def recolour_and_mirror(pictures: list[Crop], seed: int, rng: np.random.Generator) -> list[Crop]:
    """A subject's pictures in another light, all of them mirrored or none."""
    mirror = rng.random() < 0.5
    finished: list[Crop] = []
    for image, landmarks in pictures:
        recoloured = recolour(image, seed)
        if mirror:
            recoloured = np.ascontiguousarray(recoloured[:, ::-1])
            landmarks = flip_landmarks(landmarks)
        finished.append((recoloured, landmarks.astype(np.float32)))
    return finished
