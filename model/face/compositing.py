"""Put what was drawn back into the photograph it came from.

    crop ─▶ colour of the photograph ─▶ + detail of the warped photograph ─▶ inverse similarity
                                                                                    │
    photograph, or its own pixels carried ── soft mask of the face, or mouth ───▶ frame

Outside the soft mask a frame is the photograph, bit for bit. The mask is the hull of every jaw of
the job with a margin, so the chin's way is inside it, and it ends before the generated part does.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ShapeError
from model.face.alignment import (
    Affine,
    invert_affine,
    pixel_affine,
    source_pixels,
    warp_points,
)
from model.face.inner_mouth import LipCurves
from model.face.landmarks import CONTOUR
from model.face.thin_plate import FIRST_ROW, GRID, Field, smoothstep

Picture = NDArray[np.float32]
Box = tuple[tuple[float, float], tuple[float, float]]
"""Low and high x, low and high y, crop units."""

_MASK_PX: Final = 512
"""Side of the square that the mask is drawn in."""
_MARGIN: Final = 0.020
"""Full strength reaches this far beyond the jaws, crop units."""
_FEATHER: Final = 0.050
"""Width of the mask's edge beyond that, crop units."""
_FOOTAGE_MARGIN: Final = 0.012
_FOOTAGE_FEATHER: Final = 0.030
"""The same for one frame's own face: its chin goes nowhere, and what lies behind is the frame's."""
_INSET: Final = 0.008
"""The mask ends so far within what was generated, one pixel of 128."""
_TOP_FEATHER: Final = 0.030
"""Width of its edge at the nose base: the upper lip begins 0.05 below."""
_SIDE_FEATHER: Final = 0.045
RESHARPEN: Final = np.float32(0.25)
"""Share of the finest detail that is added to what is pasted: on held-out films mouths so have 0.76 instead of
0.65 of the real sharpness, for 0.1 dB."""
REGAIN: Final = np.float32(0.6)
"""The like for carried skin, at the half of a pixel on both axes twice this share."""
_LEAST_BLUR: Final = 0.2
"""A Gaussian narrower than this many pixels changes nothing."""
BOX_FEATHER: Final = 0.012
"""Width of the edge at which a mouth's box passes into carried skin, crop units."""
_LIP_EDGE: Final = 0.006
"""Width of the edge at which restored detail ends between the lips, crop units."""


