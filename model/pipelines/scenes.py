"""What mouths are drawn into: one photograph for all frames, or the frames of a film.

    photograph ─▶ one Source for all frames ──┐
    film ───────▶ a Source for every frame ───┴─▶ carried to the target landmarks ─▶ frame

Skin, chin, jaw, beard, collar, ears and hair of a frame are its source's own pixels: the photograph's,
or the very frame's, never another's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_image, lower_face_mask, source_pixels
from model.face.compositing import Compositor
from model.face.inner_mouth import InnerMouthBank
from model.face.portrait_engine import PortraitEngine
from model.media.frames import read_in_order
from model.pipelines.outputs import Footage, RenderPlan

CARRIED_PX: Final = (256, 768)
"""Least and greatest side of the crop in which a face is carried; its own size between them."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """Frames that are drawn together.

    Attributes:
        first: Number of its first frame, see `batch_spans`.
        size: How many frames it has, but for the end of the video.
        wanted: Which of its frames are asked for.
        pictures: Footage only: the frames to draw into, all of the batch's.
    """

    first: int
    size: int
    wanted: slice
    pictures: list[Picture] | None = None


def batch_spans(num_frames: int, most: int) -> Iterator[range]:
    """Frames that are drawn together: 2, 2, 4, 8 ... and then `most` at a time; who watches sees the first ones soon.

    Spans of `most` frames begin at its multiples, if it is a power of two.
    """
    first, size = 0, min(2, most)
    while first < num_frames:
        yield range(first, first + size)
        first += size
        size = min(max(first, 2), most)


def plan_batches(plan: RenderPlan, start: int, stop: int) -> Iterator[Batch]:
    """The batches that frames `start` to `stop` need, with their pictures read one batch at a time."""
    spans = [x for x in batch_spans(stop, plan.batch_size) if x.stop > start]
    footage = plan.footage
    pictures: Iterator[Picture] = iter(())
    if footage is not None:
        end = min(spans[-1].stop, plan.num_frames)
        shown = footage.source_index[spans[0].start : end]
        pictures = read_in_order(footage.frames, shown.tolist())
    for span in spans:
        first, size = span.start, len(span)
        wanted = slice(max(start - first, 0), min(stop - first, size))
        if footage is None:
            yield Batch(first, size, wanted)
        else:
            count = min(size, plan.num_frames - first)
            yield Batch(first, size, wanted, [next(pictures) for _ in range(count)])


@dataclass(frozen=True, eq=False)
class Source:
    """A picture that a mouth is drawn into.

    Attributes:
        picture: `(H, W, 3)` uint8 RGB.
        affine: Its pixels to crop units `(2, 3)`.
        landmarks: The face that it shows `(68, 2)`, crop units.
        engine: Carries its pixels to target landmarks.
        compositor: Puts a finished crop back.
    """

    picture: Picture
    affine: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    engine: PortraitEngine
    compositor: Compositor

    @classmethod
    def of(
        cls,
        picture: Picture,
        affine: NDArray[np.float32],
        landmarks: NDArray[np.float32],
        targets: NDArray[np.float32],
        inner_mouths: InnerMouthBank | None,
        *,
        close: bool,
    ) -> Source:
        """A picture, ready to be drawn into.

        Args:
            picture: `(H, W, 3)` uint8 RGB.
            affine: Its pixels to crop units.
            landmarks: Its face `(68, 2)`, crop units.
            targets: The faces that will be drawn into it `(T, 68, 2)`.
            inner_mouths: For presets without networks.
            close: See `Compositor`.
        """
        size = int(np.clip(round(source_pixels(affine)), *CARRIED_PX))
        engine = PortraitEngine(
            crop_image(picture, affine, size), landmarks, inner_mouths, match_look=not close
        )
        faces = np.concatenate([landmarks[None], targets])
        movable = lower_face_mask(landmarks, size)
        compositor = Compositor(picture, affine, faces, movable, close=close)
        return cls(picture, affine, landmarks, engine, compositor)


class Scene(Protocol):
    """What the frames of a plan are drawn into."""

    is_still: bool
    """Whether all frames have one source."""

    def source(self, batch: Batch, number: int) -> Source | None:
        """The source of frame `number`; None where its picture is shown as it is."""

    def movable(self, number: int) -> NDArray[np.bool_]:
        """Where frame `number` may differ from its source's picture `(H, W)`."""


class StillScene:
    """One photograph."""

    is_still = True

    def __init__(self, plan: RenderPlan, inner_mouths: InnerMouthBank | None) -> None:
        self.photograph = Source.of(
            plan.image,
            plan.affine(0),
            plan.reference_landmarks,
            plan.target_landmarks,
            inner_mouths,
            close=False,
        )

    def source(self, batch: Batch, number: int) -> Source:
        """The photograph."""
        return self.photograph

    def movable(self, number: int) -> NDArray[np.bool_]:
        """The same for all frames."""
        return np.asarray(self.photograph.compositor.alpha > 0, np.bool_)


class FilmScene:
    """Footage: every frame is its own source."""

    is_still = False

    def __init__(
        self, plan: RenderPlan, footage: Footage, inner_mouths: InnerMouthBank | None
    ) -> None:
        self._plan, self._footage, self._inner_mouths = plan, footage, inner_mouths

    def source(self, batch: Batch, number: int) -> Source | None:
        """The frame itself, unless its face is hidden or it is not dubbed."""
        if self._footage.hidden[number]:
            return None
        assert batch.pictures is not None  # footage always comes with its frames
        return self._source(batch.pictures[number - batch.first], number)

    def movable(self, number: int) -> NDArray[np.bool_]:
        """Around the frame's own face and the one that is drawn."""
        plan = self._plan
        if self._footage.hidden[number]:
            return np.zeros(plan.size[::-1], np.bool_)
        blank = np.zeros((*plan.size[::-1], 3), np.uint8)
        return np.asarray(self._source(blank, number).compositor.alpha > 0, np.bool_)

    def _source(self, picture: Picture, number: int) -> Source:
        plan = self._plan
        return Source.of(
            picture,
            plan.affine(number),
            self._footage.landmarks[number],
            plan.target_landmarks[number][None],
            self._inner_mouths,
            close=True,
        )


def make_scene(plan: RenderPlan, inner_mouths: InnerMouthBank | None) -> Scene:
    """The scene of a plan."""
    if plan.footage is None:
        return StillScene(plan, inner_mouths)
    return FilmScene(plan, plan.footage, inner_mouths)
