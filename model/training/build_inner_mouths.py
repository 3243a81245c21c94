"""Build the bank of inner mouths from video clips and smiling photographs with known landmarks.

    python -m model.training.build_inner_mouths --source DATA --prepared data/prepared

Every open mouth of the clips is rectified (model/face/inner_mouth.py) and put into its cell of
opening x width. A cell's entry is its medoid: the real mouth that is most like all the others
there, sharp, and alike from cell to cell. The upper teeth come from the studio photographs of
people who smile: of all rows of teeth the cleanest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.inner_mouth import TOOTH_LUMA, InnerMouthBank, LipCurves, inner_opening
from model.face.mouth_light import LUMA, USUAL_TOOTH

OPENINGS: Final = (0.05, 0.09, 0.13, 0.17, 0.21, 0.25, 0.30, 0.36)
WIDTHS: Final = (0.90, 1.0, 1.08)
PATCH_PX: Final = (36, 80)
"""Height and width of an entry."""
_CROP_PX: Final = 512

SMILING: Final = "frl_smiling"
"""Beginning of the names of studio photographs that show teeth."""
TEETH_PX: Final = (72, 240)
TEETH_SCALE: Final = 1024
"""Height and width of the picture of the upper teeth, and its pixels per crop unit."""
_LIP_ROW: Final = 28


def _hue(red: float, green: float, blue: float) -> NDArray[np.float32]:
    """Colour of brightness 1."""
    colour = np.array((red, green, blue), np.float32)
    return np.asarray(colour / float(colour @ LUMA), np.float32)


_SKIN_HUE: Final = _hue(1.0, 0.78, 0.66)
_LOWER_TOOTH_HUE: Final = _hue(1.0, 0.77, 0.68)
_FLESH_HUE: Final = _hue(1.0, 0.45, 0.42)
"""Skin, teeth in the shadow of the mouth and its flesh in white light."""


@dataclass(frozen=True)
class Mouth:
    """A rectified mouth: `patch` `(h, w, 3)` uint8 RGB, its form, the skin's mean RGB `(3,)`."""

    patch: NDArray[np.uint8]
    opening: float
    width: float
    skin: NDArray[np.float32]


