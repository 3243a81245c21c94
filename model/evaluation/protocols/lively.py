"""Photographs that speak, still and with natural motion: is it the same person, whole, and with the same lips?

    photograph + voice ─▶ plan ─┬▶ still: the mouth alone ─────────────────┐
                                ├▶ natural: the same frames, head moved ───┴▶ identity, lips, texture
                                └▶ the photograph moved, silent ─▶ outline of the natural frames against it

Both columns say the same words with the same mouths: what differs is what the motion costs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clips import find_landmarks
from model.evaluation.metrics.film_faults import outline_damage, texture
from model.evaluation.protocols.video import System
from model.face.alignment import invert_affine, warp_points
from model.face.detection import FaceDetector
from model.face.head_motion import MovedPicture
from model.face.landmarks import mouth_opening
from model.pipelines.outputs import RenderPlan

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]
Row = dict[str, float]
Embedder = Callable[[list[Frames], Points], NDArray[np.float32]]

STILL: Final = "still"
NATURAL: Final = "natural"
TITLES: Final = {
    "photographs": "photographs",
    "identity": "cosine to the photograph, mean",
    "identity_least": "the same, worst photograph",
    "identity_loss": "still less natural, worst photograph",
    "stranger": "cosine to the photograph before, mean",
    "outline": "frames with a damaged outline, share",
    "outside_equal": "frames equal to the photograph beyond the reach, share",
    "lips_r": "opening as drawn against the wanted one, r at lag 0, mean",
    "lips_r_loss": "still less natural, worst photograph",
    "chin": "texture of the chin / the photograph's, median",
    "cheek": "texture of the cheeks / the photograph's, median",
}
_LOOKED_AT: Final = 10
"""Frames of a video whose identity and texture are measured."""
_STRIDE: Final = 2
"""Every so many frames a face is looked for again."""


@dataclass
class Lively:
    """Still and natural videos of photographs of unseen people.

    Attributes:
        detector: Finds the faces that were drawn.
        identity: Embeds faces; None = identity is not measured.
    """

    detector: FaceDetector
    identity: Embedder | None = None
    rows: dict[str, list[Row]] = field(default_factory=lambda: {STILL: [], NATURAL: []})
    _before: NDArray[np.float32] | None = None

    def add(
        self, image: Frames, voice: NDArray[np.float32], number: int, system: System
    ) -> list[Frames]:
        """Measure one photograph `(H, W, 3)` uint8 RGB that says `voice` `(N,)`, 16 kHz.

        Args:
            image: The photograph.
            voice: What it says.
            number: Of the photograph; its motion's seed.
            system: What draws.
        Returns:
            The natural frames.
        Raises:
            InputError: The photograph shows no face.
        """
        # 1. one plan, drawn still and moved
        options = dataclasses.replace(system.options, motion="natural", blink=True, seed=number)
        plan = system.pipeline.prepare(image, voice, options)
        assert plan.head is not None
        still = list(system.draw(dataclasses.replace(plan, head=None)))
        natural = list(system.draw(plan))

        # 2. where the face is in each of them
        back = invert_affine(plan.affine(0))
        own = warp_points(back, plan.reference_landmarks)
        mover = MovedPicture(plan.image, own, plan.head.motion, plan.fps)
        indices = plan.head.source_index.tolist()
        moved = np.stack([mover.landmarks(index) for index in indices])
        faces = {STILL: np.repeat(own[None], len(still), axis=0), NATURAL: moved}

        # 3. figures
        row_of = {}
        embedded = self._embed([image], own[None])
        for name, frames in ((STILL, still), (NATURAL, natural)):
            row_of[name] = self._figures(plan, frames, faces[name], own, embedded)
        if embedded is not None:
            if self._before is not None:
                row_of[STILL]["stranger"] = float(embedded[0] @ self._before)
            self._before = embedded[0]
            row_of[NATURAL]["identity_loss"] = (
                row_of[STILL]["identity"] - row_of[NATURAL]["identity"]
            )
        row_of[NATURAL]["lips_r_loss"] = row_of[STILL]["lips_r"] - row_of[NATURAL]["lips_r"]
        # the mouth moves within the still face, and the whole face with the head
        targets = warp_points(back, plan.target_landmarks)
        row_of[STILL]["outline"] = outline_damage(
            still, [image] * len(still), faces[STILL], targets
        )
        silent = (mover.move(image, index) for index in indices)
        along = moved + (targets - own)
        row_of[NATURAL]["outline"] = outline_damage(natural, silent, moved, along)
        outside = ~system.pipeline.soft_mask(plan)
        equal = [np.array_equal(frame[outside], image[outside]) for frame in natural]
        row_of[NATURAL]["outside_equal"] = float(np.mean(equal)) if outside.any() else 1.0
        for name, row in row_of.items():
            self.rows[name].append(row)
        return natural

    def figures(self) -> dict[str, Row]:
        """Still and natural to figures of all photographs."""
        return {name: _summary(rows) for name, rows in self.rows.items() if rows}

    def _figures(
        self,
        plan: RenderPlan,
        frames: list[Frames],
        faces: Points,
        own: Points,
        embedded: NDArray[np.float32] | None,
    ) -> Row:
        """What still and moved frames `(H, W, 3)` with `faces` `(T, 68, 2)`, pixels, are both measured on."""
        found = find_landmarks(self.detector, frames[::_STRIDE], faces[::_STRIDE])
        seen = np.isfinite(found).all(axis=(1, 2))
        wanted = mouth_opening(plan.target_landmarks[::_STRIDE])[seen]
        row = {"lips_r": float(np.corrcoef(mouth_opening(found[seen]), wanted)[0, 1])}
        chosen = np.flatnonzero(seen)
        chosen = chosen[np.linspace(0, len(chosen) - 1, _LOOKED_AT).astype(int)]
        looked_at = [frames[_STRIDE * k] for k in chosen]
        if embedded is not None:
            cosines = self._cosines(looked_at, found[chosen], embedded[0])
            row["identity"] = float(cosines.mean())
        first = texture(plan.image, own)
        each = [texture(x, y) for x, y in zip(looked_at, found[chosen], strict=True)]
        for key in ("chin", "cheek"):
            row[key] = float(np.mean([one[key] for one in each]) / max(first[key], 1e-6))
        return row

    def _embed(self, frames: list[Frames], faces: Points) -> NDArray[np.float32] | None:
        return None if self.identity is None else self.identity(frames, faces)

    def _cosines(
        self, frames: list[Frames], faces: Points, photograph: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        assert self.identity is not None
        return np.asarray(self.identity(frames, faces) @ photograph, np.float32)


def _summary(rows: list[Row]) -> Row:
    """One column of the table: means, medians of texture, and the worst where the title says so."""

    def of(key: str) -> NDArray[np.float64]:
        return np.array([row[key] for row in rows if key in row])

    figures: Row = {"photographs": float(len(rows))}
    for key in ("identity", "stranger", "outline", "outside_equal", "lips_r"):
        if len(of(key)):
            figures[key] = float(np.nanmean(of(key)))
    if len(of("identity")):
        figures["identity_least"] = float(of("identity").min())
    for key in ("identity_loss", "lips_r_loss"):
        if len(of(key)):
            figures[key] = float(np.nanmax(of(key)))
    for key in ("chin", "cheek"):
        figures[key] = float(np.nanmedian(of(key)))
    return figures
