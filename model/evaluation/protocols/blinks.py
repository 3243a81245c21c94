"""Blinks: is there white between shut lids, do the brows stay, do the pixels away from the eyes?

Photographs with lids that slide and with lids that are squashed together as they were up to 0.2.1,
beside blinks in real films. The half `choosing` are people whom training has seen: all constants are
chosen on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from model.data.clips import find_portraits
from model.data.crops import read_picture
from model.data.tracks import face_detector
from model.evaluation.metrics.lids import (
    brow_motion,
    changed_away,
    eye_distance,
    eye_opening,
    white_share,
)
from model.evaluation.options import Half
from model.evaluation.protocols.heads import evenly
from model.face.eyelids import Eyelids
from model.media.video_reader import read_frames

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]

TITLES: Final = {
    "white": "pixels where the eyes were whiter than the skin around them, share, mean",
    "white_worst": "the same, worst",
    "white_held": "blinks with at most 1 %, share",
    "brows": "way of the brows / eye distance, mean",
    "brows_worst": "the same, worst",
    "away": "pixels away from the eyes that change, worst",
    "blinks": "faces whose eyes close (films: blinks)",
    "faces": "faces",
}
FILMS: Final = ("films", "cremad_1001", "grid_speakers")
"""Folders of real blinks."""
_CLOSURES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_TILE_PX: Final = (360, 150)
_SHUT: Final = 0.5
"""A blink of a film is where the eyes open less than this share of its median."""
_BEFORE: Final = 6
"""Frames before a blink's middle at which they are open."""


def read_faces(paths: list[Path]) -> Iterator[tuple[Picture, Points]]:
    """Pictures `(H, W, 3)` and largest faces `(68, 2)`; pictures without a face are left out."""
    for path in paths:
        picture = read_picture(path)
        faces = face_detector()(picture)
        if faces:
            yield picture, faces[0].landmarks


def measure_blinks(
    source: Path, half: Half, limit: int | None = None
) -> tuple[dict[str, dict[str, float]], list[Picture]]:
    """Open eyes, squashed and sliding lids, and blinks of real films.

    Args:
        source: Folder with `portraits/`, and films in `FILMS`.
        half: Of the photographs; `final` are those of people whom training has not seen.
        limit: Photographs, and films, at most; None = all unseen ones, or as many others.
    Returns:
        Columns to figures by the keys of `TITLES`, and a strip of each face's eyes as they close.
    Raises:
        InputError: There are no photographs.
    """
    unseen = find_portraits(source / "portraits")
    found = unseen if half == "final" else find_portraits(source / "portraits", held_out=False)
    chosen = evenly(found, len(unseen) if limit is None else limit)
    rows: dict[str, list[dict[str, float]]] = {"open": [], "squashed": [], "sliding": []}
    strips = []
    for picture, face in read_faces(chosen):
        lids = Eyelids(picture, face)
        closures = [lids.close(picture, amount) for amount in _CLOSURES]
        old = squash(picture, face)
        strips.append(np.concatenate([eyes_of(f, face) for f in (*closures, old)], axis=1))
        blinks = bool((closures[-1] != picture).any())
        shown = {"open": picture, "squashed": old, **({"sliding": closures[-1]} if blinks else {})}
        for key, shut in shown.items():
            rows[key].append(judge(shut, picture, face))
    table = {key: summary(figures, len(strips)) for key, figures in rows.items() if figures}
    films = [path for folder in FILMS for path in sorted((source / folder).glob("*.m*"))]
    films = films if limit is None else evenly(films, limit)
    real = [row for path in films for row in judge_film(path)]
    if real:
        table["real films"] = summary(real, len(films))
    return table, strips


