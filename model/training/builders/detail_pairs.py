r"""Training material of the detail network: what was drawn, what it should have been, and the warp.

    python -m model.training.builders.detail_pairs source=DATA weights=model/weights

Every subject's pictures are drawn from others of the same subject, by the pipeline's own sampler, as in
use; the network then learns to bring what was drawn to twice that size. Subjects and pairs are those of
`model.training.builders.pairs`. Writes `detail.npz`, only the U-Net's window of each crop (h, w in its
pixels):

    drawn (N,h,w,3) uint8, in the carried picture's colours; target and warped (N,2h,2w,3) uint8
    landmarks (N,68,2): of the target, pixels of `drawn`
    kind (N,): 0 clip, 1 photograph moved, 2 photograph as it is, 3 another photograph of the person
    held_out (N,)
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.data.arrays import write_arrays
from model.data.crops import Crop, cut_crop, name_seed, recolour_and_mirror
from model.data.subjects import FacePicture, Subject, list_subjects, subject_pictures
from model.face.crop_colour import match_colour
from model.face.inner_mouth import InnerMouthBank
from model.face.mouth_crop import network_affine, network_inner
from model.face.reference_warp import ReferenceWarp
from model.networks.detail import SCALE
from model.pipelines.denoising import CropSampler, Networks
from model.pipelines.talking_face import load_pipeline
from model.training.builders.pairs import choose_pairs
from model.training.config import run_program

FACE_PX: Final = 416
_TARGETS: Final = 3
"""Pictures that are drawn of a subject."""
_STEPS: Final = (2, 4, 4, 6)

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
class Drawn:
    """One subject's rows of `detail.npz`."""

    drawn: NDArray[np.uint8]
    target: NDArray[np.uint8]
    warped: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    kind: NDArray[np.int32]


@cache
def _tools(weights: Path, bank: Path) -> tuple[Networks, InnerMouthBank]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return load_pipeline(weights, device="cpu").networks, InnerMouthBank.load(bank)


def draw_subject(job: tuple[Subject, Path, Path]) -> Drawn | None:
    """Draw a subject's targets with a checkpoint and a bank of inner mouths; None where it gives no pair."""
    subject, weights, bank = job
    networks, inner_mouths = _tools(weights, bank)
    seed = name_seed(subject.paths[-1])
    rng = np.random.default_rng(seed)
    shown = subject_pictures(subject, FACE_PX, rng, inner_mouths)
    pairs = choose_pairs(shown, rng)
    # The photograph as it is always is a target: its teeth are real ones.
    order = sorted(
        rng.permutation(len(pairs)), key=lambda i: not subject.frames and pairs[i][0] > 0
    )
    chosen = sorted((pairs[i] for i in order[:_TARGETS]), key=lambda pair: pair[1])
    faces = recolour_and_mirror([(x.image, x.landmarks) for x in shown], seed, rng)
    parts = []
    for reference, group in groupby(chosen, key=lambda pair: pair[1]):
        rows = list(group)
        carried = [FacePicture(faces[i][0], faces[i][1], shown[i].own) for _, _, i in rows]
        targets = [faces[i] for i, _, _ in rows]
        kinds = [_kind(subject, i) for i, _, _ in rows]
        parts.append(_draw(networks, inner_mouths, faces[reference], targets, carried, kinds, rng))
    return _join(parts) if parts else None


def _kind(subject: Subject, target: int) -> int:
    if subject.frames:
        return CLIP
    if len(subject.paths) == 2:
        return OTHER_PHOTOGRAPH
    return PHOTOGRAPH if target == 0 else MOVED


def _draw(
    networks: Networks,
    inner_mouths: InnerMouthBank,
    reference: Crop,
    targets: list[Crop],
    carried: list[FacePicture],
    kinds: list[int],
    rng: np.random.Generator,
) -> Drawn:
    """Targets drawn from one reference, each into another picture that is carried to it."""
    size, crop = networks.crop_px, networks.crop
    affines = [network_affine(crop, face, reference[1]) for _, face in targets]
    own, landmarks = cut_crop(reference, network_affine(crop, reference[1], reference[1]), size)
    sampler = CropSampler(
        networks,
        own[None],
        landmarks[None],
        steps=int(rng.choice(_STEPS)),
        scheduler="dpmsolver++",
        init="noise",
        strength=1.0,
        seed=int(rng.integers(2**31)),
    )
    # Not roughened: in use a crop shows just the face that its warp was made for, and what is off by
    # a pixel cannot be copied.
    flat: list[Crop] = []
    filled: list[Crop] = []
    for picture, (_, face) in zip(carried, targets, strict=True):
        warp = ReferenceWarp(picture.image, picture.landmarks, inner_mouths)
        inner = network_inner(crop) if picture.own else "flat"
        flat.append((warp.render(face, inner=inner), face))
        filled.append((warp.render(face, inner="bank"), face))

    def cut(crops: list[Crop], side: int) -> NDArray[np.uint8]:
        return np.stack([cut_crop(x, a, side)[0] for x, a in zip(crops, affines, strict=True)])

    points = np.stack([cut_crop(x, a, 1)[1] for x, a in zip(targets, affines, strict=True)])
    warped, real = cut(flat, size), cut(targets, size)
    known = None if crop == "mouth" else sampler.background(real, points, warped)
    crops = sampler.sample(points, warped, known)
    coloured = [match_colour(*row) for row in zip(crops, warped, points, strict=True)]
    window = networks.unet.window.enlarge(size // networks.latent_size)
    coarse, fine = (slice(None), *window.slices), (slice(None), *window.enlarge(SCALE).slices)
    return Drawn(
        drawn=np.clip(np.stack(coloured) + 0.5, 0, 255).astype(np.uint8)[coarse],
        target=cut(targets, SCALE * size)[fine],
        warped=cut(filled, SCALE * size)[fine],
        landmarks=points * size - np.array([window.left, window.top], np.float32),
        kind=np.array(kinds, np.int32),
    )


def _join(rows: list[Drawn]) -> Drawn:
    columns = zip(*(vars(row).values() for row in rows), strict=True)
    return Drawn(*(np.concatenate(column) for column in columns))


def main(config: DetailPairsConfig) -> None:
    """Draw all subjects."""
    subjects = list(list_subjects(config.source, config.prepared, config.limit))
    bank = config.inner_mouths or config.weights / INNER_MOUTHS
    jobs = [(subject, config.weights, bank) for subject in subjects]
    rows: list[Drawn] = []
    held_out: list[bool] = []
    with ProcessPoolExecutor(config.workers) as pool:
        drawn = pool.map(draw_subject, jobs, chunksize=4)
        for subject, row in zip(
            subjects, tqdm(drawn, total=len(jobs), mininterval=10), strict=True
        ):
            if row is not None:
                rows.append(row)
                held_out += [subject.held_out] * len(row.kind)
    arrays = {**vars(_join(rows)), "held_out": np.array(held_out)}
    write_arrays(config.prepared / "detail.npz", arrays)
    print(f"{len(held_out)} pictures, {sum(held_out)} held out")


if __name__ == "__main__":
    run_program(DetailPairsConfig, main, __doc__)
