"""Eyes that close: the upper lid's skin slides over the eyeball, and the eyeball stays what it is.

still ──────────────  brow, rim of spectacles
skin, stretched down  between brow and lashes; its creases unroll
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
from model.face.lid_skin import LASHES, STRIP, LidSkin, find_skin, on_strip
from model.face.picture_parts import box_around
from model.face.spectacles import find_rim, wears_spectacles
from model.face.thin_plate import ramp, smoothstep

Map = NDArray[np.float32]

_SKIN_SHARE: Final = 0.55
"""Of the way from the lashes to the brow's upper edge: this skin is stretched, what is above stays."""
_BEND: Final = 0.3
"""0 stretches the skin evenly, 1 more the nearer to the lashes."""
_MOST_STRETCH: Final = 9.0
_LEAST_REACH: Final = 0.9
"""Where a rim leaves too little skin to close the eyes by this share, they do not close."""
_OVERLAP: Final = 0.09
"""How far the closed margin lies below the lower lid's, `down` units."""
_BEYOND: Final = 0.4
"""How far beyond the corners skin gives way, `across` units."""
_SHUT: Final = (0.06, 0.14)
"""An opening up to the first is a closed eye and stays; from the second on the blink is whole."""
_DULL: Final = 0.8
"""Share that a shut lid loses of what exceeds the shine of the skin around it."""
_LASH_DEPTH: Final = 0.8
"""Of the lashes' own darkness, in the line where the lids meet."""
_VAULT: Final = 0.07
"""How much lighter the middle of a shut lid is than its upper and lower edge."""


@dataclass(frozen=True, eq=False)
class _Eye:
    """One eye's box of h x w pixels; heights in `down` units.

    Attributes:
        rows: Of the picture.
        columns: Of the picture.
        pixels: Column and row of each pixel within the box `(h, w, 2)`.
        downwards: Unit of `down` `(2,)`, pixels.
        across: Of each pixel `(h, w)`.
        down: Of each pixel `(h, w)`.
        top: Where the stretched skin begins `(h, w)`.
        upper: Where the lashes begin `(h, w)`.
        way: Of the margin when the eye shuts `(h, w)`.
        lashes: Height of the lashes that travel with the margin `(h, w)`.
        lit: The lid's share of `skin.light` `(h, w)`.
        skin: What the lid looks like.
        unrolled: Light that creases and lashes give back `(h, w, 3)`, grey levels.
    """

    rows: slice
    columns: slice
    pixels: Map
    downwards: Map
    across: Map
    down: Map
    top: Map
    upper: Map
    way: Map
    lashes: Map
    lit: Map
    skin: LidSkin
    unrolled: Map


