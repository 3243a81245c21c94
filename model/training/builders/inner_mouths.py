"""Build the bank of inner mouths from video clips and smiling photographs with known landmarks.

    python -m model.training.builders.inner_mouths source=DATA prepared=data/prepared

Every open mouth of the clips is rectified (model/face/inner_mouth.py) and put into its cell of
opening x width. A cell's entry is its medoid: the real mouth that is most like all the others
there, sharp, and alike from cell to cell. The upper teeth come from one studio photograph of a
smile. Held-out clips and people are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.data.crops import film_frames, read_picture
from model.data.split import clip_held_out
from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.inner_mouth import TOOTH_LUMA, InnerMouthBank, LipCurves, inner_opening
from model.face.mouth_light import LUMA, USUAL_TOOTH
from model.face.thin_plate import smoothstep
from model.training.config import run_program

OPENINGS: Final = (0.05, 0.09, 0.13, 0.17, 0.21, 0.25, 0.30, 0.36)
WIDTHS: Final = (0.90, 1.0, 1.08)
PATCH_PX: Final = (36, 80)
"""Height and width of an entry."""
_CROP_PX: Final = 512

UPPER_TEETH: Final = "frl_smiling_front_120_08.jpg"
"""The studio photograph whose upper teeth hang in every mouth that does not show its own.

Chosen by eye among 39 smiles: whole crowns under a high lip, an even row, its edges free.
"""
TEETH_PX: Final = (80, 240)
TEETH_SCALE: Final = 1024
"""Height and width of the picture of the upper teeth, and its pixels per crop unit."""
_LOWER_TOOTH_SHARE: Final = 0.55
"""How much of a tooth's colour the lower teeth keep; the rest is the tongue's."""
_LIP_ROW: Final = 28
_FRONT_TEETH: Final = (slice(40, 64), slice(88, 150))
"""Rows and columns of the two front teeth in that picture."""
_BITING_EDGE: Final = (
    *((20.0, 37.0), (28.0, 44.0), (32.0, 47.0), (37.0, 49.0), (41.0, 48.5), (42.7, 47.5)),
    *((45.5, 52.0), (51.0, 57.0), (55.0, 59.0), (58.0, 56.0), (60.3, 51.0), (64.0, 55.5)),
    *((68.0, 60.0), (74.0, 62.0), (80.5, 61.0), (84.0, 59.0), (86.0, 62.5), (89.0, 66.0)),
    *((94.0, 69.5), (103.0, 70.6), (113.0, 70.3), (118.0, 69.0), (119.6, 67.5), (121.2, 69.0)),
    *((127.0, 70.6), (137.0, 70.6), (146.0, 69.0), (152.0, 66.0), (154.5, 62.5), (155.8, 59.0)),
    *((157.5, 59.5), (160.5, 60.0), (165.0, 59.0), (170.0, 55.5), (173.5, 49.5), (176.6, 52.0)),
    *((181.0, 55.0), (184.5, 54.8), (189.0, 52.0), (192.6, 45.5), (195.5, 47.0), (200.0, 48.5)),
    *((204.5, 46.0), (208.5, 39.5), (213.0, 38.0), (220.0, 32.0)),
)
_GUM_EDGE: Final = (
    *((0.0, 24.0), (68.0, 25.0), (96.0, 27.5), (120.0, 31.0), (137.0, 30.0), (150.0, 28.0)),
    *((171.0, 25.0), (199.0, 22.0), (221.0, 19.0)),
)
"""Lower edge of the teeth and of the lip above them, traced by hand: (column, row) in the picture."""


def _hue(red: float, green: float, blue: float) -> NDArray[np.float32]:
    """Colour of brightness 1."""
    colour = np.array((red, green, blue), np.float32)
    return np.asarray(colour / float(colour @ LUMA), np.float32)


_SKIN_HUE: Final = _hue(1.0, 0.78, 0.66)
_LOWER_TOOTH_HUE: Final = _hue(1.0, 0.77, 0.68)
_FLESH_HUE: Final = _hue(1.0, 0.45, 0.42)
_GUM_HUE: Final = _hue(1.0, 0.62, 0.60)
"""Skin, teeth in the shadow of the mouth, its flesh, and gums, in white light."""


@dataclass(frozen=True)
class Mouth:
    """A rectified mouth: `patch` `(h, w, 3)` uint8 RGB, its form, the skin's mean RGB `(3,)`."""

    patch: NDArray[np.uint8]
    opening: float
    width: float
    skin: NDArray[np.float32]


