"""Frames of a plan, batch by batch.

    still picture   one background for all frames ─┐
    footage         each frame's own background ───┼─▶ denoise ─▶ light ─▶ detail ─▶ composite
    references      K/V once a job ────────────────┘

Presets without steps leave the networks out: the portrait engine moves the picture, or each frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoints import INNER_MOUTHS
from model.errors import CheckpointError, SamplingError
from model.face.alignment import crop_image, lower_face_mask, source_pixels
from model.face.compositing import (
    Compositor,
    is_grey,
    match_colour,
    match_light,
    without_colour,
)
from model.face.inner_mouth import InnerMouthBank
from model.face.portrait_engine import PortraitEngine
from model.media.frames import read_in_order
from model.pipelines.denoising import Background, CropSampler, Networks
from model.pipelines.detail import DetailPass, make_detail_pass
from model.pipelines.outputs import Footage, RenderPlan
from model.pipelines.presets import PRESETS

_PREVIEW_PX: Final = (256, 512)
"""Least and greatest side of the portrait engine's own frames."""

Picture = NDArray[np.uint8]
ArrayT = TypeVar("ArrayT", bound=NDArray[Any])


@dataclass(frozen=True)
class Batch:
    """Frames that are drawn together.

    Attributes:
        first: Number of its first frame, a multiple of the plan's batch size.
        wanted: Which of its frames are asked for.
        pictures: Footage only: the frames to draw into, all of the batch's.
    """

    first: int
    wanted: slice
    pictures: list[Picture] | None = None


