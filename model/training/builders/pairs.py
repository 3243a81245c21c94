r"""Training pairs of stage 2: target, reference of the same person, reference warped to the target.

    python -m model.training.builders.pairs source=DATA prepared=data/prepared \
        autoencoder=runs/autoencoder/export/autoencoder

Clips give real motion of one person; photographs give many persons, moved by the portrait engine.
Every subject is mirrored and recoloured as a whole, every picture has its own crop jitter. Writes
`pairs.npz`, all latents float16 and scaled:

    images (N,S,S,3) uint8, landmarks (N,68,2), latents (N,4,h,w), masked_latents (N,4,h,w),
    masks (N,h,w), kind (N,) 0 clip 1 portrait, held_out (N,), subject (N,)
    target (P,), reference (P,): rows of the above
    warped (P,S,S,3) uint8, warped_latents (P,4,h,w): the reference moved to the target, its inner
    mouth flat
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
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
    roughen,
    spread_frames,
)
from model.face.alignment import (
    crop_affine,
    crop_image,
    jitter_affine,
    lower_face_mask,
    warp_points,
)
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import mouth_opening
from model.face.portrait_engine import PortraitEngine
from model.face.reference_warp import ReferenceWarp
from model.face.retargeting import retarget
from model.networks.autoencoder import encode_pictures, pixels_per_cell
from model.networks.pixels import to_tensor
from model.training.config import run_program

PORTRAIT_PICTURES = 6
REFERENCES = 2  # references tried for each target
_ENGINE_PX = 256
_BATCH = 32  # pictures that are encoded at once


@dataclass(frozen=True)
class PairsConfig:
    """Pairs of clips and photographs.

    Attributes:
        source: Folder that was prepared into `prepared`: `grid.npz` and `portraits.npz` are there.
        autoencoder: Folder of the trained autoencoder.
        size: Side of the pictures in pixels.
        workers: Processes.
        limit: Subjects of each kind, for a quick try; None for all.
    """

    source: Path
    prepared: Path = Path("data/prepared")
    autoencoder: Path = Path("runs/autoencoder/export/autoencoder")
    size: int = 128
    workers: int = 4
    limit: int | None = None


@dataclass(frozen=True)
class Subject:
    """Pictures of one clip or photograph, and warps between them.

    Pairs are target and reference, indices into `pictures`, and the warped reference `(S, S, 3)`.
    """

    pictures: list[Crop]
    pairs: list[tuple[int, int, NDArray[np.uint8]]]


def _finish(pictures: list[Crop], seed: int) -> Subject:
    """Recolour and mirror the subject as a whole, choose references and warp them."""
    rng = np.random.default_rng(seed + 1)
    finished = recolour_and_mirror(pictures, seed, rng)
    pairs = []
    openings = mouth_opening(np.stack([landmarks for _, landmarks in finished]))
    for target, (_, landmarks) in enumerate(finished):
        others = np.array([i for i in range(len(finished)) if i != target])
        # lip-dissimilar references count more: copying must not pay
        weight = np.abs(openings[others] - openings[target]) + 0.05
        count = min(REFERENCES, len(others))
        for reference in rng.choice(others, count, replace=False, p=weight / weight.sum()):
            rough = roughen(landmarks, rng)
            pairs.append(
                (target, int(reference), ReferenceWarp(*finished[reference]).render(rough))
            )
    return Subject(finished, pairs)


def _clip_subject(job: tuple[Path, NDArray[np.float32], int]) -> Subject:
    cv2.setNumThreads(1)
    return _finish(clip_crops(job), name_seed(job[0]))


PortraitJob = tuple[Path, NDArray[np.float32], list[NDArray[np.float32]], int]
"""Photograph, its landmarks in pixels, motions `(T, 68, 2)` in crop units, side of the pictures."""


def portrait_pictures(
    job: PortraitJob, count: int, rng: np.random.Generator, inner_mouths: InnerMouthBank
) -> list[Crop]:
    """`count` pictures: a photograph as it is, then moved by the portrait engine; each with its own jitter."""
    path, landmarks, motions, size = job
    affine = crop_affine(landmarks)
    base = crop_image(read_picture(path), affine, _ENGINE_PX)
    own = warp_points(affine, landmarks)
    engine = PortraitEngine(base, own, inner_mouths)
    pictures: list[Crop] = []
    for index in range(count):
        picture, points = base, own
        if index:
            motion = motions[index % len(motions)]
            moved = retarget(own, motion, float(rng.uniform(0.85, 1.25)))
            points = moved[spread_frames(moved, 1, rng)[0]]
            picture = engine.render(points, inner="bank")
        jitter = jitter_affine(np.eye(2, 3, dtype=np.float32), rng)
        jitter_px = jitter.copy()
        jitter_px[:, 2] *= _ENGINE_PX
        jittered = crop_image(picture, jitter_px / np.float32(_ENGINE_PX), size)
        pictures.append((jittered, warp_points(jitter, points)))
    return pictures


def _portrait_subject(job: PortraitJob) -> Subject:
    cv2.setNumThreads(1)
    seed, inner_mouths = name_seed(job[0]), InnerMouthBank.load(SHIPPED / INNER_MOUTHS)
    rng = np.random.default_rng(seed)
    return _finish(portrait_pictures(job, PORTRAIT_PICTURES, rng, inner_mouths), seed)


@torch.inference_mode()
def encode(
    autoencoder: AutoencoderKL, images: NDArray[np.uint8], masks: NDArray[np.bool_] | None = None
) -> NDArray[np.float16]:
    """Scaled latents `(N, 4, S / f, S / f)`, float16, of pictures `(N, S, S, 3)` uint8.

    The autoencoder is in eval mode; pixels in `masks` `(N, S, S)` become mid grey first.
    """
    parts = []
    for start in tqdm(range(0, len(images), _BATCH), desc="encode", mininterval=10):
        tensor = to_tensor(images[start : start + _BATCH])
        if masks is not None:
            tensor = tensor * (~torch.from_numpy(masks[start : start + _BATCH]))[:, None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latents = encode_pictures(autoencoder, tensor, torch.float32)
        parts.append(latents.half().numpy())
    return np.concatenate(parts)


def _subjects(config: PairsConfig) -> Iterator[tuple[int, bool, Subject]]:
    """Kind, whether it is held out, and pictures of every clip, then of every photograph."""
    (clips, portraits), size = prepared_faces(config.source, config.prepared), config.size
    motions = clip_motions(clips.landmarks)
    rng = np.random.default_rng(0)
    clip_jobs: list[Any] = [
        (path, landmarks, size)
        for path, landmarks in zip(clips.paths, clips.landmarks, strict=True)
    ]
    portrait_jobs: list[Any] = [
        (path, landmarks, [motions[i] for i in rng.choice(len(motions), 3, replace=False)], size)
        for path, landmarks in zip(portraits.paths, portraits.landmarks, strict=True)
    ]
    makers: tuple[Callable[[Any], Subject], ...] = (_clip_subject, _portrait_subject)
    plans = zip(makers, (clip_jobs, portrait_jobs), (clips, portraits), strict=True)
    with ProcessPoolExecutor(config.workers) as pool:
        for kind, (make, jobs, faces) in enumerate(plans):
            subjects = pool.map(make, jobs[: config.limit], chunksize=8)
            bar = tqdm(subjects, total=len(jobs[: config.limit]), mininterval=10)
            for held_out, subject in zip(faces.held_out, bar, strict=False):
                yield kind, held_out, subject


def main(config: PairsConfig) -> None:
    """Make all pairs, then encode them."""
    # 1. pictures and warps
    images: list[NDArray[np.uint8]] = []
    landmarks: list[NDArray[np.float32]] = []
    warped: list[NDArray[np.uint8]] = []
    columns = ("kind", "held_out", "subject", "target", "reference")
    rows: dict[str, list[int]] = {column: [] for column in columns}
    for number, (kind, held_out, subject) in enumerate(_subjects(config)):
        first, count = len(images), len(subject.pictures)
        images += [image for image, _ in subject.pictures]
        landmarks += [points for _, points in subject.pictures]
        rows["kind"] += [kind] * count
        rows["held_out"] += [int(held_out)] * count
        rows["subject"] += [number] * count
        rows["target"] += [first + target for target, _, _ in subject.pairs]
        rows["reference"] += [first + reference for _, reference, _ in subject.pairs]
        warped += [picture for _, _, picture in subject.pairs]

    # 2. latents
    autoencoder = AutoencoderKL.from_pretrained(config.autoencoder, low_cpu_mem_usage=False).eval()
    autoencoder.to(memory_format=torch.channels_last)
    factor = pixels_per_cell(autoencoder)
    stacked, points, warps = np.stack(images), np.stack(landmarks), np.stack(warped)
    masks = np.stack([lower_face_mask(p, config.size // factor) for p in points])
    pixel_masks = masks.repeat(factor, axis=1).repeat(factor, axis=2)
    write_arrays(
        config.prepared / "pairs.npz",
        {
            "images": stacked,
            "landmarks": points,
            "latents": encode(autoencoder, stacked),
            "masked_latents": encode(autoencoder, stacked, pixel_masks),
            "masks": masks,
            "warped": warps,
            "warped_latents": encode(autoencoder, warps),
            **{column: np.array(values, np.int32) for column, values in rows.items()},
        },
    )
    print(f"{len(images)} pictures, {len(warped)} pairs, {sum(rows['held_out'])} pictures held out")


if __name__ == "__main__":
    run_program(PairsConfig, main, __doc__)