def rectify(crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch the inner mouth of a crop `(S, S, 3)` uint8 RGB to a rectangle `(h, w, 3)` of `PATCH_PX`.

    A hair is left out at the lips (`landmarks` `(68, 2)`, crop units), so that no lip shows in it.
    """
    height, width = PATCH_PX
    lips = LipCurves.from_landmarks(landmarks)
    x = lips.left + (np.arange(width) + 0.5) / width * lips.width
    top, bottom = lips.evaluate(x)
    v = ((np.arange(height) + 0.5) / height)[:, None]
    inset = np.minimum(0.004, 0.12 * (bottom - top))
    y = top + inset + v * (bottom - top - 2 * inset)
    size = crop.shape[0]
    columns, rows = (
        np.ascontiguousarray(np.broadcast_to(place * size - 0.5, y.shape), np.float32)
        for place in (x, y)
    )
    return np.asarray(cv2.remap(crop, columns, rows, cv2.INTER_AREA), np.uint8)


def read_mouths(clips: Path, landmarks_file: Path, every_clip: int) -> Iterator[Mouth]:
    """Rectify the open mouths of the clips."""
    archive = np.load(landmarks_file)
    trained = np.array([not clip_held_out(str(name)) for name in archive["names"]])
    names = archive["names"][trained][::every_clip]
    tracks = archive["landmarks"][trained][::every_clip]
    cropped = np.stack([[warp_points(crop_affine(f), f) for f in track] for track in tracks])
    inner_width = cropped[:, :, 64, 0] - cropped[:, :, 60, 0]
    usual = float(np.median(inner_width))
    openings = inner_opening(cropped)
    for clip, name in enumerate(tqdm(names, desc="clips", mininterval=5)):
        pictures = film_frames(clips / str(name))
        for frame, (picture, face) in enumerate(zip(pictures, tracks[clip], strict=False)):
            if openings[clip, frame] < 0.03:
                continue
            crop = crop_image(picture, crop_affine(face), _CROP_PX)
            points = cropped[clip, frame]
            cheeks = (points[[3, 13]] + points[[48, 54]]) / 2 * _CROP_PX
            patches = [crop[y - 6 : y + 7, x - 6 : x + 7] for x, y in cheeks.astype(int)]
            skin = np.mean([patch.mean((0, 1)) for patch in patches], axis=0).astype(np.float32)
            width = float(inner_width[clip, frame]) / usual
            yield Mouth(rectify(crop, points), float(openings[clip, frame]), width, skin)


def medoid(
    mouths: list[Mouth], opening: float, width: float, like: NDArray[np.float32] | None
) -> Mouth:
    """Of the mouths nearest to a form, the one most like the others and the entry beside it."""
    form = np.array([((m.opening - opening) / 0.02, (m.width - width) / 0.03) for m in mouths])
    near = np.argsort((form**2).sum(axis=1))[:80]
    patches = np.stack([mouths[i].patch for i in near]).astype(np.float32)
    small = np.stack([cv2.resize(p, (20, 9), interpolation=cv2.INTER_AREA) for p in patches])
    cost = np.abs(small - np.median(small, axis=0)).mean(axis=(1, 2, 3))
    # The upper teeth are a picture of their own and hang before the entry: leave its top dark.
    cost += 0.6 * small[:, :5].mean(axis=(1, 2, 3))
    if like is not None:
        beside = cv2.resize(like, (20, 9), interpolation=cv2.INTER_AREA)
        cost += np.abs(small - beside).mean(axis=(1, 2, 3))
    sharpness = np.array([cv2.Laplacian(p.mean(axis=2), cv2.CV_32F).std() for p in patches])
    cost -= 0.25 * sharpness
    return mouths[near[int(np.argmin(cost))]]


def grade(patch: NDArray[np.uint8], skin: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Give an entry `(h, w, 3)` uint8 RGB the colours of a mouth in white light.

    The clips' light is balanced by the mean RGB of the skin around it `(3,)`. Lower teeth stay dim, as
    they are in the mouth's own shadow - the clips' speaker shows his much - and everything else becomes
    a dark red, darker towards the corners, where the clips show lip, and towards the upper lip.
    """
    picture = patch.astype(np.float32) * (_SKIN_HUE / (skin / float(skin @ LUMA)))
    brightness = picture @ LUMA
    redness = (picture[..., 0] - picture[..., 1:].mean(axis=-1)) / np.maximum(brightness, 1.0)
    bright, pale = (brightness / float(skin @ LUMA) - 0.30) / 0.20, (0.75 - redness) / 0.35
    tooth = smoothstep(bright) * smoothstep(pale)
    tooth = cv2.GaussianBlur(tooth.astype(np.float32), (0, 0), 1.5)[..., None]
    level = brightness[..., None]
    white = 0.62 * level * _LOWER_TOOTH_HUE
    flesh = 0.58 * level * _FLESH_HUE
    graded = flesh + _LOWER_TOOTH_SHARE * tooth * (white - flesh)
    v, u = ((np.arange(side, dtype=np.float32) + 0.5) / side for side in patch.shape[:2])
    corner = 0.5 + 0.5 * smoothstep(np.minimum(u, 1 - u) / 0.30)
    depth = 0.45 + 0.55 * smoothstep((v - 0.1) / 0.7)  # the upper teeth and lip shade what is above
    graded *= (corner[None] * depth[:, None])[..., None]
    return np.clip(graded + 0.5, 0, 255).astype(np.uint8)


def cut_teeth(
    photograph: NDArray[np.uint8], landmarks: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], float]:
    """Take the upper teeth out of the chosen smile, a photograph `(H, W, 3)` uint8 RGB with landmarks in its pixels.

    Returns:
        `(h, w, 4)` uint8 RGBA in white light, `TEETH_PX`; row of the front teeth's biting edge.
    """
    height, width = TEETH_PX
    affine = crop_affine(landmarks)
    points = warp_points(affine, landmarks)
    crop = crop_image(photograph, affine, TEETH_SCALE)
    left = int((points[62, 0] + points[66, 0]) / 2 * TEETH_SCALE) - width // 2
    top = int(points[62, 1] * TEETH_SCALE) - _LIP_ROW
    picture = crop[top : top + height, left : left + width].astype(np.float32)

    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    edge = np.interp(columns, *np.array(_BITING_EDGE, np.float32).T).astype(np.float32)
    # Half as deep between the teeth: a few pixels high, a real edge looks torn.
    edge = (edge + cv2.GaussianBlur(edge[None], (0, 0), 10.0)[0]) / 2
    lip = np.interp(columns, *np.array(_GUM_EDGE, np.float32).T)
    # Under the lip the gums go on as they are at its edge; what lies below the teeth is not seen.
    source = np.clip(rows, lip.astype(np.float32), edge - 2.5)
    shown = cv2.remap(
        picture, np.repeat(columns[None], height, 0), source.astype(np.float32), cv2.INTER_LINEAR
    )
    gum = smoothstep(((lip - rows) / 10.0).astype(np.float32))[..., None]
    front = picture[_FRONT_TEETH].reshape(-1, 3).mean(axis=0)
    white = shown * (TOOTH_LUMA * USUAL_TOOTH / front)
    white += gum * (0.45 * TOOTH_LUMA * _GUM_HUE - white)

    alpha = smoothstep((edge - rows + 1.2) / 2.4)
    alpha *= smoothstep(np.minimum(columns - 20.0, 222.0 - columns) / 16.0)
    rgba = np.concatenate([white, 255 * alpha[..., None]], axis=-1)
    return np.clip(rgba + 0.5, 0, 255).astype(np.uint8), float(edge[100:140].max())


