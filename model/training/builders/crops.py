"""Cut training crops from prepared clips and portraits.

    python -m model.training.builders.crops source=DATA prepared=data/prepared size=128

Writes `crops.npz`: `images` (N, size, size, 3) uint8, `landmarks` (N, 68, 2) float32 crop units,
`subject` (N,) (clip or photograph), `kind` (0 clip, 1 portrait) and `held_out` (N,). Every crop has
its own jitter. Clips give frames spread over their openings.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.arrays import write_arrays
from model.data.crops import Crop, clip_crops, name_seed, prepared_faces, read_picture
from model.face.alignment import crop_affine, crop_image, jitter_affine, warp_points
from model.training.config import run_program

PORTRAIT_CROPS = 6


@dataclass(frozen=True)
class CropsConfig:
    """Crops of `size` pixels, cut by `workers` processes.

    `source` was prepared into `prepared`, where `grid.npz` and `portraits.npz` are and `crops.npz` goes.
    """

    source: Path
    prepared: Path = Path("data/prepared")
    size: int = 128
    workers: int = 4


def _portrait_crops(job: tuple[Path, NDArray[np.float32], int]) -> list[Crop]:
    path, landmarks, size = job
    rng = np.random.default_rng(name_seed(path))
    image = read_picture(path)
    affines = [jitter_affine(crop_affine(landmarks), rng) for _ in range(PORTRAIT_CROPS)]
    return [(crop_image(image, a, size), warp_points(a, landmarks)) for a in affines]


def main(config: CropsConfig) -> None:
    """Cut all crops."""
    cv2.setNumThreads(1)
    images: list[NDArray[np.uint8]] = []
    points: list[NDArray[np.float32]] = []
    columns: dict[str, list[int]] = {"subject": [], "kind": [], "held_out": []}
    sets = zip(
        prepared_faces(config.source, config.prepared), (clip_crops, _portrait_crops), strict=True
    )
    with ProcessPoolExecutor(config.workers) as pool:
        for kind, (faces, cut) in enumerate(sets):
            jobs = [(*row, config.size) for row in zip(faces.paths, faces.landmarks, strict=True)]
            cuts = tqdm(pool.map(cut, jobs, chunksize=4), total=len(jobs), mininterval=5)
            for subject, (held_out, crops) in enumerate(zip(faces.held_out, cuts, strict=True)):
                images += [image for image, _ in crops]
                points += [landmarks for _, landmarks in crops]
                columns["subject"] += [subject] * len(crops)
                columns["kind"] += [kind] * len(crops)
                columns["held_out"] += [held_out] * len(crops)
    arrays = {name: np.array(values, np.int32) for name, values in columns.items()}
    arrays |= {"images": np.stack(images), "landmarks": np.stack(points)}
    write_arrays(config.prepared / "crops.npz", arrays)
    print(f"{len(images)} crops, {sum(columns['held_out'])} held out")


if __name__ == "__main__":
    run_program(CropsConfig, main, __doc__)
