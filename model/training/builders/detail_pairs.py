r"""Training material of the detail network: what was drawn, what it should have been, and the warp.

    python -m model.training.builders.detail_pairs source=DATA weights=model/weights

Every subject's reference is drawn to other pictures of the same subject, by the pipeline's own sampler
at 128 px, as in use; the network then learns to bring what was drawn to twice that size. Subjects are
clips, photographs moved by the portrait engine, and photographs of one person with two expressions.
Writes `detail.npz`, only the U-Net's window of each crop (h, w in its pixels):

    drawn (N,h,w,3) uint8, in the photograph's colours; target and warped (N,2h,2w,3) uint8
    landmarks (N,68,2): of the target, shares of the whole crop
    kind (N,): 0 clip, 1 photograph moved, 2 photograph as it is, 3 another photograph of the person
    held_out (N,)
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice, permutations
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.data.arrays import write_arrays
from model.data.crops import (
    Crop,
    clip_crops,
    clip_motions,
    name_seed,
    prepared_faces,
    read_picture,
    recolour_and_mirror,
)
from model.data.split import portrait_held_out
from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.compositing import match_colour
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import mouth_opening
from model.face.reference_warp import ReferenceWarp
from model.pipelines.denoising import CropSampler, Networks
from model.pipelines.talking_face import load_pipeline
from model.training.builders.pairs import portrait_pictures
from model.training.config import run_program

DETAIL_PX: Final = 256
_CLIP_TARGETS: Final = 2
_PORTRAIT_TARGETS: Final = 3
_STEPS: Final = (2, 4, 4, 6)
_WHOLE: Final = np.array([[1, 0, 0], [0, 1, 0]], np.float32)

CLIP, MOVED, PHOTOGRAPH, OTHER_PHOTOGRAPH = range(4)


@dataclass(frozen=True)
class DetailPairsConfig:
    """Pairs of the detail network.

    Attributes:
        source: Folder that was prepared into `prepared`: `grid.npz` and `portraits.npz` are there.
        weights: The checkpoint that draws.
        inner_mouths: Folder of the inner mouths; None for the checkpoint's.
        workers: Processes.
        limit: Subjects of each kind, for a quick try; None for all.
    """

    source: Path
    prepared: Path = Path("data/prepared")
    weights: Path = SHIPPED
    inner_mouths: Path | None = None
    workers: int = 4
    limit: int | None = None


@dataclass(frozen=True)
class Subject:
    """One clip, photograph, or pair of photographs: the reference's and the target's.

    Landmarks in pixels are `(T, 68, 2)` of a clip, `(68, 2)` of a photograph; motions are for a
    photograph that is moved.
    """

    paths: tuple[Path, ...]
    landmarks: tuple[NDArray[np.float32], ...]
    motions: tuple[NDArray[np.float32], ...]
    held_out: bool
    is_clip: bool


@dataclass(frozen=True)
class Drawn:
    """One subject's rows of `detail.npz`."""

    drawn: NDArray[np.uint8]
    target: NDArray[np.uint8]
    warped: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    kind: NDArray[np.int32]


def _pictures(
    subject: Subject, rng: np.random.Generator, inner_mouths: InnerMouthBank
) -> tuple[list[Crop], list[int]]:
    """Pictures of a subject at `DETAIL_PX`, the reference first, and the kinds of the others."""
    if subject.is_clip:
        crops = clip_crops((subject.paths[0], subject.landmarks[0], DETAIL_PX))
        openings = mouth_opening(np.stack([points for _, points in crops]))
        reference = int(rng.integers(len(crops)))
        # lip-dissimilar targets first: copying must not pay
        order = np.argsort(-np.abs(openings - openings[reference]) + 0.02 * rng.random(len(crops)))
        chosen = [index for index in order if index != reference][: 2 * _CLIP_TARGETS]
        kept = rng.permutation(chosen)[:_CLIP_TARGETS]
        return [crops[reference], *(crops[index] for index in kept)], [CLIP] * len(kept)
    if len(subject.paths) == 2:
        crops = []
        for path, landmarks in zip(subject.paths, subject.landmarks, strict=True):
            affine = crop_affine(landmarks)
            picture = crop_image(read_picture(path), affine, DETAIL_PX)
            crops.append((picture, warp_points(affine, landmarks)))
        return crops, [OTHER_PHOTOGRAPH]
    job = (subject.paths[0], subject.landmarks[0], list(subject.motions), DETAIL_PX)
    pictures = portrait_pictures(job, _PORTRAIT_TARGETS + 1, rng, inner_mouths)
    # The photograph is mostly a target: its teeth are real ones.
    if rng.random() < 0.25:
        return pictures, [MOVED] * _PORTRAIT_TARGETS
    rest = [PHOTOGRAPH, *[MOVED] * (_PORTRAIT_TARGETS - 1)]
    return [pictures[-1], *pictures[:-1]], rest


