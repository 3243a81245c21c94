"""Crops of clips and photographs, and what training does to them: another light, a mirror, rough landmarks."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.split import clip_held_out, portrait_held_out, portrait_identity
from model.errors import UnsupportedMediaError
from model.face.alignment import crop_affine, crop_image, jitter_affine, warp_points
from model.face.landmarks import CONTENT, flip_landmarks, mouth_opening

_WARP_NOISE: Final = 0.004  # crop units; a warp in use follows predicted, not true, landmarks
CLIP_CROPS = 8

Crop = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Picture `(S, S, 3)` and its landmarks `(68, 2)`, crop units."""


@dataclass(frozen=True)
class PreparedFaces:
    """Clips or photographs of a prepared folder: files, and whether they are never trained on.

    Landmarks in pixels are `(T, 68, 2)` of a clip, `(68, 2)` of a photograph; `people` says who is on each
    photograph (the file's name of a clip).
    """

    paths: list[Path]
    landmarks: NDArray[np.float32]
    people: list[str]
    held_out: list[bool]


def portrait_identities(source: Path) -> dict[str, str]:
    """File name -> identity, from `index.csv`."""
    with (source / "portraits" / "index.csv").open() as file:
        return {row["file"]: portrait_identity(row) for row in csv.DictReader(file)}


def prepared_faces(source: Path, prepared: Path) -> tuple[PreparedFaces, PreparedFaces]:
    """The clips and the photographs of `grid.npz` and `portraits.npz`; `source` was prepared."""
    identities = portrait_identities(source)
    clips, portraits = (np.load(prepared / f"{name}.npz") for name in ("grid", "portraits"))
    sentences, files = ([str(name) for name in data["names"]] for data in (clips, portraits))
    people = [identities[name] for name in files]
    films = [source / "grid_s1" / name for name in sentences]
    photographs = [source / "portraits" / name for name in files]
    unseen = [clip_held_out(name) for name in sentences]
    strangers = [portrait_held_out(person) for person in people]
    return (
        PreparedFaces(films, clips["landmarks"], sentences, unseen),
        PreparedFaces(photographs, portraits["landmarks"], people, strangers),
    )


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


def clip_crops(job: tuple[Path, NDArray[np.float32], int]) -> list[Crop]:
    """`CLIP_CROPS` jittered crops of a film, with its landmarks `(T, 68, 2)` in pixels; their side in pixels."""
    path, landmarks, size = job
    rng = np.random.default_rng(name_seed(path))
    wanted = set(spread_frames(landmarks, CLIP_CROPS, rng))
    crops: list[Crop] = []
    for index, (image, face) in enumerate(zip(film_frames(path), landmarks, strict=False)):
        if index in wanted:
            affine = jitter_affine(crop_affine(face), rng)
            crops.append((crop_image(image, affine, size), warp_points(affine, face)))
    return crops


def clip_motions(landmarks: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Motion to give to photographs, `(T / 3, 68, 2)` in crop units: every third frame of every seventh clip.

    Args:
        landmarks: `(N, T, 68, 2)`, pixels.
    """
    return [
        np.stack([warp_points(crop_affine(frame), frame) for frame in clip[::3]])
        for clip in landmarks[::7]
    ]


def recolour(image: NDArray[np.uint8], rng_seed: int) -> NDArray[np.uint8]:
    """Another exposure and tint, sometimes grey; the same for the same seed."""
    rng = np.random.default_rng(rng_seed)
    gain = 1 + 0.10 * rng.standard_normal() + 0.05 * rng.standard_normal(3)
    shift = 12 * rng.standard_normal()
    if rng.random() < 0.06:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    return np.clip(image * gain + shift, 0, 255).astype(np.uint8)


def roughen(landmarks: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Landmarks `(68, 2)` with lips and jaw off by as much as a prediction's."""
    rough = landmarks.copy()
    rough[list(CONTENT)] += rng.normal(0, _WARP_NOISE, (len(CONTENT), 2)) * rng.random()
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
