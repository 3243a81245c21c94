"""Who pictures are trained on: the clips and photographs of a prepared folder, and the pictures each gives.

clip                    frames spread over its openings
photograph              as it is · moved a little, its own teeth still shown · moved far, others' teeth
two photographs         of one person, with another expression
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data.crops import film_frames, read_picture, spread_frames
from model.data.split import (
    FILMED,
    portrait_held_out,
    portrait_identity,
    trained_on,
)
from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import mouth_opening
from model.face.portrait_engine import PortraitEngine
from model.face.retargeting import retarget

_FOLDERS: Final = {"grid": "grid_s1", "speakers": "grid_speakers"}
_FRAMES: Final = {"grid": 4, "speakers": 24}
"""Pictures of a clip: the one speaker of many clips shall not outweigh all others."""
_NEAR, _FAR = 2, 3
"""Moved pictures of a photograph."""
_OWN_TEETH: Final = 0.03
"""Change of opening up to which a moved photograph shows its own inner mouth."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One clip, one photograph, or two photographs of one person.

    Attributes:
        paths: Its files.
        landmarks: In pixels: `(T, 68, 2)` of a clip, `(68, 2)` of each photograph.
        motions: Faces `(T, 68, 2)`, crop units, after which a photograph is moved.
        held_out: Never trained on.
        frames: Pictures that a clip gives; 0 for photographs.
    """

    paths: tuple[Path, ...]
    landmarks: tuple[NDArray[np.float32], ...]
    motions: tuple[NDArray[np.float32], ...]
    held_out: bool
    frames: int


class FacePicture(NamedTuple):
    """A crop of a face `(S, S, 3)` uint8, its landmarks `(68, 2)` in crop units, and whose teeth it shows.

    `own` is false where the portrait engine put another person's inner mouth into it.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    own: bool = True


@dataclass(frozen=True)
class Photographs:
    """Files, landmarks in pixels `(N, 68, 2)`, who is on them, and whether that person is held out."""

    paths: list[Path]
    landmarks: NDArray[np.float32]
    people: list[str]
    held_out: list[bool]


def portrait_identities(source: Path) -> dict[str, str]:
    """File name -> identity, from `portraits/index.csv`."""
    with (source / "portraits" / "index.csv").open() as file:
        return {row["file"]: portrait_identity(row) for row in csv.DictReader(file)}


def read_photographs(source: Path, prepared: Path) -> Photographs:
    """The photographs of `portraits.npz`; `source` was prepared into `prepared`."""
    identities = portrait_identities(source)
    with np.load(prepared / "portraits.npz") as data:
        files, landmarks = [str(name) for name in data["names"]], data["landmarks"]
    people = [identities[name] for name in files]
    paths = [source / "portraits" / name for name in files]
    return Photographs(paths, landmarks, people, [portrait_held_out(x) for x in people])


def _with_large(photographs: Photographs, source: Path, prepared: Path) -> Photographs:
    """The larger photographs of `portraits_hd.npz`, where there are any, in place of the same people's."""
    path = prepared / "portraits_hd.npz"
    if not path.exists():
        return photographs
    with np.load(path) as data:
        files, landmarks = [str(name) for name in data["names"]], data["landmarks"]
    people = [f"congress225-{name.split('_')[0]}" for name in files]
    rest = [i for i, person in enumerate(photographs.people) if person not in set(people)]
    return Photographs(
        [source / "portraits_hd" / name for name in files] + [photographs.paths[i] for i in rest],
        np.concatenate([landmarks, photographs.landmarks[rest]]),
        people + [photographs.people[i] for i in rest],
        [portrait_held_out(x) for x in people] + [photographs.held_out[i] for i in rest],
    )


