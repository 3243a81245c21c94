"""Cut training crops from prepared clips and portraits.

    python -m model.training.crops --source DATA --prepared data/prepared --size 128

Writes `crops.npz`: `images` (N, size, size, 3) uint8, `landmarks` (N, 68, 2) float32 crop units,
`subject` (N,) (clip or photograph), `kind` (0 clip, 1 portrait) and `held_out` (N,). Every crop has
its own jitter. Clips give frames spread over their openings.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.crops import Crop, clip_crops, name_seed, portrait_identities, read_picture
from model.data.split import clip_held_out, portrait_held_out
from model.face.alignment import crop_affine, crop_image, jitter_affine, warp_points

PORTRAIT_CROPS = 6


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
