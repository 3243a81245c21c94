"""The drawn mouth in the carried face: what the source does not show is the networks', all else is its own.

target's inner lips ─▶ soft mask, a little wider than the gap ──┐
source's opening ─▶ how much of the inner mouth is new ─────────┴─▶ drawn over carried
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import Affine, compose_affines, pixel_affine
from model.face.inner_mouth import inner_opening
from model.face.landmarks import INNER_LIPS
from model.face.mouth_light import no_brighter
from model.face.photograph_look import PhotographLook
from model.face.thin_plate import ramp

_GROWTH: Final = 0.006
"""Full strength reaches this far beyond the inner lips, crop units: landmarks miss a lip's edge by as much."""
_FEATHER: Final = 0.010
"""Width of the mask's edge beyond that."""
REACH: Final = _GROWTH + _FEATHER
"""Nothing beyond is the networks', crop units."""
_LIP_EDGE: Final = 0.010
"""Depth of the gap within which a lip still hides its teeth's detail."""
_CHANGE: Final = 0.05
"""Change of opening (gap over width) up to which the source's own inner mouth is still to be seen."""
_INVISIBLE: Final = 1 / 510
"""Less of anything is no level of a pixel."""
_SUBPIXEL: Final = 4  # binary digits of the polygon's corners


def drawn_share(target: NDArray[np.float32], own: NDArray[np.float32]) -> float:
    """How much of an inner mouth is the networks', 0 to 1; 0 where the source shows that very opening.

    Args:
        target: The target landmarks `(68, 2)`, crop units.
        own: The landmarks of the source `(68, 2)`, crop units.
    """
    new = ramp(abs(float(inner_opening(target)) - float(inner_opening(own))) / _CHANGE)
    return new if new > _INVISIBLE else 0.0


def blend_mouth(
    carried: NDArray[np.uint8],
    part: tuple[slice, slice],
    size: int,
    drawn: NDArray[np.float32],
    target: NDArray[np.float32],
    own: NDArray[np.float32],
    affine: Affine,
    brightest: float,
    own_teeth: NDArray[np.float32] | None = None,
    look: PhotographLook | None = None,
) -> NDArray[np.float32]:
    """Draw the inner mouth into the carried face.

    Args:
        carried: Part of the source's own pixels, carried to the target `(h, w, 3)` uint8.
        part: Its rows and columns in the face's crop.
        size: Side of that crop, S.
        drawn: The networks' crop of the same face, or of its mouth, `(F, F, 3)`, 0 to 255, any F.
        target: The target landmarks `(68, 2)`, crop units.
        own: The landmarks of the source `(68, 2)`, crop units.
        affine: Crop units to those of the networks' crop.
        brightest: Brightness that no tooth exceeds.
        own_teeth: The source's own inner mouth `(S, S, 4)` where it stands in the skull, or None: what
            is finer in it than the networks' pixels is added to their drawing of it.
        look: How soft and how grainy the source is; None = as sharp as drawings are.
    Returns:
        `(h, w, 3)`, 0 to 255.
    """
    rows, columns = part
    first, last = (columns.start, rows.start), (columns.stop, rows.stop)
    blended = carried.astype(np.float32)
    new = drawn_share(target, own)
    lips = target[list(INNER_LIPS)]
    low = np.clip(np.floor((lips.min(axis=0) - REACH) * size).astype(int) - 1, first, last)
    high = np.clip(np.ceil((lips.max(axis=0) + REACH) * size).astype(int) + 2, first, last)
    width, height = (high - low).tolist()
    if new <= 0 or width <= 0 or height <= 0:
        return blended

    # 1. how much of each pixel is the networks'
    inside = np.zeros((height, width), np.uint8)
    corners = np.round((lips * size - 0.5 - low) * 2**_SUBPIXEL).astype(np.int32)
    cv2.fillPoly(inside, [corners], 1, shift=_SUBPIXEL)
    outside = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5) / size
    alpha = new * np.clip(1.0 - (outside - _GROWTH) / _FEATHER, 0.0, 1.0)

    # 2. their crop at the carried face's size, for this part alone
    corner = np.array([(1 / size, 0, low[0] / size), (0, 1 / size, low[1] / size)], np.float32)
    place = pixel_affine(compose_affines(affine, corner), len(drawn))
    there = (slice(low[1], high[1]), slice(low[0], high[0]))
    mouth = cv2.warpAffine(
        drawn,
        place,
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mouth = no_brighter(np.asarray(mouth, np.float32), brightest)
    if own_teeth is not None:
        drawn_px = size / (len(drawn) * float(affine[0, 0]))
        # lips cover teeth: nothing of them within a soft edge of the gap
        deep = cv2.distanceTransform(inside, cv2.DIST_L2, 5) / size
        seen = np.clip(deep / _LIP_EDGE, 0.0, 1.0).astype(np.float32)
        mouth += seen[..., None] * _finer_than(own_teeth[there], drawn_px)
    here = (
        slice(low[1] - rows.start, high[1] - rows.start),
        slice(low[0] - columns.start, high[0] - columns.start),
    )
    mixed = blended[here] + alpha.astype(np.float32)[..., None] * (mouth - blended[here])
    if look is not None:
        mixed = look.apply(mixed, np.asarray(new * inside, np.float32), *there)
    blended[here] = mixed
    return blended


def _finer_than(teeth: NDArray[np.float32], drawn_px: float) -> NDArray[np.float32]:
    """Detail of `teeth` `(h, w, 4)` that pixels of `drawn_px` of its own cannot hold `(h, w, 3)`."""
    alpha = teeth[..., 3:]
    solid = alpha * teeth[..., :3]
    blurred, share = (
        cv2.GaussianBlur(np.ascontiguousarray(x), (0, 0), max(drawn_px, 0.3))
        for x in (solid, alpha)
    )
    # beside the teeth nothing is known: the mean is taken over them alone
    coarse = blurred / np.maximum(share, 1e-3)[..., None]
    return np.asarray(alpha * (teeth[..., :3] - coarse), np.float32)