@cache
def _tools(weights: Path, bank: Path) -> tuple[Networks, InnerMouthBank]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return load_pipeline(weights, device="cpu").networks, InnerMouthBank.load(bank)


def draw_subject(job: tuple[Subject, Path, Path]) -> Drawn:
    """Draw a subject's targets from its reference, with a checkpoint and a bank of inner mouths."""
    subject, weights, bank = job
    networks, inner_mouths = _tools(weights, bank)
    seed = name_seed(subject.paths[-1])
    rng = np.random.default_rng(seed)
    pictures, kinds = _pictures(subject, rng, inner_mouths)
    (reference, face), *targets = recolour_and_mirror(pictures, seed, rng)
    size = networks.crop_px
    small = [
        crop_image(x, _WHOLE / np.float32(DETAIL_PX), size)
        for x in (reference, *(t for t, _ in targets))
    ]
    # Not roughened: in use a crop shows just the face that its warp was made for, and what is off by
    # a pixel cannot be copied.
    points = np.stack([p for _, p in targets])
    sampler = CropSampler(
        networks,
        small[0][None],
        face[None],
        steps=int(rng.choice(_STEPS)),
        scheduler="dpmsolver++",
        init="noise",
        strength=1.0,
        seed=int(rng.integers(2**31)),
    )
    warped = ReferenceWarp(small[0], face).render_many(points)
    crops = sampler.sample(points, warped, sampler.background(np.stack(small[1:]), points, warped))
    coloured = [match_colour(*row) for row in zip(crops, warped, points, strict=True)]
    large = ReferenceWarp(reference, face, inner_mouths).render_many(points)
    window = networks.unet.window.enlarge(size // networks.latent_size)
    coarse = (slice(None), *window.slices)
    fine = (slice(None), *window.enlarge(DETAIL_PX // size).slices)
    pixels = np.clip(np.stack(coloured) + 0.5, 0, 255).astype(np.uint8)
    return Drawn(
        drawn=pixels[coarse],
        target=np.stack([t for t, _ in targets])[fine],
        warped=large[fine],
        landmarks=points,
        kind=np.array(kinds, np.int32),
    )


def list_subjects(source: Path, prepared: Path, limit: int | None = None) -> Iterator[Subject]:
    """Clips, photographs, and two photographs of one person in either order."""
    clips, portraits = prepared_faces(source, prepared)
    motions = clip_motions(clips.landmarks)
    rng = np.random.default_rng(0)
    films = zip(clips.paths, clips.landmarks, clips.held_out, strict=True)
    for path, clip, held_out in islice(films, limit):
        yield Subject((path,), (clip,), (), held_out, True)
    people: dict[str, list[tuple[Path, NDArray[np.float32]]]] = defaultdict(list)
    photographs = zip(portraits.paths, portraits.landmarks, portraits.people, strict=True)
    for path, face, person in islice(photographs, limit):
        people[person].append((path, face))
        chosen = tuple(motions[i] for i in rng.choice(len(motions), 3, replace=False))
        yield Subject((path,), (face,), chosen, portrait_held_out(person), False)
    for person, pictures in people.items():
        for (one, face), (other, target) in permutations(pictures, 2):
            yield Subject((one, other), (face, target), (), portrait_held_out(person), False)


def main(config: DetailPairsConfig) -> None:
    """Draw all subjects."""
    subjects = list(list_subjects(config.source, config.prepared, config.limit))
    bank = config.inner_mouths or config.weights / INNER_MOUTHS
    jobs = [(subject, config.weights, bank) for subject in subjects]
    with ProcessPoolExecutor(config.workers) as pool:
        drawn = pool.map(draw_subject, jobs, chunksize=4)
        rows = list(tqdm(drawn, total=len(jobs), mininterval=10))
    names = [field.name for field in dataclasses.fields(Drawn)]
    arrays = {name: np.concatenate([getattr(row, name) for row in rows]) for name in names}
    held_out = np.concatenate(
        [np.full(len(r.kind), s.held_out) for r, s in zip(rows, subjects, strict=True)]
    )
    write_arrays(config.prepared / "detail.npz", {**arrays, "held_out": held_out})
    print(f"{len(held_out)} pictures, {int(held_out.sum())} held out")


if __name__ == "__main__":
    run_program(DetailPairsConfig, main, __doc__)
