"""Unseen photographs x six mouth shapes, as JPEG sheets for the eye.

    python -m model.evaluation.contact_sheets --clips DATA/grid_s1 --portraits DATA/portraits

Columns: the photograph, its own mouth, then what is drawn for six instants of real speech
(`model.evaluation.mouth_shapes`). The photographs are spread over what the folder has: neutral and
smiling, turned to either side, dark and light, grey and coloured, small and large. A few are shrunk
or made grey besides, and say so.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.data.clips import find_clips, find_portraits, read_clip
from model.errors import InputError
from model.evaluation.evaluate import read_photograph, spread
from model.evaluation.mouth_shapes import MouthShape, find_shapes
from model.evaluation.protocols.motion import still_plan
from model.evaluation.protocols.video import System
from model.face.alignment import crop_affine, crop_image, source_pixels, warp_points
from model.face.detection import FaceDetector, MediaPipeFaceDetector, select_face
from model.face.landmarks import mouth_opening, mouth_width
from model.pipelines.presets import PRESETS
from model.pipelines.talking_face import load_pipeline

Picture = NDArray[np.uint8]

LARGEST_BYTES: Final = 700_000
"""Of one sheet."""
_CELL_PX: Final = 176
_WINDOW: Final = ((0.25, 0.75), (0.45, 0.95))
"""Left and right, top and bottom of what a cell shows of the crop: from the nose to below the chin."""
_TITLE_PX: Final = 16
_ROWS: Final = 8
_SMALL_PX: Final = 124
"""Side of a shrunk photograph's face crop: about the least that is accepted."""
_TREATMENTS: Final = ((3, "small"), (9, "grey"), (14, "small"), (19, "grey"))
"""What is done to the photograph of this number, or the next one that is in colour."""
_COLOURED: Final = 0.03
"""Least saturation of a photograph in colour."""
_SHAPE_CLIPS: Final = 16


@dataclass(frozen=True, eq=False)
class Sitter:
    """A photograph `(H, W, 3)`, uint8 RGB, its face `(68, 2)` in pixels, and what tells it from others."""

    name: str
    image: Picture
    landmarks: NDArray[np.float32]

    @property
    def features(self) -> NDArray[np.float64]:
        """Opening, width of the mouth, turn of the head, lightness, saturation and size `(6,)`."""
        affine = crop_affine(self.landmarks)
        face = warp_points(affine, self.landmarks)
        left, right = face[2, 0], face[14, 0]
        turn = (face[30, 0] - (left + right) / 2) / (right - left)
        crop = crop_image(self.image, affine, 64) / 255
        light = [crop.mean(), np.ptp(crop, axis=2).mean()]
        size = np.log2(source_pixels(affine))
        return np.array([mouth_opening(face), mouth_width(face), turn, *light, size])


def choose(sitters: Sequence[Sitter], count: int) -> list[Sitter]:
    """The most different ones: each is the farthest from those chosen before, the first the most usual.

    Of at least one; `count` at most, in the order of their names.
    """
    features = np.stack([one.features for one in sitters])
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    chosen = [int(np.linalg.norm(features, axis=1).argmin())]
    while len(chosen) < min(count, len(sitters)):
        gaps = np.linalg.norm(features[:, None] - features[chosen][None], axis=-1).min(axis=1)
        chosen.append(int(gaps.argmax()))
    return [sitters[index] for index in sorted(chosen)]


def treat(sitter: Sitter, treatment: str) -> Sitter:
    """The photograph made `small` (a face crop of 124 px) or `grey`; its landmarks follow."""
    name = f"{sitter.name}, made {treatment}"
    if treatment == "grey":
        grey = cv2.cvtColor(sitter.image, cv2.COLOR_RGB2GRAY)
        return Sitter(name, np.repeat(grey[..., None], 3, axis=-1), sitter.landmarks)
    factor = min(1.0, _SMALL_PX / source_pixels(crop_affine(sitter.landmarks)))
    height, width = (max(2, round(side * factor / 2) * 2) for side in sitter.image.shape[:2])
    small = cv2.resize(sitter.image, (width, height), interpolation=cv2.INTER_AREA)
    scale = np.array((width, height), np.float32) / np.array(sitter.image.shape[1::-1], np.float32)
    landmarks = (sitter.landmarks * scale).astype(np.float32)
    return Sitter(name, np.asarray(small, np.uint8), landmarks)


def treat_some(sitters: Sequence[Sitter]) -> list[Sitter]:
    """Two photographs shrunk, two made grey, none of them grey already; as far as there are so many."""
    treated = list(sitters)
    coloured = [number for number, one in enumerate(sitters) if one.features[4] > _COLOURED]
    for first, treatment in _TREATMENTS:
        number = next((number for number in coloured if number >= first), None)
        if number is not None:
            coloured.remove(number)
            treated[number] = treat(sitters[number], treatment)
    return treated


