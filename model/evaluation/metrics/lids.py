"""What the eye sees wrong with a blink, as figures.

white    pixels between the lids' former margins that are whiter than the skin around the eye
brows    how far the brows go, while the nose stays
away     pixels that change away from the eyes
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.landmarks import LEFT_EYE, RIGHT_EYE

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]

_EYES: Final = (LEFT_EYE, RIGHT_EYE)
_BROWS: Final = tuple(range(17, 27))
_STILL: Final = tuple(range(27, 36))
_GROWTH: Final = 0.05
"""The eye's hull is grown by this share of its width."""
_SKIN: Final = 0.5
"""So far around the hull the skin is looked at."""
_BRIGHT: Final = 99.0
"""Percentile of that skin."""
_WHITER: Final = 1.1
_FAR: Final = 1.3
"""Pixels further from an eye's middle than so many eye widths are away from it."""
_BROW_DEPTH: Final = 0.2
"""Where a brow is followed, of the way from its upper edge to the eye."""
_PATCH_PX: Final = 15
_LEAST_PX: Final = 400
"""Width of the face at which brows are followed: larger than the picture's, so that patches are alike."""


def eye_distance(face: Points) -> float:
    """Between the middles of the eyes of a face `(68, 2)`."""
    middles = [face[list(eye)].mean(axis=0) for eye in _EYES]
    return float(np.linalg.norm(middles[1] - middles[0]))


def eye_opening(face: Points) -> float:
    """Mean distance of the lids of a face `(68, 2)`, over the width of the eye."""
    shares = []
    for first in (36, 42):
        gaps = [np.linalg.norm(face[first + a] - face[first + b]) for a, b in ((1, 5), (2, 4))]
        shares.append(
            np.mean(gaps) / max(float(np.linalg.norm(face[first + 3] - face[first])), 1e-6)
        )
    return float(np.mean(shares))


def white_share(shut: Picture, face: Points) -> float:
    """Share of pixels where the open eyes were that are whiter than the skin around them; the worse eye.

    Whiter is lighter in the weakest colour by a tenth than nearly all of that skin, which is red.
    Shut lids are vaulted and may shine: real ones have 0.4 % of such pixels.

    Args:
        shut: `(H, W, 3)` uint8 RGB.
        face: With its eyes open `(68, 2)`, pixels of `shut`.
    """
    light = shut.min(axis=2).astype(np.float32)
    shares = []
    for eye in _EYES:
        points = face[list(eye)]
        width = float(np.linalg.norm(points[3] - points[0]))
        hull = np.zeros(light.shape, np.uint8)
        cv2.fillConvexPoly(hull, np.round(cv2.convexHull(points)[:, 0]).astype(np.int32), 1)
        inside = cv2.dilate(hull, _disc(_GROWTH * width)) > 0
        around = (cv2.dilate(hull, _disc(_SKIN * width)) > 0) & ~inside
        if inside.any() and around.any():
            shares.append(
                float((light[inside] > _WHITER * np.percentile(light[around], _BRIGHT)).mean())
            )
    return float(np.max(shares)) if shares else float("nan")


def brow_motion(
    shut: Picture, still: Picture, face: Points, shut_face: Points | None = None
) -> float:
    """How far the brows go from `still` to `shut`, over the distance of the eyes; the nose's way does not count.

    Args:
        shut: `(H, W, 3)` uint8 RGB.
        still: The same face with open eyes.
        face: Of `still` `(68, 2)`, pixels.
        shut_face: Of `shut`, where the head moves between the two; else `face`.
    """
    scale = max(_LEAST_PX / max(float(np.ptp(face[:17, 0])), 1.0), 1.0)
    before, after = (
        cv2.cvtColor(
            cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC),
            cv2.COLOR_RGB2GRAY,
        )
        for picture in (still, shut)
    )
    start, guess = (
        np.float32(scale) * _followed(known)[:, None]
        for known in (face, face if shut_face is None else shut_face)
    )
    found, known, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        start,
        guess.copy(),
        winSize=(_PATCH_PX, _PATCH_PX),
        maxLevel=1,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    way = np.where(known[:, None] > 0, found - start, np.nan)[:, 0]
    nose = np.nanmedian(way[len(_BROWS) :], axis=0)
    brows = np.nanmedian(way[: len(_BROWS)] - nose, axis=0)
    return float(np.linalg.norm(brows)) / (scale * eye_distance(face))


def changed_away(shut: Picture, still: Picture, face: Points) -> int:
    """Number of pixels away from the eyes of `face` `(68, 2)` that are not the same."""
    y, x = np.mgrid[: still.shape[0], : still.shape[1]]
    away = np.ones(still.shape[:2], np.bool_)
    for eye in _EYES:
        points = face[list(eye)]
        width = max(float(np.linalg.norm(points[3] - points[0])), eye_distance(face) / 2.5)
        middle = points.mean(axis=0)
        away &= np.hypot(x - middle[0], y - middle[1]) > _FAR * width
    return int((shut != still).any(axis=2)[away].sum())


def _followed(face: Points) -> Points:
    """Points of brows and nose `(19, 2)`; the landmarks lie at the brows' upper edge."""
    eyes = np.repeat([face[list(eye)].mean(axis=0) for eye in _EYES], 5, axis=0)
    brows = face[list(_BROWS)]
    within = brows + np.float32(_BROW_DEPTH) * (eyes - brows)
    return np.concatenate([within, face[list(_STILL)]]).astype(np.float32)


def _disc(radius: float) -> NDArray[np.uint8]:
    side = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
