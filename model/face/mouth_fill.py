"""What is seen between the lips of one portrait.

    cavity of the bank ──► shadow of the teeth ──► upper teeth ──► own inner mouth ──► own, stretched

From back to front: a real inner mouth of like form, in this photograph's light; the upper teeth,
which stand still in the skull while the lips uncover them - the photograph's own where it smiles,
the bank's otherwise; and, as long as the mouth is hardly more or less open than in the photograph,
simply the photograph's own pixels, a little stretched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.inner_mouth import TOOTH_LUMA, InnerMouthBank, LipCurves, inner_opening
from model.face.mouth_light import LUMA, USUAL_TOOTH, MouthLight
from model.face.thin_plate import Field, ramp, smoothstep

Inner = Literal["bank", "own", "flat", "none"]

_STRETCH: Final = 0.05
"""Change of opening (gap / width) over which the photograph's own inner mouth gives way."""
_OWN_FROM: Final = 0.04
_OWN_TO: Final = 0.08
"""Openings between which a photograph begins to count as showing its own inner mouth."""
_OWN_INSET: Final = 0.008
"""Depth below the lip's edge from which a photograph's teeth are surely teeth, crop units."""
_TEETH_SHOW: Final = 0.014
"""How far upper teeth reach below the resting upper lip, crop units (3 mm on an adult)."""
_HIDDEN: Final = 0.006
"""How far upper teeth reach below the lower lip of a mouth that is hardly open, crop units."""
_STRIP: Final = 0.024
_WHOLE: Final = 0.04
"""Gaps up to which a photograph shows a strip of its teeth, and from which it shows them whole."""
_USUAL_WIDTH: Final = 0.235
"""Inner width of a usual mouth, crop units."""
_LIP_SHADOW: Final = 0.016
"""Depth of the upper lip's shadow on the teeth, crop units."""
_OWN_SHADOW: Final = 0.35
_OWN_SHADOW_DEPTH: Final = 0.012
"""Strength and depth of its shadow on the photograph's own teeth, which have the light already."""
_AROUND: Final = 0.2
"""How far beyond the photograph's own lips a target's gap can lie, crop units."""
_TEETH_SHADOW: Final = 0.007
"""Depth of the teeth's shadow on what lies behind, crop units."""


@dataclass(frozen=True)
class Gap:
    """The part of a frame around the gap between the lips.

    Attributes:
        rows: Rows of the frame.
        columns: Columns of the frame.
        x: `(w,)` centres of the columns, crop units.
        v: `(h, w)`, 0 at the upper lip, 1 at the lower one.
        below_lip: `(h, w)` distance from the upper lip, crop units.
        lips: The target's inner lips.
        opening: The target's gap / inner width.
    """

    rows: slice
    columns: slice
    x: NDArray[np.float64]
    v: NDArray[np.float64]
    below_lip: Field
    lips: LipCurves
    opening: float

    @property
    def u(self) -> NDArray[np.float64]:
        """`(w,)`, 0 at the left corner, 1 at the right one."""
        return (self.x - self.lips.left) / max(self.lips.width, 1e-6)