def _clips(source: Path, prepared: Path) -> Iterator[Subject]:
    """All that may be trained on, and held-out sentences and the speakers who choose."""
    for name in reversed(FILMED):  # many people first
        path = prepared / f"{name}.npz"
        if not path.exists():
            continue
        with np.load(path) as data:
            films = {key: data[key] for key in data.files if key not in ("log_mel", "phones")}
        seen = trained_on(name, films)
        unseen = films.get("held_out", np.zeros(len(seen), bool))
        for clip, faces, trained, final in zip(
            films["names"], films["landmarks"], seen, unseen, strict=True
        ):
            if not final:
                film = source / _FOLDERS[name] / str(clip)
                yield Subject((film,), (faces,), (), not trained, _FRAMES[name])


def list_subjects(source: Path, prepared: Path, limit: int | None = None) -> Iterator[Subject]:
    """Clips, photographs, and two photographs of one person in either order; of each kind the first `limit`."""
    clips = list(_clips(source, prepared))
    yield from islice(clips, limit)
    motions = [
        np.stack([warp_points(crop_affine(face), face) for face in clip.landmarks[0][::3]])
        for clip in [clip for clip in clips if not clip.held_out][::5]
    ]
    rng = np.random.default_rng(0)
    photographs = _with_large(read_photographs(source, prepared), source, prepared)
    people: dict[str, list[Subject]] = defaultdict(list)
    rows = zip(*(vars(photographs).values()), strict=True)
    for path, face, person, held_out in islice(rows, limit):
        chosen = tuple(motions[i] for i in rng.choice(len(motions), 3))
        subject = Subject((path,), (face,), chosen, held_out, 0)
        people[person].append(subject)
        yield subject
    for pictures in people.values():
        for one, other in permutations(pictures, 2):
            both = (one.paths + other.paths, one.landmarks + other.landmarks)
            yield Subject(*both, (), one.held_out, 0)


def subject_pictures(
    subject: Subject, size: int, rng: np.random.Generator, inner_mouths: InnerMouthBank
) -> list[FacePicture]:
    """Pictures of a subject with `size` pixels a side; of photographs, those as they are come first."""
    if subject.frames:
        return _clip_pictures(subject, size, rng)
    pictures = []
    for path, landmarks in zip(subject.paths, subject.landmarks, strict=True):
        affine = crop_affine(landmarks)
        crop = crop_image(read_picture(path), affine, size)
        pictures.append(FacePicture(crop, warp_points(affine, landmarks)))
    if not subject.motions:
        return pictures
    return [*pictures, *_moved_pictures(pictures[0], subject.motions, rng, inner_mouths)]


def _clip_pictures(subject: Subject, size: int, rng: np.random.Generator) -> list[FacePicture]:
    landmarks = subject.landmarks[0]
    wanted = set(spread_frames(landmarks, subject.frames, rng))
    pictures = []
    for index, (image, face) in enumerate(
        zip(film_frames(subject.paths[0]), landmarks, strict=False)
    ):
        if index in wanted:
            affine = crop_affine(face)
            pictures.append(FacePicture(crop_image(image, affine, size), warp_points(affine, face)))
    return pictures


def _moved_pictures(
    photograph: FacePicture,
    motions: tuple[NDArray[np.float32], ...],
    rng: np.random.Generator,
    inner_mouths: InnerMouthBank,
) -> Iterator[FacePicture]:
    """`_NEAR` pictures with about the photograph's opening, then `_FAR` others, one of them shut."""
    engine = PortraitEngine(photograph.image, photograph.landmarks, inner_mouths)
    own = float(mouth_opening(photograph.landmarks))
    for index in range(_NEAR + _FAR):
        motion = motions[index % len(motions)]
        faces = retarget(photograph.landmarks, motion, float(rng.uniform(0.85, 1.25)))
        openings = mouth_opening(faces)
        if index < _NEAR:
            wanted = own + rng.uniform(-_OWN_TEETH, _OWN_TEETH)
            face = faces[int(np.abs(openings - wanted).argmin())]
        elif index == _NEAR:
            face = faces[int(openings.argmin())]
        else:
            face = faces[spread_frames(faces, 1, rng)[0]]
        change = abs(float(mouth_opening(face)) - own)
        yield FacePicture(engine.render(face, inner="bank"), face, change <= _OWN_TEETH)
