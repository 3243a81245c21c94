"""Cut training crops from prepared clips and portraits.

    python -m model.training.crops --source DATA --prepared data/prepared --size 128

Writes `crops.npz`: `images` (N, size, size, 3) uint8, `landmarks` (N, 68, 2) float32 crop units,
`subject` (N,) (clip or photograph), `kind` (0 clip, 1 portrait) and `held_out` (N,). Every crop has
its own jitter. Clips give frames spread over their openings.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.errors import UnsupportedMediaError
from model.face.alignment import crop_affine, crop_image, jitter_affine, warp_points
from model.face.landmarks import mouth_opening
from model.training.split import clip_held_out, portrait_held_out, portrait_identity

CLIP_CROPS = 8
PORTRAIT_CROPS = 6

Crop = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Picture `(S, S, 3)` and its landmarks `(68, 2)`, crop units."""


def portrait_identities(source: Path) -> dict[str, str]:
    """File name -> identity, from `index.csv`."""
    with (source / "portraits" / "index.csv").open() as file:
        return {row["file"]: portrait_identity(row) for row in csv.DictReader(file)}


def spread_frames(
    landmarks: NDArray[np.float32], count: int, rng: np.random.Generator
) -> list[int]:
    """`count` frames of a clip `(T, 68, 2)` whose mouth openings are spread over the clip's range."""
    opening = mouth_opening(landmarks)
    wanted = rng.uniform(opening.min(), opening.max(), count)
    return sorted(
        {
            int(np.abs(opening - value + rng.normal(0, 0.01, len(opening))).argmin())
            for value in wanted
        }
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
    """`CLIP_CROPS` jittered crops of a clip.

    Args:
        job: Film, its landmarks `(T, 68, 2)` in pixels, side of the crops in pixels.
    """
    path, landmarks, size = job
    rng = np.random.default_rng(name_seed(path))
    wanted = set(spread_frames(landmarks, CLIP_CROPS, rng))
    crops: list[Crop] = []
    capture = cv2.VideoCapture(str(path))
    for index in range(len(landmarks)):
        found, frame = capture.read()
        if not found:
            break
        if index in wanted:
            affine = jitter_affine(crop_affine(landmarks[index]), rng)
            image = np.ascontiguousarray(frame[..., ::-1]).astype(np.uint8)
            crops.append((crop_image(image, affine, size), warp_points(affine, landmarks[index])))
    return crops


def _portrait_crops(job: tuple[Path, NDArray[np.float32], int]) -> list[Crop]:
    path, landmarks, size = job
    rng = np.random.default_rng(name_seed(path))
    image = read_picture(path)
    affines = [jitter_affine(crop_affine(landmarks), rng) for _ in range(PORTRAIT_CROPS)]
    return [(crop_image(image, a, size), warp_points(a, landmarks)) for a in affines]


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    identities = portrait_identities(arguments.source)
    grid = np.load(arguments.prepared / "grid.npz")
    portraits = np.load(arguments.prepared / "portraits.npz")
    images: list[NDArray[np.uint8]] = []
    points: list[NDArray[np.float32]] = []
    columns: dict[str, list[int]] = {"subject": [], "kind": [], "held_out": []}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for kind, (folder, data, cut) in enumerate(
            [("grid_s1", grid, clip_crops), ("portraits", portraits, _portrait_crops)]
        ):
            names = [str(name) for name in data["names"]]
            jobs = [
                (arguments.source / folder / name, landmarks, arguments.size)
                for name, landmarks in zip(names, data["landmarks"], strict=True)
            ]
            cuts = tqdm(
                pool.map(cut, jobs, chunksize=4), total=len(jobs), desc=folder, mininterval=5
            )
            for subject, (name, crops) in enumerate(zip(names, cuts, strict=True)):
                held_out = clip_held_out(name) if kind == 0 else portrait_held_out(identities[name])
                images += [image for image, _ in crops]
                points += [landmarks for _, landmarks in crops]
                columns["subject"] += [subject] * len(crops)
                columns["kind"] += [kind] * len(crops)
                columns["held_out"] += [held_out] * len(crops)
    np.savez(
        arguments.prepared / "crops.npz",
        images=np.stack(images),
        landmarks=np.stack(points),
        subject=np.array(columns["subject"], np.int32),
        kind=np.array(columns["kind"], np.int32),
        held_out=np.array(columns["held_out"], np.int32),
    )
    print(f"{len(images)} crops, {sum(columns['held_out'])} held out")


if __name__ == "__main__":
    main()
