from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.data.clips import Clip
from model.data.phones import PHONES
from model.errors import InputError
from model.evaluation.contact_sheets import (
    Sitter,
    choose,
    draw_row,
    encode_sheet,
    find_sitters,
    lay_out,
    treat,
    treat_some,
)
from model.evaluation.mouth_shapes import MouthShape, find_shapes
from model.evaluation.protocols.video import System
from model.face.alignment import crop_affine, source_pixels
from model.face.average_face import AVERAGE_FACE
from model.face.detection import MediaPipeFaceDetector
from model.face.landmarks import mouth_opening, mouth_width
from model.pipelines.talking_face import load_pipeline

ROOT = Path(__file__).resolve().parents[3]
LOWER = [55, 56, 57, 58, 59, 65, 66, 67]
SPOKEN = ("SIL", "B", "AA", "EH", "UW", "IY", "F", "SIL")
PER_SOUND = 4


def faces_of(opening: dict[str, float], width: dict[str, float]) -> NDArray[np.float32]:
    """Four frames a sound of an average face of 200 px; in the third the mouth is at its strongest."""
    shut = AVERAGE_FACE * np.float32(200)
    shut[LOWER, 1] -= (shut[[65, 66, 67], 1] - shut[[63, 62, 61], 1]).mean()
    faces = []
    for sound in SPOKEN:
        for strength in (0.2, 0.6, 1.0, 0.6):
            face = shut.copy()
            face[LOWER, 1] += 30 * strength * opening.get(sound, 0.0)
            middle = face[48:68, 0].mean()
            face[48:68, 0] = middle + (face[48:68, 0] - middle) * (
                1 + strength * (width.get(sound, 1.0) - 1)
            )
            faces.append(face)
    return np.stack(faces).astype(np.float32)


@pytest.fixture(scope="module")
def clip() -> Clip:
    opening = {"AA": 1.0, "EH": 0.5, "UW": 0.3, "IY": 0.3, "F": 0.02}
    faces = faces_of(opening, {"UW": 0.7, "IY": 1.2})
    labels = np.repeat([PHONES.index(sound) for sound in SPOKEN], 4 * PER_SOUND).astype(np.uint8)
    count = len(faces)
    return Clip("clip", faces, np.ones(count, bool), np.zeros(640 * count, np.float32), labels)


def sound_at(shape: MouthShape) -> str:
    return SPOKEN[shape.frame // PER_SOUND]


def test_every_shape_comes_from_its_own_sound(clip: Clip) -> None:
    shapes = {shape.name: shape for shape in find_shapes([clip])}
    assert {name: sound_at(shape) for name, shape in shapes.items()} == {
        "shut": "B", "half": "EH", "wide": "AA", "spread": "IY", "round": "UW", "teeth": "F",
    }  # fmt: skip
    drawn = {name: shape.on(AVERAGE_FACE) for name, shape in shapes.items()}
    openings = {name: float(mouth_opening(face)) for name, face in drawn.items()}
    assert openings["shut"] <= openings["teeth"] < openings["half"] < openings["wide"]
    assert mouth_width(drawn["round"]) < mouth_width(drawn["shut"]) < mouth_width(drawn["spread"])


def test_clips_without_phones_or_without_a_sound_are_refused(clip: Clip) -> None:
    silent = Clip("silent", clip.landmarks, clip.found, clip.waveform, None)
    with pytest.raises(InputError, match="phones"):
        find_shapes([silent])
    only = np.zeros(4 * clip.num_frames, np.uint8)
    with pytest.raises(InputError, match="B or P or M"):
        find_shapes([Clip("hush", clip.landmarks, clip.found, clip.waveform, only)])


@pytest.fixture(scope="module")
def photograph() -> Sitter:
    (sitter,) = find_sitters(ROOT / "examples", MediaPipeFaceDetector())
    return sitter


def flat(name: str, grey: int, size: int) -> Sitter:
    face = AVERAGE_FACE * np.float32(size)
    return Sitter(name, np.full((size, size, 3), grey, np.uint8), face)


def test_the_most_different_are_chosen_in_order() -> None:
    alike = [flat(f"b{number}", 120 + number, 200) for number in range(5)]
    odd = [flat("a dark one", 10, 200), flat("c small one", 122, 50)]
    names = [sitter.name for sitter in choose([*alike, *odd], 3)]
    assert "a dark one" in names and "c small one" in names
    assert names == [sitter.name for sitter in choose([*alike, *odd], 3)]
    assert len(choose(alike, 24)) == 5


def test_photographs_are_shrunk_and_made_grey(photograph: Sitter) -> None:
    small = treat(photograph, "small")
    assert source_pixels(crop_affine(small.landmarks)) == pytest.approx(124, abs=2)
    assert all(side % 2 == 0 for side in small.image.shape[:2])
    grey = treat(photograph, "grey")
    assert (np.ptp(grey.image, axis=2) == 0).all() and grey.name.endswith("made grey")
    assert (np.ptp(photograph.image, axis=2) > 0).any()


def test_what_is_grey_already_is_not_made_grey(photograph: Sitter) -> None:
    sitters = [photograph] * 24
    sitters[9] = treat(photograph, "grey")
    names = [sitter.name for sitter in treat_some(sitters)]
    made = {number: name.split("made ")[1] for number, name in enumerate(names) if "made" in name}
    assert made == {3: "small", 9: "grey", 10: "grey", 14: "small", 19: "grey"}
    assert treat_some(sitters[:2]) == sitters[:2]


def test_a_row_shows_the_photograph_and_every_shape(photograph: Sitter, clip: Clip) -> None:
    pipeline = load_pipeline(device="cpu")
    pipeline.detector = MediaPipeFaceDetector()
    shapes = find_shapes([clip])
    row = draw_row(System("ours", pipeline, "preview", 0), photograph, shapes)
    side = row.shape[0]
    assert row.shape == (side, 8 * side, 3)
    cells = {
        name: row[:, (2 + number) * side : (3 + number) * side].astype(int)
        for number, name in enumerate(shape.name for shape in shapes)
    }
    own = row[:, side : 2 * side].astype(int)
    assert np.abs(cells["wide"] - own).mean() > np.abs(cells["shut"] - own).mean()
    sheet = lay_out(["nobody"], ["photograph", "own", *cells], [row])
    assert sheet.shape[1] == 8 * side and np.array_equal(sheet[-side:], row)


def test_a_sheet_fits_or_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    roomy, tight = encode_sheet(noise), encode_sheet(noise, 60_000)
    assert len(tight) <= 60_000 < len(roomy)
    with Image.open(io.BytesIO(tight)) as file:
        assert (file.format, file.size) == ("JPEG", (300, 200))
    with pytest.raises(InputError, match="fewer rows"):
        encode_sheet(noise, 1000)
