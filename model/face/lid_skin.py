"""What the skin of an upper lid looks like when it unrolls, learnt from the open eye.

open eye ─▶ straightened along the lashes ─▶ dark and narrow: lashes ─▶ turn with the lid
                                           dark and long: creases   ─▶ unroll
                                           the lid's shadow         ─▶ lifted
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.eye_outline import ACROSS, Curve, EyeOutline
from model.face.thin_plate import smoothstep

Map = NDArray[np.float32]

STRIP: Final = 0.5
"""Height of the straightened strip above the lashes, `down` units."""
LASHES: Final = 0.10
"""Height of the lashes at the margin."""
_TUFT: Final = 0.35
"""Lashes stick together in tufts up to so wide."""
_INNER_TIP: Final = 1.1
_OUTER_TIP: Final = 1.4
"""Where lashes end, `across` units from the middle."""
_TIP: Final = np.float32(0.25)
_CREASE: Final = 0.15
"""Widest crease that unrolls."""
_UNROLLED: Final = 0.75
"""Share of creases and wrinkles that goes when the eye is shut."""
_GRAIN: Final = (0.12, 0.08)
"""What is finer, across and down, is wrinkles."""
_LASH_SHADE: Final = 0.65
"""Lashes are at most so light against the lid's skin."""
_BESIDE_THE_IRIS: Final = (0.45, 0.85)
"""`across` units from the middle: lashes stand before the white."""
_CHEEK: Final = (0.18, 0.35)
"""Where skin in plain light lies below the eye."""
_MOST_LIT: Final = (0.9, 1.2)
"""The lid comes halfway to the light of that skin, within these bounds."""

_SHINE: Final = 90.0
"""Percentile of that skin: light on a brow's bone does not come down with the skin."""


@dataclass(frozen=True, eq=False)
class LidSkin:
    """The upper lid of one open eye; strips are straightened along the lashes.

    Attributes:
        tufts: Darkness of the lashes that point up, `(r, c, 3)` float32, grey levels; rows from `STRIP` above the
            margin to the margin, columns over `ACROSS`.
        creases: Darkness of these lashes and of creases together `(r, c, 3)`.
        tone: Colour of the lashes `(3,)`.
        light: Factor of the shut lid's light `(3,)`.
        shine: Colour `(3,)` that the shut lid hardly exceeds.
    """

    tufts: Map
    creases: Map
    tone: Map
    light: Map
    shine: Map


def find_skin(
    picture: NDArray[np.uint8], outline: EyeOutline, height: Curve, beyond: float
) -> LidSkin:
    """Look at one eye's lid.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        outline: Of the eye.
        height: Of the skin above the lashes; what is higher is brow or spectacles.
        beyond: How far the skin moves beyond the corners, `across` units.
    """
    unit = float(np.linalg.norm(outline.axes[:, 1]))
    count = max(round(STRIP * unit), 4)
    rise = np.linspace(-STRIP, 0, count, dtype=np.float32)[:, None]
    across = np.linspace(ACROSS[0], ACROSS[-1], max(round(1.6 * unit), 16), dtype=np.float32)
    held = np.maximum(rise, -np.interp(across, ACROSS, height)).astype(np.float32)
    margin = np.interp(across, ACROSS, outline.upper).astype(np.float32)
    skin = _look(picture, outline, across, margin + held)

    # Dark things that are narrow along the lid are lashes; creases run along it.
    tuft, crease = (2 * round(size * unit / 2) + 1 for size in (_TUFT, _CREASE))
    bare = cv2.morphologyEx(skin, cv2.MORPH_CLOSE, np.ones((1, tuft), np.uint8))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (crease, crease))
    filled = cv2.morphologyEx(bare, cv2.MORPH_CLOSE, disc)
    sigma = [max(size * unit, 0.5) for size in _GRAIN]
    flat = cv2.GaussianBlur(filled, (0, 0), sigma[0], sigmaY=sigma[1])

    near = smoothstep(np.float32(0.5) - rise / np.float32(0.03))
    aside: Map = np.abs(across)
    tips: Map = np.where(outline.nose * across > 0, np.float32(_INNER_TIP), np.float32(_OUTER_TIP))
    lashes = smoothstep(2 * (1 + rise / STRIP)) * near * smoothstep((tips - aside) / _TIP)
    ends = smoothstep((np.float32(1 + beyond) - aside) / np.float32(beyond))
    folds = smoothstep(1 + rise / STRIP) * near * ends
    depth = np.asarray(rise / np.interp(across, ACROSS, height), np.float32)
    free = smoothstep(3 + depth / np.float32(0.3))
    dark = (lashes * free)[..., None] * (bare - skin)
    creases = dark + folds[..., None] * (_UNROLLED * (flat - bare))

    low, high = _BESIDE_THE_IRIS
    side = (aside > low) & (aside < high)
    rows = np.linspace(0, LASHES, max(round(LASHES * unit), 2), dtype=np.float32)[:, None]
    strip = _look(picture, outline, across[side], margin[side] + rows)
    tone = np.median(strip.min(axis=0), axis=0)
    tone = np.minimum(tone, _LASH_SHADE * np.median(skin[count // 4 :, side], axis=(0, 1)))
    light, shine = _light(picture, outline, height)
    return LidSkin(dark, creases, tone.astype(np.float32), light, shine)


def on_strip(strip: Map, across: Map, rise: Map) -> Map:
    """A strip at `across` and heights against the margin, `(h, w)` each, -> `(h, w, 3)`; nothing beyond it."""
    height, width = strip.shape[:2]
    x = (across - ACROSS[0]) / (ACROSS[-1] - ACROSS[0]) * (width - 1)
    y = (rise / STRIP + 1) * (height - 1)
    return np.asarray(
        cv2.remap(strip, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32
    )


def _light(picture: NDArray[np.uint8], outline: EyeOutline, height: Curve) -> tuple[Map, Map]:
    """Factor `(3,)` that brings the lid halfway to the skin below the eye, and that skin's shine `(3,)`."""
    inside = np.abs(ACROSS) < 0.7
    shares = np.linspace(0.15, 0.6, 8, dtype=np.float32)[:, None]
    below = np.linspace(*_CHEEK, 8, dtype=np.float32)[:, None]
    lid = _look(picture, outline, ACROSS[inside], (outline.upper - shares * height)[:, inside])
    cheek = _look(picture, outline, ACROSS[inside], (outline.lower + below)[:, inside])
    middles = (np.median(skin, axis=(0, 1)) + 8.0 for skin in (cheek, lid))
    light = np.clip(np.sqrt(np.divide(*middles)), *_MOST_LIT)
    return light.astype(np.float32), np.percentile(cheek, _SHINE, axis=(0, 1)).astype(np.float32)


def _look(picture: NDArray[np.uint8], outline: EyeOutline, across: Map, down: Map) -> Map:
    """The picture at columns `across` `(w,)` and heights `down` `(h, w)` -> `(h, w, 3)` float32."""
    where = outline.pixels(np.broadcast_to(across, down.shape), down) - np.float32(0.5)
    seen = cv2.remap(
        picture, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(seen, np.float32)
