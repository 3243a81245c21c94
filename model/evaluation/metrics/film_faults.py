"""What the eye sees wrong with a film or a photograph that speaks, as figures.

outline   pixels beyond the shown and the drawn face that change: a second ear, a torn collar
flicker   second differences of skin over time, over the film's own
texture   variance of the Laplacian of skin and lips, over the photograph's
leak      whether the drawn mouth goes with the film's own once the wanted one is known, and how far
light     brightest tooth over the whites of the eyes
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.landmarks import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from model.face.mouth_light import LUMA

Frames = Sequence[NDArray[np.uint8]]
Points = NDArray[np.float32]

_GROWTH: Final = 0.015
"""The hull of both faces is grown by this share of the face's width."""
_CHANGED: Final = 40  # grey levels
_DAMAGE: Final = 0.005
"""Share of the face's width squared that may change beyond the hull."""
_PATCH: Final = 0.05
"""Half a side of a patch of skin, crop units."""
_FLICKER_PX: Final = 256  # side of the crops whose skin is followed
_PATCHES: Final = {"chin": ((57, 8),), "cheek": ((3, 48), (13, 54))}
"""Pairs of landmarks with clear skin half-way."""


def outline_damage(
    drawn: Frames, source: Iterable[NDArray[np.uint8]], faces: Points, targets: Points
) -> float:
    """Share of frames that change visibly beyond the face.

    Args:
        drawn: T frames `(H, W, 3)` uint8 RGB.
        source: The frames that they were drawn into.
        faces: Faces that these show `(T, 68, 2)`, pixels.
        targets: Faces that were drawn.
    """
    damaged = 0
    for new, old, face, target in zip(drawn, source, faces, targets, strict=True):
        width = float(np.ptp(face[:17, 0]))
        hull = cv2.convexHull(np.concatenate([face, target]))[:, 0]
        inside = np.zeros(old.shape[:2], np.uint8)
        cv2.fillConvexPoly(inside, np.round(hull).astype(np.int32), 1)
        reach = max(1, round(_GROWTH * width))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
        change = np.abs(new.astype(np.int16) - old).max(axis=2)
        change[cv2.dilate(inside, disc) > 0] = 0
        damaged += int((change > _CHANGED).sum()) > _DAMAGE * width**2
    return damaged / len(faces)


def flicker(drawn: Frames, source: Frames, faces: Points, targets: Points) -> dict[str, float]:
    """Mean size of second differences over time of chin and cheek, over the film's own.

    Each patch goes with its own face's landmarks, so motion counts in neither.

    Args:
        drawn: T frames, T at least 3.
        source: The frames that they were drawn into.
        faces: Faces that these show `(T, 68, 2)`, pixels.
        targets: Faces that were drawn.
    """
    return {
        name: _unsteadiness(drawn, targets, pairs) / max(_unsteadiness(source, faces, pairs), 1e-6)
        for name, pairs in _PATCHES.items()
    }


def _unsteadiness(frames: Frames, faces: Points, pairs: Sequence[tuple[int, int]]) -> float:
    patches = []
    for frame, face in zip(frames, faces, strict=True):
        affine = crop_affine(face)
        crop = crop_image(frame, affine, _FLICKER_PX)
        points = warp_points(affine, face)
        row = [_patch(crop, (points[a] + points[b]) / 2) for a, b in pairs]
        patches.append(np.concatenate(row).astype(np.float32))
    return float(np.abs(np.diff(np.stack(patches), n=2, axis=0)).mean())


def _patch(crop: NDArray[np.uint8], centre: Points) -> NDArray[np.float32]:
    """Brightness of a square of skin `(n, n)` around `centre`, crop units, to a part of a pixel."""
    side = round(2 * _PATCH * len(crop))
    centre_px = (centre * len(crop) - 0.5).tolist()
    square = cv2.getRectSubPix(crop.astype(np.float32), (side, side), centre_px)
    return np.asarray(square @ LUMA, np.float32)


def texture(frame: NDArray[np.uint8], face: Points) -> dict[str, float]:
    """Variance of the Laplacian of chin, cheek and lips, at the frame's own size.

    Args:
        frame: `(H, W, 3)` uint8 RGB.
        face: The face that it shows `(68, 2)`, pixels.
    """
    grey = (frame.astype(np.float32) @ LUMA).astype(np.float32)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    unit = float(np.linalg.norm(face[36] - face[45])) / 0.374  # pixels in a crop unit
    half = max(2, round(_PATCH * unit))
    figures = {}
    for name, pairs in _PATCHES.items():
        squares = []
        for a, b in pairs:
            x, y = np.round((face[a] + face[b]) / 2).astype(int)
            square = edges[max(y - half, 0) : y + half, max(x - half, 0) : x + half]
            squares.append(float(square.var()) if square.size else float("nan"))
        figures[name] = float(np.nanmean(squares))
    lips = np.zeros(grey.shape, np.uint8)
    cv2.fillPoly(lips, [np.round(face[list(OUTER_LIPS)]).astype(np.int32)], 1)
    cv2.fillPoly(lips, [np.round(face[list(INNER_LIPS)]).astype(np.int32)], 0)
    # Their outline is no texture of theirs.
    inner = cv2.erode(lips, np.ones((3, 3), np.uint8)) > 0
    figures["lips"] = float(edges[inner].var()) if inner.any() else float("nan")
    return figures


def leak(
    drawn: NDArray[np.float32], wanted: NDArray[np.float32], own: NDArray[np.float32]
) -> float:
    """Partial correlation of the drawn opening with the film's own, the wanted one known.

    Args:
        drawn: Openings found in the drawn frames `(T,)`.
        wanted: Those of the target landmarks.
        own: Those of the frames drawn into.
    """
    r_own, r_wanted = np.corrcoef(drawn, own)[0, 1], np.corrcoef(drawn, wanted)[0, 1]
    between = np.corrcoef(wanted, own)[0, 1]
    rest = np.sqrt(max((1 - r_wanted**2) * (1 - between**2), 1e-9))
    return float((r_own - r_wanted * between) / rest)


def opening_left(
    drawn: NDArray[np.float32], wanted: NDArray[np.float32], own: NDArray[np.float32]
) -> float:
    """Share of the film's own opening that is added to the drawn one: `own`'s coefficient beside `wanted`'s.

    A partial correlation says whether what is left over goes with the film's own mouth, however little is
    left over; this says how much it is.

    Args:
        drawn: As in `leak`.
        wanted: As in `leak`.
        own: As in `leak`.
    """
    known = np.stack([wanted, own, np.ones_like(own)], axis=1)
    return float(np.linalg.lstsq(known, drawn, rcond=None)[0][1])


def mouth_light(frame: NDArray[np.uint8], face: Points) -> float:
    """Brightest part of the inner mouth over the brightest of the whites of the eyes (95th percentiles).

    Args:
        frame: `(H, W, 3)` uint8 RGB.
        face: The face that it shows `(68, 2)`, pixels.
    Returns:
        nan where the mouth is shut or an eye is out of the picture.
    """

    def bright(points: Points) -> float:
        inside = np.zeros(frame.shape[:2], np.uint8)
        cv2.fillPoly(inside, [np.round(points).astype(np.int32)], 1)
        seen = frame[inside > 0].astype(np.float32) @ LUMA
        return float(np.percentile(seen, 95)) if len(seen) else float("nan")

    white = np.nanmax([bright(face[list(eye)]) for eye in (LEFT_EYE, RIGHT_EYE)])
    return bright(face[list(INNER_LIPS)]) / max(float(white), 1.0)
