"""Eyes that close: the upper lid's skin slides over the eyeball, and the eyeball stays what it is.

    still ──────────────  brow
    skin, stretched down  between brow and lashes
    lashes                travel with the lid's margin; those that point up turn down
    eyeball               as it was, where it is not covered yet
    lower lid             still
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.eye_outline import ACROSS, Curve, EyeOutline, find_eye
from model.face.landmarks import NUM_LANDMARKS
from model.face.spectacles import find_rim, wears_spectacles
from model.face.thin_plate import ramp, smoothstep

Map = NDArray[np.float32]

_SKIN_SHARE: Final = 0.55
"""Of the way from the lashes to the brow's upper edge: this skin is stretched, what is above stays."""
_BEND: Final = 0.3
"""0 stretches the skin evenly, 1 more the nearer to the lashes."""
_MOST_STRETCH: Final = 6.0
"""Where there is less skin under a brow or a rim, the eye closes less far."""
_LASHES: Final = 0.10
"""Height of the strip of lashes that travels with the margin, `down` units."""
_OVERLAP: Final = 0.09
"""How far the closed margin lies below the lower lid's, `down` units."""
_BEYOND: Final = 0.4
"""How far beyond the corners skin gives way, `across` units."""
_LASH_LENGTH: Final = 0.5
_LASH_WIDTH: Final = 0.35
"""Longest and thickest tufts that turn, `down` units."""
_CREASE: Final = 0.15
"""Widest crease that unrolls, `down` units."""
_UNROLLED: Final = 0.75
"""Share of creases and wrinkles that goes when the eye is shut."""
_LASH_SHADE: Final = 0.65
"""Lashes are at most so light against the lid's skin."""
_CHEEK: Final = (0.18, 0.35)
"""Where skin in plain light lies below the eye, `down` units."""
_MOST_LIT: Final = (0.9, 1.3)
"""The lid comes out of its shadow: halfway to the light of that skin, within these bounds."""
_VAULT: Final = 0.07
"""How much lighter the middle of a shut lid is than its upper and lower edge."""
_LEAST: Final = 0.9
"""Eyes that cannot close by this share do not blink."""
_SHUT: Final = (0.06, 0.14)
"""An opening up to the first is a closed eye and stays; from the second on the blink is whole."""


@dataclass(frozen=True, eq=False)
class _Eye:
    """One eye's box of h x w pixels; heights in `down` units.

    Attributes:
        rows: Of the picture.
        columns: Of the picture.
        downwards: Unit of `down` `(2,)`, pixels.
        across: Of each pixel `(h, w)`.
        down: Of each pixel `(h, w)`.
        top: Where the stretched skin begins `(h, w)`.
        upper: Where the lashes begin `(h, w)`.
        way: Of the margin when the eye shuts `(h, w)`.
        lashes: Height of the strip of lashes `(h, w)`.
        tufts: Darkness of the lashes over the skin `(r, c, 3)` float32; rows from `_LASH_LENGTH` above the margin, columns as `ACROSS`.
        bare: The same darkness at each pixel `(h, w, 3)`.
        tone: Colour of the lashes `(3,)`.
        light: Factor of the shut lid's light `(3,)`.
    """

    rows: slice
    columns: slice
    downwards: NDArray[np.float32]
    across: Map
    down: Map
    top: Map
    upper: Map
    way: Map
    lashes: Map
    tufts: Map
    bare: Map
    tone: NDArray[np.float32]
    light: NDArray[np.float32]


