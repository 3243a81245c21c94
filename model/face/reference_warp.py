"""The reference moved to another frame's face: pose by one similarity, lips and jaw by the portrait engine.

The engine is made once per reference. A frame's target is carried into the reference's own frame,
drawn there and carried back, so that a target in the reference's own pose gives the engine's picture
untouched.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import fit_similarity, invert_affine, pixel_affine, warp_points
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import POSE
from model.face.mouth_fill import Inner
from model.face.portrait_engine import PortraitEngine


class ReferenceWarp:
    """One reference, ready to be moved to any frame.

    Args:
        crop: The reference `(S, S, 3)` uint8 RGB.
        landmarks: Its face `(68, 2)`, crop units.
        inner_mouths: What `inner="bank"` draws; may be None when that is never asked for.
    """

    def __init__(
        self,
        crop: NDArray[np.uint8],
        landmarks: NDArray[np.float32],
        inner_mouths: InnerMouthBank | None = None,
    ) -> None:
        self._engine = PortraitEngine(crop, landmarks, inner_mouths)
        self._pose = np.asarray(landmarks, np.float32)[list(POSE)]

    @property
    def size(self) -> int:
        """Side of crop and pictures in pixels."""
        return self._engine.size

    def render(self, target: NDArray[np.float32], *, inner: Inner = "flat") -> NDArray[np.uint8]:
        """The reference with the pose, lips and jaw of `target`.

        Args:
            target: `(68, 2)`, crop units of the frame.
            inner: What is drawn between the lips (`PortraitEngine.render`).
        Returns:
            `(S, S, 3)` uint8 RGB.
        """
        pose = target[list(POSE)]
        if np.array_equal(pose, self._pose):
            return self._engine.render(target, inner=inner)
        affine = fit_similarity(self._pose, pose)
        own = self._engine.render(warp_points(invert_affine(affine), target), inner=inner)
        affine[:, :2] /= self.size  # from pixels of the reference
        moved = cv2.warpAffine(
            own,
            pixel_affine(affine, self.size),
            (self.size, self.size),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(moved, np.uint8)

    def render_many(
        self, targets: NDArray[np.float32], *, inner: Inner = "flat"
    ) -> NDArray[np.uint8]:
        """`render` for each of `targets` `(B, 68, 2)` -> `(B, S, S, 3)`."""
        return np.stack([self.render(target, inner=inner) for target in targets])