def draw_row(system: System, sitter: Sitter, shapes: Sequence[MouthShape]) -> Picture:
    """Photograph, its own mouth, and every shape: `(C, C * (2 + len(shapes)), 3)`.

    Raises:
        InputError: The photograph shows no face.
    """
    plan = still_plan(system, sitter.image)
    targets = np.stack([shape.on(plan.reference_landmarks) for shape in shapes])
    frames = system.draw(dataclasses.replace(plan, target_landmarks=targets))
    affine = plan.affine(0)
    whole = crop_image(sitter.image, affine, _CELL_PX)
    (left, right), (top, _) = _WINDOW
    size = round(_CELL_PX / (right - left))
    x, y = round(left * size), round(top * size)
    crops = [crop_image(frame, affine, size) for frame in (sitter.image, *frames)]
    return np.concatenate([whole, *(c[y : y + _CELL_PX, x : x + _CELL_PX] for c in crops)], axis=1)


def lay_out(titles: Sequence[str], heads: Sequence[str], rows: Sequence[Picture]) -> Picture:
    """A sheet: `heads` above the columns, each row `(C, C * len(heads), 3)` under its title."""
    width = _CELL_PX * len(heads)
    sheet = Image.new("RGB", (width, _TITLE_PX + len(rows) * (_TITLE_PX + _CELL_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, head in enumerate(heads):
        pen.text((index * _CELL_PX + 4, 2), head, fill="black")
    for index, (title, row) in enumerate(zip(titles, rows, strict=True)):
        top = _TITLE_PX + index * (_TITLE_PX + _CELL_PX)
        pen.text((4, top + 2), title, fill="black")
        sheet.paste(Image.fromarray(row), (0, top + _TITLE_PX))
    return np.asarray(sheet, np.uint8)


def encode_sheet(sheet: Picture, largest_bytes: int = LARGEST_BYTES) -> bytes:
    """JPEG at the best quality from 95 down to 40 that `largest_bytes` allow.

    Raises:
        InputError: The sheet does not fit.
    """
    for quality in range(95, 35, -5):
        file = io.BytesIO()
        Image.fromarray(sheet).save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= largest_bytes:
            return file.getvalue()
    raise InputError(
        f"a sheet of {sheet.shape[1]} x {sheet.shape[0]} px does not fit into {largest_bytes} "
        "bytes; expected fewer rows"
    )


def find_sitters(folder: Path, detector: FaceDetector, names: str = "*") -> list[Sitter]:
    """Photographs of unseen people that show a face and whose file names match `names`, a shell's pattern."""
    sitters = []
    for path in find_portraits(folder):
        if not fnmatch(path.name, names):
            continue
        image = read_photograph(path)
        try:
            face = select_face(detector(image), 0)
        except InputError:
            continue
        sitters.append(Sitter(path.stem, image, face.landmarks))
    if not sitters:
        raise InputError(
            f"{folder} has no photograph {names} that shows a face; expected at least one"
        )
    return sitters


def write_sheets(
    system: System, sitters: Sequence[Sitter], shapes: Sequence[MouthShape], output: Path
) -> Iterator[Path]:
    """Draw everything; eight photographs a sheet, `contact_sheet_<preset>_<n>.jpg`."""
    output.mkdir(parents=True, exist_ok=True)
    heads = ["photograph", "its own mouth", *(shape.name for shape in shapes)]
    for number, first in enumerate(range(0, len(sitters), _ROWS), start=1):
        shown = sitters[first : first + _ROWS]
        rows = [draw_row(system, sitter, shapes) for sitter in shown]
        sheet = lay_out([sitter.name for sitter in shown], heads, rows)
        path = output / f"contact_sheet_{system.preset}_{number}.jpg"
        path.write_bytes(encode_sheet(sheet))
        yield path


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="GRID, with phones")
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument(
        "--names", default="*", help="photographs whose file names match; default: all"
    )
    parser.add_argument("--weights", type=Path, help="default: the checkpoint that ships")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="balanced")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--output", type=Path, default=Path("out/contact_sheets"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    detector = MediaPipeFaceDetector()
    pipeline = load_pipeline(arguments.weights)
    pipeline.detector = detector
    system = System(pipeline.model_name, pipeline, arguments.preset, seed=0)
    sources = spread(find_clips("grid", arguments.clips, every=False), _SHAPE_CLIPS)
    shapes = find_shapes([read_clip(source, detector, 125)[0] for source in sources])
    for shape in shapes:
        print(f"{shape.name}: {shape.clip}, frame {shape.frame}")
    found = find_sitters(arguments.portraits, detector, arguments.names)
    sitters = treat_some(choose(found, arguments.count))
    for path in write_sheets(system, sitters, shapes, arguments.output):
        print(path)


if __name__ == "__main__":
    main()