class Eyelids:
    """The lids of one photograph.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        landmarks: Of its face `(68, 2)`, pixels.
    Raises:
        ShapeError: `landmarks` has another shape.
    """

    def __init__(self, picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
        if landmarks.shape != (NUM_LANDMARKS, 2):
            raise ShapeError(f"landmarks have shape {landmarks.shape}; expected (68, 2)")
        spectacles = wears_spectacles(picture, landmarks)
        outlines = [find_eye(picture, landmarks, side) for side in range(2)]
        skins = [_free_skin(picture, outline, spectacles) for outline in outlines]
        ways = [_way(outline) for outline in outlines]
        reach = min(_reach(way, skin) for way, skin in zip(ways, skins, strict=True))
        if reach < _LEAST:
            reach = 0.0
        self._eyes = [
            _measure(picture, outline, skin, reach * way)
            for outline, skin, way in zip(outlines, skins, ways, strict=True)
        ]

    def close(self, frame: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
        """Close both eyes.

        Args:
            frame: The photograph, or what was drawn into it below the eyes `(H, W, 3)` uint8 RGB.
            amount: 0 leaves the eyes as they are, bit for bit, 1 closes them.
        Returns:
            `(H, W, 3)`; away from the eyes it is `frame`.
        """
        if amount <= 0:
            return frame
        closed = frame.copy()
        for eye in self._eyes:
            closed[eye.rows, eye.columns] = _cover(
                frame[eye.rows, eye.columns], eye, min(amount, 1.0)
            )
        return closed


def _free_skin(picture: NDArray[np.uint8], outline: EyeOutline, spectacles: bool) -> Curve:
    """Height of the skin over the lashes that may be stretched."""
    skin = np.maximum(outline.upper - outline.brow, 0.1) * np.float32(_SKIN_SHARE)
    rim = find_rim(picture, outline) if spectacles else None
    return skin if rim is None else np.clip(outline.upper - rim, 0.02, skin)


def _way(outline: EyeOutline) -> Curve:
    """Of the upper margin when the eye shuts; nothing where it is shut."""
    beyond = np.maximum(np.abs(ACROSS) - 1.0, 0.0) / np.float32(_BEYOND)
    way = (outline.lower - outline.upper + _OVERLAP) * smoothstep(1.0 - beyond)
    way *= ramp((outline.opening - _SHUT[0]) / (_SHUT[1] - _SHUT[0]))
    return np.asarray(cv2.GaussianBlur(way[None], (5, 1), 0)[0] * (beyond < 1), np.float32)


def _reach(way: Curve, skin: Curve) -> float:
    """Share of `way` that the skin can go without being stretched too much."""
    inside = np.abs(ACROSS) < 0.8
    room = (_MOST_STRETCH - 1) * skin[inside] / np.maximum(way[inside], 1e-3)
    return min(float(np.percentile(room, 20)), 1.0)


def _measure(picture: NDArray[np.uint8], outline: EyeOutline, skin: Curve, way: Curve) -> _Eye:
    """Prepare one eye."""
    skin = np.maximum(skin, way / (_MOST_STRETCH - 1))
    rows, columns = _box(outline, outline.upper - skin, outline.upper + way, picture.shape)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    placed = outline.place(np.stack([x, y], axis=-1) + np.float32(0.5))
    across, down = placed[..., 0], placed[..., 1]

    def spread(curve: Curve) -> Map:
        return np.interp(across, ACROSS, curve).astype(np.float32)

    tufts, creases, tone = _lashes(picture, outline, skin)
    upper = spread(outline.upper)
    return _Eye(
        rows,
        columns,
        outline.axes[:, 1],
        across,
        down,
        spread(outline.upper - skin),
        upper,
        spread(way),
        spread(_LASHES * smoothstep((1.1 - np.abs(ACROSS)) / 0.3)),
        tufts,
        _seen_tufts(creases, across, down - upper),
        tone,
        _light(picture, outline, skin),
    )


def _box(
    outline: EyeOutline, top: Curve, bottom: Curve, shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Rows and columns of the picture that a blink may change, and a little more."""
    inside = np.abs(ACROSS) < 1 + _BEYOND + 0.05
    edges = np.concatenate([top[inside] - 0.06, bottom[inside] + _LASH_LENGTH])
    points = outline.pixels(np.tile(ACROSS[inside], 2), edges)
    size = np.array((shape[1], shape[0]))
    low = np.clip(np.floor(points.min(axis=0)), 0, size - 1).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), low + 1, size).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _lashes(
    picture: NDArray[np.uint8], outline: EyeOutline, skin: Curve
) -> tuple[Map, Map, NDArray[np.float32]]:
    """Darkness of lashes that point up and of lashes and creases `(r, c, 3)` each, and the lashes' colour `(3,)`."""
    unit = float(np.linalg.norm(outline.axes[:, 1]))
    count = max(round(_LASH_LENGTH * unit), 4)
    rise = np.linspace(-_LASH_LENGTH, _LASHES, count + round(count * _LASHES / _LASH_LENGTH))
    across = np.linspace(ACROSS[0], ACROSS[-1], max(round(3.2 * unit / 2), 16), dtype=np.float32)
    held = np.maximum(rise[:, None], -np.interp(across, ACROSS, skin))  # no brow, no rim
    down = np.interp(across, ACROSS, outline.upper) + held
    where = outline.pixels(np.broadcast_to(across, down.shape), down.astype(np.float32)) - 0.5
    seen = cv2.remap(
        picture, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    side = (np.abs(across) > 0.45) & (np.abs(across) < 0.85)  # lashes before the white
    tone = np.median(seen[count:, side].min(axis=0), axis=0).astype(np.float32)
    tone = np.minimum(tone, _LASH_SHADE * np.median(seen[: count // 2, side], axis=(0, 1)))

    # Dark things that are narrow along the lid are lashes; creases run along it.
    above = seen[:count]
    thick, fold = (2 * round(size * unit / 2) + 1 for size in (_LASH_WIDTH, _CREASE))
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (fold, fold))
    smooth = cv2.morphologyEx(above, cv2.MORPH_CLOSE, np.ones((1, thick), np.uint8))
    unrolled = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, ellipse)
    rows = rise[:count].astype(np.float32)
    share = smoothstep(1 + rows / _LASH_LENGTH) * smoothstep(-rows / 0.03 + 0.5)
    lashes, folds = (
        (share[:, None] * smoothstep((reach - np.abs(across)) / width))[..., None]
        for reach, width in ((1.15, 0.2), (1.0 + _BEYOND, _BEYOND))
    )
    narrow = smooth.astype(np.float32) - above
    tufts = lashes * (held == rise[:, None])[:count, :, None] * narrow
    flat = cv2.GaussianBlur(
        unrolled.astype(np.float32), (0, 0), max(0.12 * unit, 0.5), sigmaY=max(0.08 * unit, 0.5)
    )
    creases = folds * (narrow + _UNROLLED * (flat - smooth))
    return tufts, creases, tone


def _light(
    picture: NDArray[np.uint8], outline: EyeOutline, skin: Curve
) -> NDArray[np.float32]:
    """Factor `(3,)` that brings the skin over the lashes halfway to the light of the skin below the eye."""
    inside = np.abs(ACROSS) < 0.7
    across = ACROSS[inside]

    def colour(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        where = outline.pixels(np.broadcast_to(across, rows.shape), rows) - np.float32(0.5)
        seen = cv2.remap(
            picture, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(np.median(seen, axis=(0, 1)) + 8.0, np.float32)

    shares = np.linspace(0.15, 0.6, 8, dtype=np.float32)[:, None]
    lid = colour((outline.upper - shares * skin)[:, inside])
    cheek = colour((outline.lower + np.linspace(*_CHEEK, 8, dtype=np.float32)[:, None])[:, inside])
    return np.clip(np.sqrt(cheek / lid), *_MOST_LIT)


def _seen_tufts(tufts: Map, across: Map, rise: Map) -> Map:
    """Darkness at `across` and heights against the margin, `(h, w)` each, -> `(h, w, 3)`."""
    height, width = tufts.shape[:2]
    x = (across - ACROSS[0]) / (ACROSS[-1] - ACROSS[0]) * (width - 1)
    y = (rise / _LASH_LENGTH + 1) * (height - 1)
    return np.asarray(
        cv2.remap(tufts, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32
    )


def _cover(ground: NDArray[np.uint8], eye: _Eye, amount: float) -> NDArray[np.uint8]:
    """One eye's box `(h, w, 3)` with the lid down by `amount`."""
    way = amount * eye.way
    below = eye.down - eye.upper - way  # of the margin
    skin = eye.upper - eye.top
    depth = np.maximum(eye.down - eye.top, 0)
    # Skin at a share t of its height goes down by way * ((1 - bend) t + bend t^2): solved for t.
    linear = skin + (1 - _BEND) * way
    share = 2 * depth / (linear + np.sqrt(linear**2 + 4 * _BEND * way * depth))
    source = np.where(depth > 0, eye.top + skin * share, eye.down)
    shift = np.where(below < 0, source - eye.down, -way)

    known = ramp(amount / 0.25)
    texture = ground + known * eye.bare
    height, width = eye.down.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    seen = cv2.remap(
        texture,
        x + shift * eye.downwards[0],
        y + shift * eye.downwards[1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    share = np.clip(share, 0, 1)
    vault = _VAULT * (4 * share * (1 - share) - 0.5)
    lit = (eye.light - 1) * smoothstep(1.5 * share)[..., None] + vault[..., None]
    seen *= 1 + np.float32(amount) * lit * np.clip(1.1 - eye.across**2, 0, 1)[..., None]
    dark = np.minimum(seen, eye.tone)
    seen += smoothstep(below / 0.02 + 0.5)[..., None] * ramp(amount / 0.5) * (dark - seen)
    opaque = smoothstep((eye.lashes - below) / np.maximum(eye.lashes, 1e-3))[..., None]
    covered = ground + opaque * (seen - ground)
    # Lashes turn with the lid: as long as they look, from up to down.
    length = 1 - 2 * amount
    length = np.copysign(max(abs(length), 0.1), length)
    covered -= known * _seen_tufts(eye.tufts, eye.across, below / np.float32(length))
    covered = np.where((eye.way > 1e-4)[..., None], covered, ground)
    return np.clip(covered + 0.5, 0, 255).astype(np.uint8)