class MouthFill:
    """Paints inner mouths for one portrait.

    Args:
        crop: `(S, S, 3)` uint8 RGB.
        landmarks: `(68, 2)` float32, crop units.
        bank: Where cavities and teeth come from; None when only the others are asked for.
    Attributes:
        brightest: Brightness that no tooth exceeds here: the light's, or the photograph's own teeth's.
    """

    def __init__(
        self, crop: NDArray[np.uint8], landmarks: NDArray[np.float32], bank: InnerMouthBank | None
    ) -> None:
        self._crop = crop
        self._size = crop.shape[0]
        self._landmarks = landmarks
        self._bank = bank
        self._lips = LipCurves.from_landmarks(landmarks)
        self._opening = float(inner_opening(landmarks))
        self._own = ramp((self._opening - _OWN_FROM) / (_OWN_TO - _OWN_FROM))
        self._light = MouthLight.from_crop(crop, landmarks)
        tooth = self._tooth_colour()
        self._gain = (tooth / (TOOTH_LUMA * USUAL_TOOTH)).astype(np.float32)
        self.brightest = max(self._light.brightest, float(self._own * (tooth @ LUMA)))
        self._teeth = self._place_teeth()
        self._own_teeth = self._own_mouth()
        self._behind_teeth = self._shade_behind_teeth()

    @property
    def own_teeth(self) -> Field | None:
        """The photograph's own inner mouth `(S, S, 4)` where it stands in the skull, alpha 0 to 1; None = shut."""
        return self._own_teeth

    @property
    def own_share(self) -> float:
        """How much of its own inner mouth the photograph shows, 0 to 1."""
        return float(self._own)

    @property
    def has_bank(self) -> bool:
        """Whether "bank" can be painted."""
        return self._bank is not None

    def paint(self, gap: Gap, inner: Inner) -> Field:
        """The gap's part of the frame `(h, w, 3)` float32, 0 to 255; the caller cuts it out."""
        if inner == "none":
            return self._stretched(gap)
        if inner == "flat":
            amount = np.float32(ramp(gap.opening / _STRETCH))
            if amount >= 1:
                return np.broadcast_to(self._light.dark, (*gap.v.shape, 3))
            own = self._stretched(gap)
            return np.asarray(own + amount * (self._light.dark - own), np.float32)

        change = gap.opening - self._opening
        if self._opening < _OWN_FROM:  # a shut mouth has nothing to show: give way soon
            foreign = np.float32(ramp(change / (0.6 * _STRETCH)))
        else:
            foreign = np.float32(ramp(abs(change) / _STRETCH))
        if foreign <= 0:
            return self._stretched(gap)
        picture: Field = np.tile(self._light.dark, (*gap.v.shape, 1))
        if inner == "bank":
            picture = self._cavity(gap) * self._behind_teeth[gap.rows, gap.columns, None]
        if inner == "bank" and self._teeth is not None:
            teeth = self._teeth[gap.rows, gap.columns]
            corner = np.minimum(gap.u, 1 - gap.u).astype(np.float32)
            shade = 0.45 + 0.55 * smoothstep(gap.below_lip / _LIP_SHADOW)
            shade = shade * smoothstep((corner - 0.02) / 0.24)
            picture = picture + teeth[..., 3:] * (shade[..., None] * teeth[..., :3] - picture)
        if self._own_teeth is not None:
            own = self._own_teeth[gap.rows, gap.columns]
            shade = 1.0 - _OWN_SHADOW * (1.0 - smoothstep(gap.below_lip / _OWN_SHADOW_DEPTH))
            picture = picture + own[..., 3:] * (shade[..., None] * own[..., :3] - picture)
        if foreign < 1:
            own = self._stretched(gap)
            picture = own + foreign * (picture - own)
        return np.asarray(picture, np.float32)

    def _stretched(self, gap: Gap) -> Field:
        """The photograph's own inner mouth, stretched to the target's form."""
        own_x = self._lips.left + gap.u * self._lips.width
        top, bottom = self._lips.evaluate(own_x)
        own_y = top + gap.v * (bottom - top)
        columns = np.broadcast_to((own_x * self._size - 0.5).astype(np.float32), gap.v.shape)
        picture = cv2.remap(
            self._crop,
            columns.copy(),
            (own_y * self._size - 0.5).astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(picture, np.float32)

    def _cavity(self, gap: Gap) -> Field:
        """The bank's inner mouth of this form, in this photograph's light."""
        assert self._bank is not None
        form = (gap.opening, gap.lips.width / max(self._lips.width, 1e-6))
        patch = self._lit(self._bank.blend(*form))
        height, width = patch.shape[:2]
        columns = (np.clip(gap.u, 0.0, 1.0) * width - 0.5).astype(np.float32)
        picture = cv2.remap(
            patch,
            np.broadcast_to(columns, gap.v.shape).copy(),
            (gap.v * height - 0.5).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(picture, np.float32)

    def _lit(self, colours: Field) -> Field:
        """Colours of the bank `(..., 3)` in this photograph's light."""
        lit: Field = colours * self._gain
        if self._light.chroma < 1:
            grey = (lit @ LUMA)[..., None]
            lit = np.asarray(grey + np.float32(self._light.chroma) * (lit - grey), np.float32)
        return lit

    def _tooth_colour(self) -> NDArray[np.float32]:
        """`(3,)` RGB: what the photograph shows of its teeth, or else what its light lets expect."""
        expected = self._light.tooth
        if self._own <= 0.0:
            return expected
        x = np.linspace(self._lips.left, self._lips.right, 42)[6:-6]
        top, bottom = self._lips.evaluate(x)
        y = top + np.linspace(0.25, 0.7, 8)[:, None] * (bottom - top)
        last = self._size - 1
        rows = np.clip(y * self._size, 0, last).astype(int)
        columns = np.broadcast_to(np.clip(x * self._size, 0, last).astype(int), rows.shape)
        seen = self._crop[rows, columns].reshape(-1, 3).astype(np.float32)
        luma = seen @ LUMA
        tooth = seen[luma >= np.percentile(luma, 70)].mean(axis=0)
        # Between the lips there may be tongue or darkness as well: those are no teeth.
        redness = float(tooth[0] - tooth[1:].mean()) / max(float(tooth @ LUMA), 1.0)
        bright = ramp((float(tooth @ LUMA) / float(expected @ LUMA) - 0.5) / 0.25)
        trust = np.float32(self._own * bright * (1.0 - ramp((redness - 0.25) / 0.2)))
        return np.asarray(expected + trust * (tooth - expected), np.float32)

    def _place_teeth(self) -> Field | None:
        """The bank's upper teeth in this skull `(S, S, 4)`; None where the face shows its own.

        A photograph that is hardly open shows only a strip of its own: the bank's go on below it.
        """
        points = self._landmarks
        gap = float((points[[67, 66, 65], 1] - points[[61, 62, 63], 1]).mean())
        hidden = 1.0 - ramp((gap - _STRIP) / (_WHOLE - _STRIP))
        share = max(1.0 - self._own, hidden)
        if self._bank is None or share <= 0.0:
            return None
        right, down = (points[64] - points[60]).tolist()
        middle = (points[62, 0] + points[66, 0]) / 2
        show = _TEETH_SHOW + self._own * max(gap + _HIDDEN - _TEETH_SHOW, 0.0)
        edge = np.array((middle, points[62, 1] + show), np.float32)
        scale = float(np.clip(self._lips.width / _USUAL_WIDTH, 0.75, 1.25)) ** 0.5
        layer = self._bank.place_teeth(self._size, edge, float(np.arctan2(down, right)), scale)
        layer[..., :3] = self._lit(layer[..., :3])
        layer[..., 3] *= np.float32(share)
        return layer

    def _shade_behind_teeth(self) -> Field:
        """Factor `(S, S)` on what lies behind the upper teeth: they keep the light from it."""
        shade = np.ones((self._size, self._size), np.float32)
        layers = [layer for layer in (self._teeth, self._own_teeth) if layer is not None]
        if not layers:
            return shade
        rows, columns = self._around
        front = np.max([layer[rows, columns, 3] for layer in layers], axis=0)
        sigma = _TEETH_SHADOW * self._size
        blurred = cv2.GaussianBlur(front, (0, 0), sigma)
        down = np.array([(1.0, 0.0, 0.0), (0.0, 1.0, sigma)])
        shadow = cv2.warpAffine(blurred, down, blurred.shape[::-1])
        shade[rows, columns] = 1.0 - 0.65 * shadow
        return shade

    @property
    def _around(self) -> tuple[slice, slice]:
        """Pixels around the mouth, as far as any gap of any target goes."""
        lips = np.concatenate([self._lips.upper, self._lips.lower])
        low = np.clip(np.floor((lips.min(axis=0) - _AROUND) * self._size), 0, self._size - 1)
        high = np.clip(np.ceil((lips.max(axis=0) + _AROUND) * self._size), low + 1, self._size)
        (left, top), (right, bottom) = low.astype(int).tolist(), high.astype(int).tolist()
        return slice(top, bottom), slice(left, right)

    def _own_mouth(self) -> Field | None:
        """The photograph's own inner mouth `(S, S, 4)`, alpha 0 to 1; None when it is shut.

        Under the raised upper lip it goes on as it is at the lip's edge: more of the same teeth.
        """
        if self._own <= 0.0:
            return None
        rows, columns = self._around
        x, down = (
            (np.arange(side.start, side.stop) + 0.5) / self._size for side in (columns, rows)
        )
        y = np.repeat(down[:, None], len(x), axis=1)
        top, bottom = self._lips.evaluate(x)
        edge = np.minimum(top + _OWN_INSET, (top + bottom) / 2)
        source = (np.maximum(y, edge) * self._size - 0.5).astype(np.float32)
        across = np.arange(columns.start, columns.stop, dtype=np.float32)
        layer = np.zeros((self._size, self._size, 4), np.float32)
        own = layer[rows, columns]
        own[..., :3] = cv2.remap(
            self._crop, np.broadcast_to(across, source.shape).copy(), source, cv2.INTER_LINEAR
        )
        # What the photograph does not show lies in the raised lip's shadow.
        own[..., :3] *= 1.0 - 0.4 * smoothstep(((edge - y) / 0.014).astype(np.float32))[..., None]
        depth = np.minimum(bottom - y, 2 * (bottom - top))
        inside = (x > self._lips.left) & (x < self._lips.right)
        own[..., 3] = self._own * smoothstep((depth / 0.008).astype(np.float32)) * inside
        return layer