def plan_batches(plan: RenderPlan, start: int, stop: int) -> Iterator[Batch]:
    """The batches that frames `start` to `stop` need, with their pictures read one batch at a time."""
    size = plan.batch_size
    begin = start // size * size
    footage = plan.footage
    pictures: Iterator[Picture] = iter(())
    if footage is not None:
        end = min(-(-stop // size) * size, plan.num_frames)
        pictures = read_in_order(footage.frames, footage.source_index[begin:end].tolist())
    for first in range(begin, stop, size):
        wanted = slice(max(start - first, 0), min(stop - first, size))
        if footage is None:
            yield Batch(first, wanted)
        else:
            count = min(size, plan.num_frames - first)
            yield Batch(first, wanted, [next(pictures) for _ in range(count)])


class PlanDrawer:
    """What the frames of a plan share, and how one batch is drawn; safe to call from several threads.

    Args:
        plan: What to draw.
        networks: What draws.
        inner_mouths: Needed by presets without steps.
        model_name: For messages.
    Raises:
        CheckpointError: The preset needs inner mouths, and there are none.
    """

    def __init__(
        self,
        plan: RenderPlan,
        networks: Networks,
        inner_mouths: InnerMouthBank | None,
        model_name: str,
    ) -> None:
        self._plan = plan
        self._networks = networks
        self._model_name = model_name
        self._inner_mouths = inner_mouths
        self.sampler: CropSampler | None = None
        self.detail: DetailPass | None = None
        self.compositor: Compositor | None = None
        self.background: Background | None = None
        self._engine: PortraitEngine | None = None
        self._grey = False
        if plan.num_inference_steps:
            self._begin_sampling()
        elif inner_mouths is None:
            raise CheckpointError(
                f"The checkpoint has no {INNER_MOUTHS}/, which preset {plan.preset!r} draws "
                "from. Pack it again with `python -m model.training.builders.export`."
            )
        elif plan.footage is None:
            self._engine, generated = self._moving(
                plan.image, plan.affine(0), plan.reference.landmarks
            )
            self.compositor = self._still_compositor(generated)

    def draw(self, batch: Batch) -> Picture:
        """The wanted frames of one batch `(n, H, W, 3)` uint8."""
        numbers = range(len(self._plan.target_landmarks))[batch.first :][batch.wanted]
        if self._plan.num_inference_steps:
            return np.stack(self._sampled(batch, numbers))
        return np.stack([self._engine_frame(batch, number) for number in numbers])

    def soft_mask(self, index: int) -> NDArray[np.bool_]:
        """Where frame `index` may differ from its source `(H, W)`."""
        plan, footage = self._plan, self._plan.footage
        if self.compositor is not None:
            alpha = self.compositor.alpha
        else:
            assert footage is not None
            blank = np.zeros((plan.height, plan.width, 3), np.uint8)
            if footage.hidden[index]:
                return np.zeros((plan.height, plan.width), bool)
            alpha = self._compositor(footage, blank, index, self._generated(footage, index)).alpha
        return np.asarray(alpha > 0, np.bool_)

    # --- what frames share ----------------------------------------------------------------------------------------

    def _begin_sampling(self) -> None:
        plan = self._plan
        crop_px = self._networks.crop_px
        self.sampler = self._sampler(self._networks)
        if plan.footage is None:
            self.background = self._still_background(self.sampler)
            self.compositor = self._still_compositor(self.background.generated[0])
        # Only as fine as both the face that is drawn and the reference: neither has more to give.
        native = source_pixels(plan.reference.crop_affine)
        if plan.footage is not None:
            shown = [source_pixels(affine) for affine in plan.crop_affine]
            native = min(native, float(np.median(shown)))
        # The networks tint a grey mouth a little.
        self._grey = is_grey(plan.reference.image)
        if plan.restore_detail:
            networks, reference = self._networks, plan.reference
            window = networks.unet.window.enlarge(crop_px // networks.latent_size)
            own = (reference.image, reference.crop_affine, reference.landmarks)
            self.detail = make_detail_pass(
                networks.detail, own, native, crop_px, window, self._inner_mouths
            )

    def _sampler(self, networks: Networks) -> CropSampler:
        plan, preset = self._plan, PRESETS[self._plan.preset]
        faces = plan.references
        return CropSampler(
            networks,
            np.stack([crop_image(x.image, x.crop_affine, networks.crop_px) for x in faces]),
            np.stack([face.landmarks for face in faces]),
            steps=plan.num_inference_steps,
            scheduler=preset.scheduler,
            init=plan.init,
            strength=preset.init_strength,
            seed=plan.seed,
        )

    def _still_background(self, sampler: CropSampler) -> Background:
        plan = self._plan
        crop = crop_image(plan.image, plan.affine(0), self._networks.crop_px)
        return sampler.background(crop[None], plan.reference.landmarks[None])

    def _still_compositor(self, generated: NDArray[np.bool_]) -> Compositor:
        plan = self._plan
        landmarks = np.concatenate([plan.reference.landmarks[None], plan.target_landmarks])
        return Compositor(plan.image, plan.affine(0), landmarks, generated)

    def _compositor(
        self, footage: Footage, picture: Picture, number: int, generated: NDArray[np.bool_]
    ) -> Compositor:
        """Of one frame: what is pasted covers the chin that the frame shows as well as the new one."""
        faces = np.stack([footage.landmarks[number], self._plan.target_landmarks[number]])
        return Compositor(picture, self._plan.affine(number), faces, generated, close=True)

    def _generated(self, footage: Footage, number: int) -> NDArray[np.bool_]:
        """What a frame of footage has drawn of its crop."""
        own = footage.landmarks[number]
        if self.sampler is not None:
            return self.sampler.generated(own[None])[0]
        return lower_face_mask(own, _preview_px(self._plan.affine(number)))

    # --- with the networks ----------------------------------------------------------------------------------------

    def _sampled(self, batch: Batch, numbers: range) -> list[Picture]:
        plan, footage = self._plan, self._plan.footage
        if footage is not None and footage.hidden[numbers.start : numbers.stop].all():
            return self._pictures(batch)[batch.wanted]
        crops, warped, background = self._sample(batch)
        targets = plan.target_landmarks[numbers.start : numbers.stop]
        rows = [number - batch.first for number in numbers]
        masks = [None if footage is None else background.generated[row] for row in rows]
        parts = zip(crops[rows], warped[rows], targets, masks, strict=True)
        coloured = np.stack([match_colour(*part) for part in parts])
        fine = list(coloured) if self.detail is None else self.detail(coloured, targets)
        frames = []
        for number, row, crop in zip(numbers, rows, fine, strict=True):
            compositor = self.compositor
            if footage is not None:
                picture = self._pictures(batch)[row]
                if footage.hidden[number]:
                    frames.append(picture)
                    continue
                compositor = self._compositor(footage, picture, number, background.generated[row])
            assert compositor is not None
            frames.append(compositor.paste(without_colour(crop) if self._grey else crop))
        return frames

    def _sample(self, batch: Batch) -> tuple[NDArray[np.float32], Picture, Background]:
        """Crops of a full batch, all finite, the reference's warps to its faces, and the background."""
        assert self.sampler is not None
        targets, own, shown = self._faces(batch)
        warped = self.sampler.warp(targets)

        def background_of(sampler: CropSampler) -> Background:
            if shown is None:
                return self._still_background(sampler)
            return sampler.background(shown, own, warped)

        if shown is not None:
            generated = self.sampler.generated(own)
            parts = zip(warped, shown, own, generated, strict=True)
            warped = np.stack([match_light(*part) for part in parts])
        background = self.background or background_of(self.sampler)
        crops = self.sampler.sample(targets, warped, background)
        if not np.isfinite(crops).all() and self._networks.dtype != torch.float32:
            exact = self._sampler(self._networks.in_fp32())
            crops = exact.sample(targets, warped, background_of(exact))
        if not np.isfinite(crops).all():
            raise SamplingError(
                f"{self._model_name} drew non-finite values at {self._plan.num_inference_steps} "
                "steps, in fp32 too; expected pixel values. The weights are unusable: check them "
                "with `talkface doctor`."
            )
        return crops, warped, background

    def _faces(
        self, batch: Batch
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Picture | None]:
        """Of a full batch: faces to draw `(B, 68, 2)`, faces that the footage shows, and its crops."""
        plan, footage, size = self._plan, self._plan.footage, self._plan.batch_size
        rows = slice(batch.first, batch.first + size)
        targets = _pad(plan.target_landmarks[rows], size)
        if footage is None:
            return targets, targets, None
        places = zip(self._pictures(batch), plan.crop_affine[rows], strict=True)
        shown = np.stack([crop_image(x, affine, self._networks.crop_px) for x, affine in places])
        return targets, _pad(footage.landmarks[rows], size), _pad(shown, size)

    @staticmethod
    def _pictures(batch: Batch) -> list[Picture]:
        assert batch.pictures is not None  # footage always comes with its frames
        return batch.pictures

    # --- with the portrait engine alone -------------------------------------------------------------------------------

    def _engine_frame(self, batch: Batch, number: int) -> Picture:
        plan, footage = self._plan, self._plan.footage
        target = plan.target_landmarks[number]
        if footage is None:
            assert self._engine is not None and self.compositor is not None
            return self.compositor.paste(self._engine.render(target))
        picture = self._pictures(batch)[number - batch.first]
        if footage.hidden[number]:
            return picture
        own = footage.landmarks[number]
        engine, generated = self._moving(picture, plan.affine(number), own)
        return self._compositor(footage, picture, number, generated).paste(engine.render(target))

    def _moving(
        self, picture: Picture, affine: NDArray[np.float32], landmarks: NDArray[np.float32]
    ) -> tuple[PortraitEngine, NDArray[np.bool_]]:
        """The portrait engine over one picture, and what it draws of the crop."""
        size = _preview_px(affine)
        engine = PortraitEngine(crop_image(picture, affine, size), landmarks, self._inner_mouths)
        return engine, lower_face_mask(landmarks, size)


def _preview_px(affine: NDArray[np.float32]) -> int:
    return int(np.clip(round(source_pixels(affine)), *_PREVIEW_PX))


def _pad(rows: ArrayT, size: int) -> ArrayT:
    """A batch of exactly `size`: the last frame repeated, so that all batches cost and round alike."""
    missing = size - len(rows)
    return cast(ArrayT, np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]))
