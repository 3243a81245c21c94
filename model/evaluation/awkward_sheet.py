"""Forty awkward pictures, each with what becomes of it: a sheet for the eye, and the light of the mouths in figures.

    python -m model.evaluation.awkward_sheet --portraits DATA/portraits_hd --out out/awkward

A cell shows the picture beside the frame whose mouth is widest open, or beside the error code. The people have
not agreed to say anything: the sheet is not for publication.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.data.clips import read_voice
from model.errors import InputError
from model.evaluation import awkward_pictures as edits
from model.evaluation.awkward_light import measure_light
from model.face.alignment import invert_affine, warp_points
from model.face.detection import select_face
from model.face.landmarks import mouth_opening
from model.face.small_faces import find_faces
from model.media.audio import FPS
from model.media.contact_sheet import write_contact_sheet
from model.pipelines.options import RenderOptions
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]

_CELL_PX: Final = 224
_COLUMNS: Final = 6
_HEARD_S: Final = 1.2
_LIGHT: Final = "light"


@dataclass(frozen=True)
class AwkwardPicture:
    """One picture `(H, W, 3)` uint8 RGB, by kind and name."""

    kind: str
    name: str
    image: Picture


def awkward_pictures(portraits: list[Picture], faces: list[Points]) -> Iterator[AwkwardPicture]:
    """The forty, made of portraits and of scikit-image's pictures.

    Args:
        portraits: `(H, W, 3)` uint8 RGB; at least four.
        faces: Theirs `(68, 2)`, pixels.
    """
    rng = np.random.default_rng(7)
    turn = iter(range(10**6))

    def next_one() -> tuple[Picture, Points]:
        number = next(turn) % len(portraits)
        return portraits[number], faces[number]

    for degrees in (15, 25, 35, 50, 65, 78):
        image, face = next_one()
        yield AwkwardPicture("turned", f"{degrees} degrees", edits.turned(image, face, degrees))
    for degrees in (45, 115, 180):
        yield AwkwardPicture("rolled", f"{degrees} degrees", _rolled(next_one()[0], degrees))
    for kind, table in (
        ("covered", edits.COVERS | edits.UNSEEN_COVERS),
        ("drawn", edits.DRAWINGS),
        ("drawn", edits.DRAWINGS),
        (_LIGHT, edits.LIGHTS),
    ):
        for name, edit in table.items():
            image, face = next_one()
            yield AwkwardPicture(kind, name, edit(image, face, rng))
    for name in ("dark", "tinted", "black_and_white"):
        image, face = next_one()
        yield AwkwardPicture(_LIGHT, f"{name} again", edits.LIGHTS[name](image, face, rng))
    image, face = next_one()
    yield AwkwardPicture("worn", "dark glasses", _dark_glasses(image, face))
    image, face = next_one()
    scale = 72 / float(np.ptp(face, axis=0).max())
    old = edits.black_and_white(image, face, rng)
    small = cv2.resize(old, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    yield AwkwardPicture("small", "old, face of 72 px", np.asarray(small, np.uint8))
    blurred = cv2.GaussianBlur(next_one()[0], (0, 0), 6)
    yield AwkwardPicture("soft", "out of focus", np.asarray(blurred, np.uint8))
    squares = [cv2.resize(next_one()[0], (360, 440)) for _ in range(6)]
    group = np.vstack([np.hstack(squares[:3]), np.hstack(squares[3:])])
    yield AwkwardPicture("group", "six people", np.asarray(group, np.uint8))
    yield AwkwardPicture("other", "astronaut", skimage.data.astronaut())
    yield AwkwardPicture("other", "a cat", skimage.data.chelsea())
    camera = np.repeat(skimage.data.camera()[..., None], 3, axis=2)
    yield AwkwardPicture(
        "other", "cameraman, aside", camera[60:320, 120:400].repeat(2, 0).repeat(2, 1)
    )


def draw(
    pipeline: TalkingFacePipeline, picture: Picture, waveform: NDArray[np.float32], preset: str
) -> tuple[Picture, Points, Points]:
    """The frame `(H, W, 3)` whose mouth is widest open, its face and the picture's own `(68, 2)`, pixels.

    Raises:
        InputError: The picture is refused.
    """
    options = RenderOptions(preset=preset, motion="still")
    plan = pipeline.prepare(picture, waveform, options)
    number = int(np.argmax(mouth_opening(plan.target_landmarks)))
    frame = np.concatenate(list(pipeline.render(plan, number, number + 1)))[0]
    back = invert_affine(plan.affine(0))
    return (
        frame,
        warp_points(back, plan.target_landmarks[number]),
        warp_points(back, plan.reference_landmarks),
    )


def main() -> None:
    """Make the sheet and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--portraits", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--speech", type=Path, default=Path("examples/speech.wav"))
    parser.add_argument("--preset", default="preview")
    parser.add_argument("--kinds", nargs="*", help="only these kinds")
    parser.add_argument("--out", type=Path, default=Path("out/awkward"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(device="cpu")
    pipeline.warm_up()
    detector = pipeline.detector
    assert detector is not None
    waveform = read_voice(arguments.speech, round(_HEARD_S * FPS))
    paths = sorted(arguments.portraits.glob("*.jpg"))[:: max(1, 79 // 12)][:12]
    portraits = [np.asarray(Image.open(path).convert("RGB"), np.uint8) for path in paths]
    faces = [select_face(find_faces(detector, image)).landmarks for image in portraits]

    cells, rows = [], []
    for one in awkward_pictures(portraits, faces):
        if arguments.kinds and one.kind not in arguments.kinds:
            continue
        image = one.image[: one.image.shape[0] // 2 * 2, : one.image.shape[1] // 2 * 2]
        image = np.ascontiguousarray(image)
        row: dict[str, object] = {"kind": one.kind, "name": one.name}
        try:
            frame, target, own = draw(pipeline, image, waveform, arguments.preset)
        except InputError as error:
            row["refused"] = type(error).__name__
            pair = [_shown(image, None), _said(type(error).__name__)]
        else:
            row["light"] = measure_light(frame, target, image, own)
            pair = [_shown(image, own), _shown(frame, own)]
            Image.fromarray(frame).save(arguments.out / f"{one.kind}_{one.name}.png")
        cells.append(_titled(np.hstack(pair), f"{one.kind}: {one.name}"))
        rows.append(row)
        print(json.dumps(row), flush=True)
    write_contact_sheet(cells, arguments.out / f"sheet_{arguments.preset}.png", _COLUMNS)
    (arguments.out / f"figures_{arguments.preset}.json").write_text(json.dumps(rows, indent=1))


def _rolled(image: Picture, degrees: float) -> Picture:
    """The picture turned against the clock, with all of it in sight."""
    turned = Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    return np.asarray(turned, np.uint8)


def _dark_glasses(image: Picture, face: Points) -> Picture:
    out = image.copy()
    for eye in (face[36:42], face[42:48]):
        middle, width = eye.mean(axis=0), float(np.ptp(eye[:, 0]))
        centre = (round(float(middle[0])), round(float(middle[1] + 0.1 * width)))
        cv2.ellipse(
            out, centre, (round(0.95 * width), round(0.7 * width)), 0, 0, 360, (18, 18, 20), -1
        )
    ends = [(round(float(x)), round(float(y))) for x, y in (face[0], face[27], face[16])]
    for first, second in itertools.pairwise(ends):
        cv2.line(out, first, second, (18, 18, 20), max(2, image.shape[0] // 150))
    return out


def _shown(image: Picture, face: Points | None) -> Picture:
    """Head of a face, or the whole picture `(C, C, 3)`."""
    if face is not None:
        middle, half = face.mean(axis=0), 0.85 * float(np.ptp(face, axis=0).max())
        x0, y0, x1, y1 = (
            int(v) for v in (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
        )
        height, width = image.shape[:2]
        image = image[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    return np.asarray(
        cv2.resize(image, (_CELL_PX, _CELL_PX), interpolation=cv2.INTER_AREA), np.uint8
    )


def _said(text: str) -> Picture:
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), "white")
    ImageDraw.Draw(cell).text((8, _CELL_PX // 2), f"refused:\n{text}", fill="black")
    return np.asarray(cell, np.uint8)


def _titled(cell: Picture, title: str) -> Picture:
    out = Image.new("RGB", (cell.shape[1], cell.shape[0] + 16), "white")
    out.paste(Image.fromarray(cell), (0, 16))
    ImageDraw.Draw(out).text((4, 2), title, fill="black")
    return np.asarray(out, np.uint8)


if __name__ == "__main__":
    main()