class Compositor:
    """Pastes the crops of one job into its picture.

    Args:
        image: `(H, W, 3)`, uint8 RGB.
        affine: Picture pixels to crop units.
        landmarks: All faces of the job `(T, 68, 2)`, crop units, the reference among them.
        generated: `(n, n)`, True where the crop was generated; rectangular.
        close: Keep the mask close to the faces, as footage wants it.
    Attributes:
        image: As given.
        rows: Of the picture, that the mask can touch.
        columns: Of the picture, that the mask can touch.
        share: The mask there `(h, w, 1)`, 0 to 1.
    Raises:
        ShapeError: An array has another shape.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        affine: Affine,
        landmarks: NDArray[np.float32],
        generated: NDArray[np.bool_],
        *,
        close: bool = False,
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ShapeError(
                f"image has shape {image.shape}, {image.dtype}; expected (H, W, 3) uint8"
            )
        self.image = image
        self._affine = affine
        self._soft = soft_mask(landmarks, generated, close=close)
        self.rows, self.columns = self._region()
        size = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)
        self._region_size = size
        alpha = cv2.warpAffine(
            self._soft,
            self.affine_from(self.rows, self.columns, _MASK_PX),
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        self.share = np.asarray(alpha, np.float32)[..., None]
        self._background = image[self.rows, self.columns].astype(np.float32)
        y, x = np.mgrid[self.rows, self.columns]
        self._places = np.stack([x, y], axis=-1).astype(np.float32)

    @property
    def alpha(self) -> Picture:
        """The soft mask over the whole picture `(H, W)`, 0 to 1."""
        full = np.zeros(self.image.shape[:2], np.float32)
        full[self.rows, self.columns] = self.share[..., 0]
        return full

    def paste(self, crop: NDArray[np.uint8] | Picture) -> NDArray[np.uint8]:
        """A frame with the lower face of a crop.

        Args:
            crop: `(S, S, 3)`, 0 to 255, any S.
        Returns:
            `(H, W, 3)` uint8; where `alpha` is 0, the picture's own values.
        """
        return self._frame(self._place(crop, self.rows, self.columns, len(crop)))

    def paste_mouth(
        self,
        mouth: NDArray[np.uint8] | Picture,
        part: tuple[slice, slice],
        size: int,
        backward: Field,
    ) -> NDArray[np.uint8]:
        """A frame of the picture's own pixels, carried, with a drawn mouth.

        Skin is looked up in the picture itself, once: cut out, carried and put back, it would be interpolated
        three times, and a chin would keep two thirds of its texture.

        Args:
            mouth: `(h, w, 3)`, 0 to 255; empty where none is drawn.
            part: Its rows and columns in the face's crop.
            size: Side of that crop.
            backward: Where carried pixels come from, `model.face.thin_plate`'s field.
        Returns:
            As `paste`.
        """
        carried = self._carry(backward)
        box, rows, columns = self.part_pixels(part, size)
        if mouth.size and rows.start < rows.stop and columns.start < columns.stop:
            there = (
                slice(rows.start - self.rows.start, rows.stop - self.rows.start),
                slice(columns.start - self.columns.start, columns.stop - self.columns.start),
            )
            corner = (part[1].start, part[0].start)
            placed = self._place(mouth, rows, columns, size, corner)
            share = self.share_of(box, rows, columns)
            carried[there] += share * (placed - carried[there])
        return self._frame(carried)

    def _frame(self, region: Picture) -> NDArray[np.uint8]:
        mixed = self._background + self.share * (region - self._background)
        frame = self.image.copy()
        frame[self.rows, self.columns] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
        return frame

    def _carry(self, backward: Field) -> Picture:
        """The picture in the mask's region, seen through a field."""
        ways = cv2.warpAffine(
            backward @ self.to_pixels,
            self.to_nodes,
            self._region_size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        seen = cv2.remap(
            self.image, self._places - ways, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        # Cubic interpolation takes most of the finest detail half-way between two pixels and nothing on one:
        # given back where it was taken, skin that moves slowly keeps its texture and does not pulse.
        between = ways - np.floor(ways)
        lost = between[..., 0] * (1 - between[..., 0]) + between[..., 1] * (1 - between[..., 1])
        carried = seen.astype(np.float32)
        finest = carried - cv2.GaussianBlur(seen, (3, 3), 0)
        return carried + (REGAIN * lost)[..., None] * finest

    def _place(
        self,
        crop: NDArray[np.uint8] | Picture,
        rows: slice,
        columns: slice,
        size: int,
        corner: tuple[int, int] = (0, 0),
    ) -> NDArray[np.float32]:
        """Part of a crop of `size`, from its pixel `corner` (x, y) on, as the picture's `rows` and `columns`."""
        to_crop = self.affine_from(rows, columns, size)
        to_crop[:, 2] -= corner
        sigma = self.blur_px(size)
        smooth = crop if sigma is None else cv2.GaussianBlur(crop, (0, 0), sigma)
        placed = cv2.warpAffine(
            smooth.astype(np.float32),
            to_crop,
            (columns.stop - columns.start, rows.stop - rows.start),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        # Cut out and put back, a picture has been interpolated twice and lost a part of its finest detail.
        sharpened = placed + RESHARPEN * (placed - cv2.GaussianBlur(placed, (3, 3), 0))
        return np.asarray(sharpened, np.float32)

    def blur_px(self, size: int) -> float | None:
        """Standard deviation of the blur that a crop of `size` needs before it is put back; None = none."""
        # scikit-image's rule. `low_pass` is stronger near 1, as the networks' crops want it: here it would
        # take a quarter of the sharpness of a crop that is put back where it came from, this a tenth.
        sigma = (size / source_pixels(self._affine) - 1.0) / 2.0
        return sigma if sigma > _LEAST_BLUR else None

    @property
    def to_pixels(self) -> NDArray[np.float32]:
        """Ways `(..., 2)` in crop units @ this `(2, 2)` = ways in the picture's pixels."""
        return np.asarray(invert_affine(self._affine)[:, :2].T, np.float32)

    @property
    def to_nodes(self) -> Affine:
        """Pixels of the mask's region to nodes of `model.face.thin_plate`'s grid."""
        matrix = self.affine_from(self.rows, self.columns, GRID)
        matrix[:, 2] += (0.5, 0.5 - FIRST_ROW)
        return matrix

    def part_pixels(self, part: tuple[slice, slice], size: int) -> tuple[Box, slice, slice]:
        """A part of a crop of `size`: its box, and the picture's rows and columns that it can touch."""
        y, x = ((side.start / size, side.stop / size) for side in part)
        box = (x, y)
        (left, right), (top, bottom) = box
        corners = np.array([(left, top), (right, top), (left, bottom), (right, bottom)], np.float32)
        placed = warp_points(invert_affine(self._affine), corners)
        low, high = np.floor(placed.min(axis=0)), np.ceil(placed.max(axis=0)) + 1
        columns, rows = (
            slice(*np.clip((low[k], high[k]), side.start, side.stop).astype(int).tolist())
            for k, side in enumerate((self.columns, self.rows))
        )
        return box, rows, columns

    def share_of(self, box: Box, rows: slice, columns: slice) -> Picture:
        """How much of each pixel is a box's, soft within its edges `(h, w, 1)`."""
        matrix = pixel_affine(self._affine, 1)
        x, y = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)[:, None]
        depth = np.inf
        for axis, (low, high) in enumerate(box):
            along = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] + 0.5
            depth = np.minimum(depth, np.minimum(along - low, high - along))
        return smoothstep(np.asarray(depth / BOX_FEATHER, np.float32))[..., None]

    def _region(self) -> tuple[slice, slice]:
        """The part of the picture that the mask can touch; at least one pixel."""
        low, high = _extent(self._soft > 0)
        corners = np.array(
            [(low[0], low[1]), (high[0], low[1]), (low[0], high[1]), (high[0], high[1])]
        )
        placed = warp_points(invert_affine(self._affine), corners.astype(np.float32))
        height, width = self.image.shape[:2]
        spans = []
        for axis, limit in ((1, height), (0, width)):
            start = int(np.clip(np.floor(placed[:, axis].min()), 0, limit - 1))
            stop = int(np.clip(np.ceil(placed[:, axis].max()) + 1, start + 1, limit))
            spans.append(slice(start, stop))
        return spans[0], spans[1]

    def affine_from(self, rows: slice, columns: slice, size: int) -> NDArray[np.float32]:
        """Pixels of a part of the picture to pixels of a crop of `size`."""
        matrix = pixel_affine(self._affine, size)
        matrix[:, 2] += matrix[:, :2] @ np.array((columns.start, rows.start), np.float32)
        return matrix


def soft_mask(
    landmarks: NDArray[np.float32], generated: NDArray[np.bool_], *, close: bool = False
) -> Picture:
    """What is pasted: around all jaws of a job, inside of what was generated.

    Args:
        landmarks: `(T, 68, 2)`, crop units.
        generated: `(n, n)`, True where the crop was generated; rectangular.
        close: Keep close to the faces.
    Returns:
        `(512, 512)`, 0 to 1, over the crop.
    """
    contour = landmarks[:, list(CONTOUR)].reshape(-1, 2).astype(np.float32)
    hull = cv2.convexHull(contour)[:, 0]
    # Room around the crop, so that a hull that leaves it keeps its distances.
    border = _MASK_PX // 4
    canvas = np.full((_MASK_PX + 2 * border,) * 2, 255, np.uint8)
    cv2.fillConvexPoly(canvas, np.round(hull * _MASK_PX + border).astype(np.int32), 0)
    outside = cv2.distanceTransform(canvas, cv2.DIST_L2, 5)[border:-border, border:-border]
    margin, feather = (_FOOTAGE_MARGIN, _FOOTAGE_FEATHER) if close else (_MARGIN, _FEATHER)
    face = 1.0 - smoothstep((outside.astype(np.float32) / _MASK_PX - margin) / feather)

    low, high = _extent(generated)
    centres = (np.arange(_MASK_PX, dtype=np.float32) + 0.5) / _MASK_PX
    sides = np.minimum(centres - low[0], high[0] - centres) - _INSET
    top = centres - low[1] - _INSET
    bottom = high[1] - centres - _INSET
    down = smoothstep(top / _TOP_FEATHER) * smoothstep(bottom / _FEATHER)
    mask: Picture = face * down[:, None] * smoothstep(sides / _SIDE_FEATHER)[None, :]
    return mask.astype(np.float32)


def add_detail(crop: Picture, warped: NDArray[np.uint8], target: NDArray[np.float32]) -> Picture:
    """Add the photograph's fine detail to a generated crop.

    A crop holds no pores, no beard and no sharp lip beyond its own resolution. The portrait engine
    moves the photograph itself: what its picture has beyond that goes on top, save between the lips.

    Args:
        crop: `(s, s, 3)`, 0 to 255.
        warped: The portrait engine's picture of the same face `(S, S, 3)` uint8, S > s.
        target: That face `(68, 2)`, crop units.
    Returns:
        `(S, S, 3)`, not clipped.
    """
    size = len(warped)
    detail = warped.astype(np.float32)
    detail -= band_limit(detail, len(crop))
    detail *= _outside_lips(target, size)[..., None]
    upsampled = cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(upsampled + detail, np.float32)


def _outside_lips(target: NDArray[np.float32], size: int) -> Picture:
    """0 between the lips, 1 elsewhere `(size, size)`."""
    centres = (np.arange(size) + 0.5) / size
    lips = LipCurves.from_landmarks(target)
    top, bottom = lips.evaluate(centres)
    y = centres[:, None]
    cover = np.clip(np.minimum(y - top, bottom - y) / _LIP_EDGE + 0.5, 0.0, 1.0)
    cover *= np.clip((bottom - top) / _LIP_EDGE, 0.0, 1.0)
    cover *= (centres > lips.left) & (centres < lips.right)
    return np.asarray(1.0 - cover, np.float32)


def band_limit(picture: Picture, size: int) -> Picture:
    """`picture` as a crop of `size` pixels would show it, at its own size."""
    own = picture.shape[0]
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (own, own), interpolation=cv2.INTER_CUBIC), np.float32)


def _extent(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Low and high corner (x, y) of what is True, as shares of the side."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ShapeError("the mask is empty; expected a face whose lower half lies in its crop")
    size = len(mask)
    low = np.array((columns[0], rows[0]), np.float32) / size
    high = np.array((columns[-1] + 1, rows[-1] + 1), np.float32) / size
    return low.astype(np.float32), high.astype(np.float32)
