"""What a denoiser looks at: the whole crop of a face, or the part of it around the mouth.

    face's crop units ── network_affine ──▶ units of the denoiser's crop, 0 to 1

In a mouth's crop the mouth takes about half of the width, so that a latent cell is half as large on the
face. Size and place come from the reference's mouth and from this face's nose: the crop neither grows
nor sinks with the mouth that is drawn, and what stands still in the skull stands still in it.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import Affine, lower_face_mask
from model.face.landmarks import MOUTH_CORNERS, mouth_width
from model.face.mouth_fill import Inner

NetworkCrop = Literal["face", "mouth"]

_NOSE_BASE: Final = (31, 32, 33, 34, 35)
_WIDTH: Final = 0.54
"""The reference's mouth width in units of its crop."""
_PLACE: Final = (0.5, 0.37)
"""Where the middle between its corners lies: a jaw opens downwards."""
_RING: Final = 1 / 6
"""Width of the edge that is carried, never drawn: skin for the networks to go by."""
_LEAST_WIDTH: Final = 0.05
"""Of a mouth, in the face's crop units: less is a landmark that went astray."""


def network_affine(
    crop: NetworkCrop, face: NDArray[np.float32], reference: NDArray[np.float32]
) -> Affine:
    """Transform from a face's crop units to those of the denoiser's crop of it.

    Args:
        crop: What the denoiser was trained on.
        face: Landmarks `(68, 2)`; of a mouth's crop, their nose base decides.
        reference: Landmarks `(68, 2)` of a picture of the same person.
    """
    if crop == "face":
        return np.eye(2, 3, dtype=np.float32)
    scale = _WIDTH / max(float(mouth_width(reference)), _LEAST_WIDTH)
    nose = list(_NOSE_BASE)
    below_nose = reference[list(MOUTH_CORNERS)].mean(axis=0) - reference[nose].mean(axis=0)
    shift = np.asarray(_PLACE) - scale * (face[nose].mean(axis=0) + below_nose)
    return np.array([(scale, 0, shift[0]), (0, scale, shift[1])], np.float32)


def network_inner(crop: NetworkCrop) -> Inner:
    """What the denoiser is shown between carried lips, in training and in use."""
    return "own" if crop == "mouth" else "flat"


def network_mask(crop: NetworkCrop, face: NDArray[np.float32], size: int) -> NDArray[np.bool_]:
    """What is generated in the denoiser's crop.

    Args:
        crop: What the denoiser was trained on.
        face: Landmarks `(68, 2)`, the face's crop units; pose points are looked at.
        size: Side of the mask in cells.
    Returns:
        `(size, size)`, True where generated: the lower face, or all of a mouth's crop but a ring.
    """
    if crop == "face":
        return lower_face_mask(face, size)
    ring = round(_RING * size)
    mask = np.zeros((size, size), np.bool_)
    mask[ring : size - ring, ring : size - ring] = True
    return mask