class Eyelids:
    """The lids of one photograph.

    Eyes that are closed stay as they are. So do those under spectacles whose rims leave no skin free.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        landmarks: Of its face `(68, 2)`, pixels.
    Attributes:
        outlines: Of both eyes.
        spectacles: Whether any are worn.
    Raises:
        ShapeError: `landmarks` has another shape.
    """

    def __init__(self, picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
        if landmarks.shape != (NUM_LANDMARKS, 2):
            raise ShapeError(f"landmarks have shape {landmarks.shape}; expected (68, 2)")
        self.spectacles = wears_spectacles(picture, landmarks)
        self.outlines = [find_eye(picture, landmarks, side) for side in range(2)]
        heights = [_free_skin(picture, outline, self.spectacles) for outline in self.outlines]
        ways = [_way(outline) for outline in self.outlines]
        reach = min(_reach(way, height) for way, height in zip(ways, heights, strict=True))
        if reach < _LEAST_REACH:
            reach = 0.0
        self._eyes = [
            _measure(picture, outline, height, np.float32(reach) * way)
            for outline, height, way in zip(self.outlines, heights, ways, strict=True)
        ]

    @property
    def boxes(self) -> list[tuple[slice, slice]]:
        """Rows and columns that may change, of each eye."""
        return [(eye.rows, eye.columns) for eye in self._eyes]

    def close(
        self, frame: NDArray[np.uint8], amount: float | tuple[float, float]
    ) -> NDArray[np.uint8]:
        """Close the eyes.

        Args:
            frame: The photograph, or what was drawn into it below the eyes, `(H, W, 3)` uint8 RGB.
            amount: 0 leaves an eye as it is, bit for bit, 1 closes it; of both eyes, or of each.
        Returns:
            `(H, W, 3)`; `frame` itself where nothing closes, and away from the eyes its very pixels.
        """
        amounts = amount if isinstance(amount, tuple) else (amount, amount)
        if max(amounts) <= 0:
            return frame
        closed = frame.copy()
        for eye, share in zip(self._eyes, amounts, strict=True):
            if share > 0 and eye.way.any():
                ground = frame[eye.rows, eye.columns]
                closed[eye.rows, eye.columns] = _cover(ground, eye, min(share, 1.0))
        return closed


def _free_skin(picture: NDArray[np.uint8], outline: EyeOutline, spectacles: bool) -> Curve:
    """Height of the skin over the lashes that may be stretched."""
    height = np.maximum(outline.upper - outline.brow, 0.1) * np.float32(_SKIN_SHARE)
    rim = find_rim(picture, outline) if spectacles else None
    return height if rim is None else np.clip(outline.upper - rim, 0.02, height)


def _way(outline: EyeOutline) -> Curve:
    """Of the upper margin when the eye shuts; nothing where it is shut."""
    beyond = np.maximum(np.abs(ACROSS) - 1, 0) / np.float32(_BEYOND)
    way = (outline.lower - outline.upper + _OVERLAP) * smoothstep(1 - beyond)
    way *= ramp((outline.opening - _SHUT[0]) / (_SHUT[1] - _SHUT[0]))
    return np.asarray(cv2.GaussianBlur(way[None], (5, 1), 0)[0] * (beyond < 1), np.float32)


def _reach(way: Curve, height: Curve) -> float:
    """Share of `way` that the skin can go without being stretched too much."""
    inside = np.abs(ACROSS) < 0.8
    room = (_MOST_STRETCH - 1) * height[inside] / np.maximum(way[inside], 1e-3)
    return min(float(np.percentile(room, 20)), 1.0)


def _measure(picture: NDArray[np.uint8], outline: EyeOutline, height: Curve, way: Curve) -> _Eye:
    """Prepare one eye."""
    height = np.maximum(height, way / (_MOST_STRETCH - 1))
    rows, columns = _box(outline, outline.upper - height, outline.upper + way, picture.shape)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    pixels = np.stack([x, y], axis=-1)
    placed = outline.place(pixels + np.float32(0.5))
    across, down = placed[..., 0].copy(), placed[..., 1].copy()

    def spread(curve: Curve) -> Map:
        return np.interp(across, ACROSS, curve).astype(np.float32)

    upper = spread(outline.upper)
    aside: Map = np.abs(ACROSS)
    skin = find_skin(picture, outline, height, _BEYOND)
    return _Eye(
        rows,
        columns,
        pixels - pixels[0, 0],
        outline.axes[:, 1],
        across,
        down,
        spread(outline.upper - height),
        upper,
        spread(way),
        spread(LASHES * smoothstep((np.float32(1.04) - aside) / np.float32(0.3))),
        np.clip(1.1 - across**2, 0, 1),
        skin,
        on_strip(skin.creases, across, down - upper),
    )


def _box(
    outline: EyeOutline, top: Curve, bottom: Curve, shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Rows and columns of the picture that a blink may change, and a little more."""
    inside = np.abs(ACROSS) < 1 + _BEYOND + 0.05
    edges = np.concatenate([top[inside] - 0.06, bottom[inside] + STRIP])
    points = outline.pixels(np.tile(ACROSS[inside], 2), edges)
    return box_around(points.min(axis=0), points.max(axis=0), shape)


def _cover(ground: NDArray[np.uint8], eye: _Eye, amount: float) -> NDArray[np.uint8]:
    """One eye's box `(h, w, 3)` with the lid down by `amount`."""
    way = np.float32(amount) * eye.way
    below: Map = eye.down - eye.upper - way  # of the margin
    height = eye.upper - eye.top
    depth = np.maximum(eye.down - eye.top, 0)
    # Skin at a share t of its height goes down by way * ((1 - bend) t + bend t^2): solved for t.
    linear = height + np.float32(1 - _BEND) * way
    share: Map = 2 * depth / (linear + np.sqrt(linear**2 + 4 * _BEND * way * depth))
    slid = np.where(depth > 0, eye.top + height * share - eye.down, 0)
    shift = np.where(below < 0, slid, -way)[..., None]
    where = eye.pixels + shift * eye.downwards
    known = ramp(amount / 0.25)
    texture = ground + known * eye.unrolled
    seen = cv2.remap(texture, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    # The shut lid is vaulted and lies in the light; what is dark at its margin are lashes.
    share = np.minimum(share, 1)
    vault = _VAULT * (4 * share * (1 - share) - 0.5)
    lit = (eye.skin.light - 1) * smoothstep(np.float32(1.5) * share)[..., None] + vault[..., None]
    seen *= 1 + (amount * eye.lit)[..., None] * lit
    seen -= (_DULL * amount * eye.lit)[..., None] * np.maximum(seen - eye.skin.shine, 0)
    margin = smoothstep(below / np.float32(0.02) + np.float32(0.5))[..., None]
    margin *= (eye.lashes / np.float32(LASHES))[..., None]
    seen += _LASH_DEPTH * ramp(amount / 0.5) * margin * (np.minimum(seen, eye.skin.tone) - seen)

    thick: Map = np.maximum(eye.lashes, np.float32(1e-3))
    opaque = smoothstep((eye.lashes - below) / thick)[..., None]
    covered = ground + opaque * (seen - ground)
    # Lashes turn with the lid: as long as they look, from up to down.
    turned = 1 - 2 * amount
    turned = float(np.copysign(max(abs(turned), 0.1), turned))
    covered -= known * on_strip(eye.skin.tufts, eye.across, below / np.float32(turned))
    covered = np.where((eye.way > 1e-4)[..., None], covered, ground)
    return np.clip(covered + 0.5, 0, 255).astype(np.uint8)
