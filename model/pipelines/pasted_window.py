"""What of the networks' crops is pasted into the frames of a job: only that is decoded and made finer.

    inner lips of all frames, and how far a mouth is blended ─▶ made finer (no normalisation: nearly exact)
    outer lips, and skin around them for the light ────────────▶ decoded

One window for a whole job: what is decoded depends a little on the window's edge (and, with an autoencoder
that normalises, on all of it), and one that changed with the mouth would make mouths flicker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import warp_points
from model.face.landmarks import INNER_LIPS, OUTER_LIPS
from model.face.mouth_blend import REACH
from model.face.mouth_crop import NetworkCrop, network_affine
from model.networks.latent_window import Window

_SKIN_CELLS: Final = 1
"""Around the outer lips: for the light, and for the decoder to see beyond the edge. 44 dB of what the whole
distilled decoder gives; a cell more brings 3 and costs a third. An autoencoder that normalises gives 34 dB."""
_DETAIL_CELLS: Final = 1
"""Around what is blended: 56 dB of what the whole detail network gives."""


@dataclass(frozen=True)
class PastedWindow:
    """Parts of the latent grid, in cells.

    Attributes:
        decoded: What the autoencoder draws.
        finer: What the detail network draws, within that.
    """

    decoded: Window
    finer: Window


def pasted_window(
    crop: NetworkCrop,
    targets: Iterable[NDArray[np.float32]],
    reference: NDArray[np.float32],
    size: int,
) -> PastedWindow | None:
    """The windows of a job; None where the whole crop is pasted.

    Args:
        crop: What the networks look at.
        targets: All faces `(T, 68, 2)`, crop units.
        reference: Of the picture that the crop's size comes from `(68, 2)`.
        size: Side of the latent grid in cells.
    """
    if crop == "face":
        return None
    lips = [*OUTER_LIPS, *INNER_LIPS]
    low, high = np.full((2, 2), np.inf), np.full((2, 2), -np.inf)
    for face in targets:
        affine = network_affine(crop, face, reference)
        points = warp_points(affine, face[lips])
        reach = REACH * float(affine[0, 0])
        inner = points[len(OUTER_LIPS) :]
        low = np.minimum(low, (points.min(axis=0), inner.min(axis=0) - reach))
        high = np.maximum(high, (points.max(axis=0), inner.max(axis=0) + reach))
    decoded = _cells(low.min(axis=0), high.max(axis=0), _SKIN_CELLS, size)
    return PastedWindow(decoded, _cells(low[1], high[1], _DETAIL_CELLS, size))


def _cells(low: NDArray[np.float64], high: NDArray[np.float64], margin: int, size: int) -> Window:
    """The cells from `low` to `high` `(2,)`, x first, crop units, and `margin` more; never none."""
    left, top = np.clip(np.floor(low * size).astype(int) - margin, 0, size - 1)
    right, bottom = np.clip(np.ceil(high * size).astype(int) + margin, (left + 1, top + 1), size)
    return Window(int(top), int(left), int(bottom - top), int(right - left))