def squash(picture: Picture, face: Points) -> Picture:
    """The lids of 0.2.1: one smooth field draws upper and lower lid together, whatever lies between them."""
    upper, lower = [37, 38, 43, 44], [41, 40, 47, 46]
    way = np.zeros_like(face)
    way[upper] = 0.85 * (face[lower] - face[upper])
    way[lower] = -0.15 * (face[lower] - face[upper])
    fixed = [k for k in range(60) if k not in (*upper, *lower)]
    chosen = [*upper, *lower, *fixed]
    low = np.maximum(face.min(axis=0) - 0.1 * np.ptp(face, axis=0), 0).astype(int)
    high = np.ceil(face.max(axis=0)).astype(int)
    spline = RBFInterpolator(face[chosen], way[chosen], kernel="thin_plate_spline", smoothing=1e-6)
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    places = np.stack([x, y], axis=-1)
    shift = spline(places[::4, ::4].reshape(-1, 2)).reshape(*places[::4, ::4].shape)
    forward = cv2.resize(shift.astype(np.float32), (x.shape[1], x.shape[0]))
    backward = forward.copy()
    for _ in range(20):  # half steps: lids that meet stretch the field beyond a plain fixed point
        where = places - low.astype(np.float32) - backward
        backward += 0.5 * (cv2.remap(forward, where, None, cv2.INTER_LINEAR) - backward)
    squashed = picture.copy()
    squashed[low[1] : high[1], low[0] : high[0]] = cv2.remap(
        picture, places - backward, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return squashed


def judge(shut: Picture, still: Picture, face: Points) -> dict[str, float]:
    """Figures of one shut pair of eyes in a photograph."""
    return {
        "white": white_share(shut, face),
        "brows": brow_motion(shut, still, face),
        "away": float(changed_away(shut, still, face)),
    }


def judge_film(path: Path) -> list[dict[str, float]]:
    """Figures of each blink of a film; the face's way between open and shut eyes is told to the brows' figure."""
    frames, faces = [], []
    for frame in read_frames(path):
        found = face_detector()(frame)
        if found:
            frames.append(frame)
            faces.append(found[0].landmarks)
    opening = np.array([eye_opening(face) for face in faces])
    shut = opening < _SHUT * np.median(opening)
    figures = []
    for k in range(_BEFORE, len(frames)):
        near = opening[max(k - _BEFORE, 0) : k + _BEFORE + 1]
        if not shut[k] or opening[k] > near.min() or shut[k - _BEFORE]:
            continue
        before = faces[k - _BEFORE]
        open_face = before + (faces[k][27:36] - before[27:36]).mean(axis=0)
        figures.append(
            {
                "white": white_share(frames[k], open_face),
                "brows": brow_motion(frames[k], frames[k - _BEFORE], before, faces[k]),
            }
        )
    return figures


def summary(rows: list[dict[str, float]], faces: int) -> dict[str, float]:
    """One column of the table."""
    white, brows = (np.array([row[key] for row in rows]) for key in ("white", "brows"))
    figures = {
        "white": float(np.nanmean(white)),
        "white_worst": float(np.nanmax(white)),
        "white_held": float((white <= 0.01).mean()),
        "brows": float(np.nanmean(brows)),
        "brows_worst": float(np.nanmax(brows)),
        "blinks": float(len(rows)),
        "faces": float(faces),
    }
    if "away" in rows[0]:
        figures["away"] = max(row["away"] for row in rows)
    return figures


def eyes_of(picture: Picture, face: Points) -> Picture:
    """Both eyes, enlarged `(150, 360, 3)`."""
    width = eye_distance(face) / 2
    eyes = face[36:48]
    low = np.maximum(eyes.min(axis=0) - np.array((0.3, 0.7)) * width, 0).astype(int)
    high = (eyes.max(axis=0) + np.array((0.3, 0.5)) * width).astype(int)
    tile = cv2.resize(
        picture[low[1] : high[1], low[0] : high[0]], _TILE_PX, interpolation=cv2.INTER_CUBIC
    )
    return np.asarray(tile, np.uint8)