def rectify(crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch the inner mouth of a crop to a rectangle.

    Args:
        crop: `(S, S, 3)` uint8 RGB.
        landmarks: `(68, 2)`, crop units.
    Returns:
        `(h, w, 3)` uint8 of `PATCH_PX`; a hair is left out at the lips, so that no lip shows in it.
    """
    height, width = PATCH_PX
    lips = LipCurves.from_landmarks(landmarks)
    x = lips.left + (np.arange(width) + 0.5) / width * lips.width
    top, bottom = lips.evaluate(x)
    v = ((np.arange(height) + 0.5) / height)[:, None]
    inset = np.minimum(0.004, 0.12 * (bottom - top))
    y = top + inset + v * (bottom - top - 2 * inset)
    size = crop.shape[0]
    map_x = np.broadcast_to((x * size - 0.5).astype(np.float32), y.shape).copy()
    return np.asarray(
        cv2.remap(crop, map_x, (y * size - 0.5).astype(np.float32), cv2.INTER_AREA), np.uint8
    )


def read_mouths(clips: Path, landmarks_file: Path, every_clip: int) -> Iterator[Mouth]:
    """Rectify the open mouths of the clips."""
    archive = np.load(landmarks_file)
    names, tracks = archive["names"][::every_clip], archive["landmarks"][::every_clip]
    cropped = np.stack([[warp_points(crop_affine(f), f) for f in track] for track in tracks])
    inner_width = cropped[:, :, 64, 0] - cropped[:, :, 60, 0]
    usual = float(np.median(inner_width))
    openings = inner_opening(cropped)
    for clip, name in enumerate(tqdm(names, desc="clips", mininterval=5)):
        capture = cv2.VideoCapture(str(clips / str(name)))
        for frame in range(len(tracks[clip])):
            found, picture = capture.read()
            if not found:
                break
            if openings[clip, frame] < 0.03:
                continue
            affine = crop_affine(tracks[clip, frame])
            crop = crop_image(np.ascontiguousarray(picture[..., ::-1]), affine, _CROP_PX)
            points = cropped[clip, frame]
            cheek = ((points[3] + points[48]) / 2 * _CROP_PX).astype(int)
            other = ((points[13] + points[54]) / 2 * _CROP_PX).astype(int)
            skin = np.mean(
                [
                    crop[row - 6 : row + 7, column - 6 : column + 7].mean((0, 1))
                    for column, row in (cheek, other)
                ],
                axis=0,
            )
            yield Mouth(
                rectify(crop, points),
                float(openings[clip, frame]),
                float(inner_width[clip, frame]) / usual,
                skin.astype(np.float32),
            )


def medoid(
    mouths: list[Mouth], opening: float, width: float, like: NDArray[np.float32] | None
) -> Mouth:
    """Of the mouths nearest to a form, the one most like the others and the entry beside it."""
    form = np.array([((m.opening - opening) / 0.02, (m.width - width) / 0.03) for m in mouths])
    near = np.argsort((form**2).sum(axis=1))[:80]
    patches = np.stack([mouths[i].patch for i in near]).astype(np.float32)
    small = np.stack([cv2.resize(p, (20, 9), interpolation=cv2.INTER_AREA) for p in patches])
    cost = np.abs(small - np.median(small, axis=0)).mean(axis=(1, 2, 3))
    # The upper teeth are a picture of their own and hang before the entry: leave the upper part
    # dark.
    cost += 0.6 * small[:, :5].mean(axis=(1, 2, 3))
    if like is not None:
        cost += np.abs(small - cv2.resize(like, (20, 9), interpolation=cv2.INTER_AREA)).mean(
            axis=(1, 2, 3)
        )
    sharpness = np.array([cv2.Laplacian(p.mean(axis=2), cv2.CV_32F).std() for p in patches])
    cost -= 0.25 * sharpness
    return mouths[near[int(np.argmin(cost))]]


def grade(patch: NDArray[np.uint8], skin: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Give an entry the colours of a mouth in white light.

    The clips' light is balanced by their skin. Then teeth (bright and pale) become tooth white and
    as bright as teeth are against skin, everything else becomes a dark red, darker towards the
    corners, where the clips show lip.

    Args:
        patch: `(h, w, 3)` uint8 RGB, rectified.
        skin: `(3,)` mean RGB of the skin around it.
    """
    picture = patch.astype(np.float32) * (_SKIN_HUE / (skin / float(skin @ LUMA)))
    brightness = picture @ LUMA
    redness = (picture[..., 0] - picture[..., 1:].mean(axis=-1)) / np.maximum(brightness, 1.0)
    tooth = _ramp(brightness / float(skin @ LUMA), 0.30, 0.50) * _ramp(0.75 - redness, 0.0, 0.35)
    tooth = cv2.GaussianBlur(tooth.astype(np.float32), (0, 0), 1.0)[..., None]
    level = brightness[..., None]
    white = 0.95 * level * _LOWER_TOOTH_HUE
    flesh = 0.62 * level * _FLESH_HUE
    graded = flesh + tooth * (white - flesh)
    u = (np.arange(patch.shape[1]) + 0.5) / patch.shape[1]
    corner = 0.35 + 0.65 * _ramp(np.minimum(u, 1 - u), 0.03, 0.26)
    v = (np.arange(patch.shape[0]) + 0.5) / patch.shape[0]
    shadow = 0.72 + 0.28 * _ramp(v, 0.0, 0.22)  # of the upper lip
    graded *= (corner[None] * shadow[:, None])[..., None]
    return np.clip(graded + 0.5, 0, 255).astype(np.uint8)


def _ramp(value: NDArray[np.float32], start: float, stop: float) -> NDArray[np.float32]:
    """0 below `start`, 1 above `stop`, smooth between."""
    t = np.clip((value - start) / (stop - start), 0.0, 1.0)
    smooth: NDArray[np.float32] = t * t * (3 - 2 * t)
    return smooth


def read_smiles(folder: Path, landmarks_file: Path) -> list[NDArray[np.uint8]]:
    """Mouths of the smiling studio photographs `(h, w, 3)`, `TEETH_PX`; lip in `_LIP_ROW`."""
    archive = np.load(landmarks_file)
    height, width = TEETH_PX
    smiles = []
    for name, pixels in zip(archive["names"], archive["landmarks"], strict=True):
        if not str(name).startswith(SMILING):
            continue
        affine = crop_affine(pixels)
        points = warp_points(affine, pixels)
        if not 0.13 < float(inner_opening(points)) < 0.24:
            continue
        picture = cv2.imread(str(folder / str(name)))
        if picture is None:
            continue
        crop = crop_image(np.ascontiguousarray(picture[..., ::-1]), affine, TEETH_SCALE)
        middle = (points[62] + points[66]) / 2
        angle = float(np.arctan2(points[64, 1] - points[60, 1], points[64, 0] - points[60, 0]))
        matrix = cv2.getRotationMatrix2D(
            (float(middle[0]) * TEETH_SCALE, float(points[62, 1]) * TEETH_SCALE),
            np.degrees(angle),
            1.0,
        )
        matrix[:, 2] += (
            width / 2 - middle[0] * TEETH_SCALE,
            _LIP_ROW - points[62, 1] * TEETH_SCALE,
        )
        smiles.append(np.asarray(cv2.warpAffine(crop, matrix, (width, height)), np.uint8))
    return smiles


def cut_teeth(smile: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float, float]:
    """Take the upper teeth out of a smile.

    Returns:
        `(h, w, 4)` uint8 RGBA in white light; row of the biting edge; a cost that is low for a
        clean, even row.
    """
    picture = cv2.bilateralFilter(smile, 5, 18, 2).astype(np.float32)
    height, width = smile.shape[:2]
    level = picture @ LUMA
    redness = (picture[..., 0] - picture[..., 1:].mean(axis=-1)) / np.maximum(level, 1.0)
    inside = level[_LIP_ROW + 4 : _LIP_ROW + 22, width // 2 - 40 : width // 2 + 40]
    tooth = (level > 0.62 * np.percentile(inside, 80)) & (redness < 0.30)
    columns = np.arange(width)
    edge = np.zeros(width, np.float32)
    top = np.full(width, float(_LIP_ROW), np.float32)
    for column in columns:
        rows = np.flatnonzero(tooth[: _LIP_ROW + 40, column])
        rows = rows[rows > _LIP_ROW - 18]
        edge[column] = rows.max() if len(rows) > 5 else np.nan
        top[column] = rows.min() if len(rows) > 5 else np.nan
    half = 88
    core = slice(width // 2 - half, width // 2 + half)
    known = np.isfinite(edge[core])
    if known.mean() < 0.85:
        return np.zeros((height, width, 4), np.uint8), 0.0, np.inf
    # One smooth biting edge, and above the lip's edge the teeth go on as they are there.
    x = (columns[core] - width / 2) / half
    bottom = np.polyval(np.polyfit(x[known], edge[core][known], 4), (columns - width / 2) / half)
    upper = (
        np.polyval(np.polyfit(x[known], top[core][known], 4), (columns - width / 2) / half) + 3.0
    )
    heights = np.arange(height, dtype=np.float32)[:, None]
    source = np.maximum(heights, upper[None].astype(np.float32))
    source = np.minimum(source, bottom[None].astype(np.float32) - 1.5).astype(np.float32)
    extended = cv2.remap(
        picture, np.repeat(columns[None].astype(np.float32), height, 0), source, cv2.INTER_LINEAR
    )
    brightness = extended @ LUMA
    usual = np.percentile(brightness[_LIP_ROW + 4 : _LIP_ROW + 20, core], 70)
    white = brightness[..., None] * (TOOTH_LUMA / usual) * USUAL_TOOTH
    rough = float(np.abs(edge[core][known] - bottom[core][known]).mean())
    uneven = float(
        np.abs(white[:, core] - white[:, core][:, ::-1])[_LIP_ROW : _LIP_ROW + 20].mean()
    )
    alpha = np.clip((bottom[None] - heights) / 3.0 + 0.5, 0.0, 1.0) * _ramp(
        (108 - np.abs(columns - width / 2)), 0.0, 26.0
    )
    rgba = np.concatenate([white, 255 * alpha[..., None]], axis=-1)
    middle_edge = float(bottom[width // 2 - 12 : width // 2 + 12].mean())
    return np.clip(rgba + 0.5, 0, 255).astype(np.uint8), middle_edge, uneven + 8 * rough


def cleanest_teeth(smiles: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], float]:
    """The cleanest row of teeth, and the row of its biting edge."""
    cut = [cut_teeth(smile) for smile in smiles]
    best = int(np.argmin([cost for _, _, cost in cut]))
    return cut[best][0], cut[best][1]


def build(source: Path, prepared: Path, every_clip: int) -> InnerMouthBank:
    """Choose the entries of the bank."""
    mouths = list(read_mouths(source / "grid_s1", prepared / "grid.npz", every_clip))
    chosen: list[list[Mouth]] = []
    like: NDArray[np.float32] | None = None
    # From the middle of the grid outwards, each entry like the one before.
    for opening in OPENINGS:
        row = []
        for width in WIDTHS:
            row.append(medoid(mouths, opening, width, like))
        like = row[len(row) // 2].patch.astype(np.float32)
        chosen.append(row)
    skin = np.mean([mouth.skin for row in chosen for mouth in row], axis=0).astype(np.float32)
    patches = np.stack([[grade(mouth.patch, skin) for mouth in row] for row in chosen])
    teeth, edge = cleanest_teeth(read_smiles(source / "portraits", prepared / "portraits.npz"))
    return InnerMouthBank(
        patches,
        np.array(OPENINGS, np.float32),
        np.array(WIDTHS, np.float32),
        teeth,
        float(TEETH_SCALE),
        edge,
    )


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--output", type=Path, default=Path("model/weights/inner_mouths"))
    parser.add_argument("--every-clip", type=int, default=4, help="read one clip of this many")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    bank = build(arguments.source, arguments.prepared, arguments.every_clip)
    bank.save(arguments.output)
    print(f"{bank.patches.shape[0]} x {bank.patches.shape[1]} inner mouths in {arguments.output}")


if __name__ == "__main__":
    main()
