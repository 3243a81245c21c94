"""Training pairs: target, reference of the same person, and a third picture carried to the target.

    python -m model.training.builders.pairs source=DATA prepared=data/prepared

Clips give real motion of one person; photographs give many persons, moved by the portrait engine. What
is carried is never the target itself, and mostly not the reference. Every subject is mirrored and
recoloured as a whole, every picture has its own crop jitter. Writes `pairs.npz`:

    images (N,S,S,3) uint8, landmarks (N,68,2), masks (N,h,w), kind (N,) 0 clip 1 portrait,
    held_out (N,), subject (N,)
    target (P,), reference (P,): rows of the above
    warped (P,S,S,3) uint8: another picture carried to the target, its inner mouth flat but
    for the person's own teeth in crops of mouths

Stage 0 learns from the pictures; stage 2 from their latents, too (`model.training.builders.latents`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.data.arrays import write_arrays
from model.data.crops import (
    FACE_PX,
    Crop,
    cut_crop,
    jittered_affine,
    name_seed,
    recolour_and_mirror,
    roughen,
)
from model.data.subjects import FacePicture, Subject, list_subjects, subject_pictures
from model.face.alignment import (
    warp_points,
)
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import mouth_opening
from model.face.mouth_crop import NetworkCrop, network_inner, network_mask
from model.face.reference_warp import ReferenceWarp
from model.networks.variants import GRIDS, VARIANTS
from model.training.config import run_program

REFERENCES = 2  # references tried for each target
_SHUT = 0.04
"""Opening (gap over width) up to which a mouth shows no teeth."""
_SAME = 0.3
"""Share of pairs whose reference is also what is carried, as it is where a photograph speaks."""


@dataclass(frozen=True)
class PairsConfig:
    """Pairs of clips and photographs.

    Attributes:
        source: Folder that was prepared into `prepared`: `grid.npz` and `portraits.npz` are there.
        variant: Of the networks, whose crops these are.
        crop: What the denoiser is to look at.
        workers: Processes.
        limit: Subjects of each kind, for a quick try; None for all.
    """

    source: Path
    prepared: Path = Path("data/prepared")
    variant: Literal["tiny", "base", "large"] = "tiny"
    crop: NetworkCrop = "mouth"
    workers: int = 4
    limit: int | None = None


@dataclass(frozen=True)
class SubjectPairs:
    """Pictures of one subject in the denoiser's crop, and pairs of them.

    Pairs are target and reference, indices into `pictures`, and what was carried `(S, S, 3)`. Masks
    `(N, h, w)` say what is generated.
    """

    pictures: list[Crop]
    masks: list[NDArray[np.bool_]]
    pairs: list[tuple[int, int, NDArray[np.uint8]]]


def choose_pairs(
    pictures: list[FacePicture], rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Target, reference and carried picture, as indices.

    Another person's teeth are nothing to be drawn where the reference shows the right ones: a target
    with such has a reference whose mouth is shut, or is shut itself.
    """
    openings = mouth_opening(np.stack([picture.landmarks for picture in pictures]))
    chosen = []
    for target, picture in enumerate(pictures):
        others = np.array([i for i in range(len(pictures)) if i != target])
        fitting = [
            i
            for i in others
            if openings[target] < _SHUT or (pictures[i].own if picture.own else openings[i] < _SHUT)
        ]
        count = min(REFERENCES, len(fitting))
        if not count:
            continue
        # lip-dissimilar ones count more: copying must not pay
        weight = np.abs(openings - openings[target]) + 0.05
        share = weight[fitting] / weight[fitting].sum()
        for reference in rng.choice(fitting, count, replace=False, p=share):
            carried = int(rng.choice(others, p=weight[others] / weight[others].sum()))
            if rng.random() < _SAME:
                carried = int(reference)
            chosen.append((target, int(reference), carried))
    return chosen


@cache
def _bank() -> InnerMouthBank:
    cv2.setNumThreads(1)
    return InnerMouthBank.load(SHIPPED / INNER_MOUTHS)


def subject_pairs(job: tuple[Subject, NetworkCrop, int, int]) -> SubjectPairs:
    """All pairs of a subject, of a kind of crop, with so many pixels and cells a side."""
    subject, crop, size, cells = job
    seed = name_seed(subject.paths[-1])
    rng = np.random.default_rng(seed)
    shown = subject_pictures(subject, FACE_PX, rng, _bank())
    chosen = choose_pairs(shown, rng)
    faces = recolour_and_mirror([(x.image, x.landmarks) for x in shown], seed, rng)
    usual = faces[int(rng.integers(len(faces)))][1]  # decides the size of all crops
    affines = [jittered_affine(crop, face, usual, rng) for _, face in faces]
    warps: dict[int, ReferenceWarp] = {}
    pairs = []
    for target, reference, carried in chosen:
        if carried not in warps:
            warps[carried] = ReferenceWarp(*faces[carried])
        # Its teeth go along where they are the person's.
        inner = network_inner(crop) if shown[carried].own else "flat"
        moved = warps[carried].render(roughen(faces[target][1], rng), inner=inner)
        cut, _ = cut_crop((moved, faces[target][1]), affines[target], size)
        pairs.append((target, reference, cut))
    return SubjectPairs(
        [cut_crop(face, affine, size) for face, affine in zip(faces, affines, strict=True)],
        [
            network_mask(crop, warp_points(affine, face), cells)
            for (_, face), affine in zip(faces, affines, strict=True)
        ],
        pairs,
    )


def main(config: PairsConfig) -> None:
    """Make all pairs."""
    cells = GRIDS[config.crop]
    images: list[NDArray[np.uint8]] = []
    landmarks: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    warped: list[NDArray[np.uint8]] = []
    columns = ("kind", "held_out", "subject", "target", "reference")
    rows: dict[str, list[int]] = {column: [] for column in columns}
    for number, (subject, made) in enumerate(_made(config, cells)):
        first, count = len(images), len(made.pictures)
        images += [image for image, _ in made.pictures]
        landmarks += [points for _, points in made.pictures]
        masks += made.masks
        rows["kind"] += [int(not subject.frames)] * count
        rows["held_out"] += [int(subject.held_out)] * count
        rows["subject"] += [number] * count
        rows["target"] += [first + target for target, _, _ in made.pairs]
        rows["reference"] += [first + reference for _, reference, _ in made.pairs]
        warped += [picture for _, _, picture in made.pairs]

    arrays: dict[str, NDArray[Any]] = {
        "images": np.stack(images),
        "landmarks": np.stack(landmarks),
        "masks": np.stack(masks),
        "warped": np.stack(warped),
        **{column: np.array(values, np.int32) for column, values in rows.items()},
    }
    write_arrays(config.prepared / "pairs.npz", arrays)
    print(f"{len(images)} pictures, {len(warped)} pairs, {sum(rows['held_out'])} pictures held out")


def _made(config: PairsConfig, cells: int) -> Iterator[tuple[Subject, SubjectPairs]]:
    size = cells * VARIANTS[config.variant].patch
    subjects = list(list_subjects(config.source, config.prepared, config.limit))
    jobs = [(subject, config.crop, size, cells) for subject in subjects]
    with ProcessPoolExecutor(config.workers) as pool:
        made = pool.map(subject_pairs, jobs, chunksize=8)
        yield from zip(subjects, tqdm(made, total=len(jobs), mininterval=10), strict=True)


if __name__ == "__main__":
    run_program(PairsConfig, main, __doc__)