def read_teeth(folder: Path, landmarks_file: Path) -> tuple[NDArray[np.uint8], float]:
    """The upper teeth of `UPPER_TEETH`, and the row of their biting edge.

    Raises:
        SystemExit: The photograph is not there or was not prepared.
    """
    archive = np.load(landmarks_file)
    found = np.flatnonzero(archive["names"] == UPPER_TEETH)
    if not (folder / UPPER_TEETH).exists() or not len(found):
        raise SystemExit(f"the upper teeth come from {folder / UPPER_TEETH}, which is missing")
    return cut_teeth(read_picture(folder / UPPER_TEETH), archive["landmarks"][found[0]])


def build(source: Path, prepared: Path, every_clip: int) -> InnerMouthBank:
    """Choose the entries of the bank."""
    mouths = list(read_mouths(source / "grid_s1", prepared / "grid.npz", every_clip))
    chosen: list[list[Mouth]] = []
    like: NDArray[np.float32] | None = None
    # From the middle of the grid outwards, each entry like the one before.
    for opening in OPENINGS:
        row = [medoid(mouths, opening, width, like) for width in WIDTHS]
        like = row[len(row) // 2].patch.astype(np.float32)
        chosen.append(row)
    skin = np.mean([mouth.skin for row in chosen for mouth in row], axis=0).astype(np.float32)
    patches = np.stack([[grade(mouth.patch, skin) for mouth in row] for row in chosen])
    teeth, edge = read_teeth(source / "portraits", prepared / "portraits.npz")
    openings, widths = np.array(OPENINGS, np.float32), np.array(WIDTHS, np.float32)
    return InnerMouthBank(patches, openings, widths, teeth, float(TEETH_SCALE), edge)


@dataclass(frozen=True)
class InnerMouthsConfig:
    """The bank of inner mouths, which goes to `output`, of one clip in `every_clip`.

    `source` was prepared into `prepared`, where `grid.npz` and `portraits.npz` are.
    """

    source: Path
    prepared: Path = Path("data/prepared")
    output: Path = SHIPPED / INNER_MOUTHS
    every_clip: int = 4


def main(config: InnerMouthsConfig) -> None:
    """Build and save the bank."""
    cv2.setNumThreads(1)
    bank = build(config.source, config.prepared, config.every_clip)
    bank.save(config.output)
    print(f"{bank.patches.shape[0]} x {bank.patches.shape[1]} inner mouths in {config.output}")


if __name__ == "__main__":
    run_program(InnerMouthsConfig, main, __doc__)
