"""The networks' crops of a batch, each in the light of the picture that it will be a part of.

sources carried to the targets ─▶ denoise ─▶ source's colours ─▶ detail network ─▶ crops
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import CheckpointError, SamplingError
from model.face.alignment import (
    Affine,
    compose_affines,
    crop_image,
    invert_affine,
    recrop,
    source_pixels,
    warp_points,
)
from model.face.crop_colour import is_grey, match_colour, without_colour
from model.face.mouth_crop import network_affine, network_inner
from model.face.mouth_fill import Inner
from model.face.picture_parts import box_around
from model.networks.detail import SCALE
from model.networks.latent_window import Window
from model.pipelines.denoising import Background, CropSampler, Networks
from model.pipelines.detail import DetailPass
from model.pipelines.halving import Halving
from model.pipelines.outputs import RenderPlan
from model.pipelines.pasted_window import PastedWindow, pasted_window
from model.pipelines.presets import PRESETS

Picture = NDArray[np.uint8]
FloatPicture = NDArray[np.float32]
ArrayT = TypeVar("ArrayT", bound=NDArray[Any])


@dataclass(frozen=True)
class CarriedFaces:
    """What the networks are told of a batch of frames.

    Attributes:
        targets: Faces to draw `(B, 68, 2)`, crop units.
        flat: The sources carried to them `(S, S, 3)` uint8 each, inner mouths as `CropDrawer.inner` says.
        filled: The same with inner mouths, the detail network's guide.
        shown: Crops of the sources `(S, S, 3)` uint8 each.
        own: Faces of the sources `(68, 2)` each.
        affines: Crop units to those of the networks' crops `(2, 3)` each.
    """

    targets: Sequence[NDArray[np.float32]]
    flat: Sequence[Picture]
    filled: Sequence[Picture]
    shown: Sequence[Picture]
    own: Sequence[NDArray[np.float32]]
    affines: Sequence[Affine]


class CropDrawer:
    """Draws the crops of one plan.

    Args:
        plan: Of the job.
        networks: What draws.
        model_name: For messages.
    Attributes:
        sampler: The diffusion.
        detail: The detail network's pass, or None.
    Raises:
        CheckpointError: A whole lower face is asked of networks that draw mouths.
    """

    def __init__(self, plan: RenderPlan, networks: Networks, model_name: str) -> None:
        self._plan, self._networks, self._model_name = plan, networks, model_name
        if plan.region == "lower_face" and networks.crop == "mouth":
            raise CheckpointError(
                f"{model_name} draws mouths; region is 'lower_face'. Ask for 'mouth', or name a "
                "checkpoint that was trained with crop=face."
            )
        whole = Window(0, 0, networks.latent_size, networks.latent_size)
        self._pasted = pasted_window(
            networks.crop, plan.target_landmarks, plan.reference.landmarks, networks.latent_size
        ) or PastedWindow(whole, networks.unet.window)
        self._factor = networks.crop_px // networks.latent_size
        self.sampler = self._make_sampler(networks)
        self._halving = Halving()
        self._fp32: CropSampler | None = None
        self._rescuing = threading.Lock()
        self._still: Background | None = None  # of a photograph: the same for all batches
        # The networks tint a grey mouth a little.
        self._grey = is_grey(plan.reference.image)
        self.detail: DetailPass | None = None
        if plan.restore_detail and networks.detail is not None:
            self.detail = DetailPass(networks.detail, self._pasted.finer.enlarge(self._factor))

    def draw(self, faces: CarriedFaces) -> list[FloatPicture]:
        """Crops `(F, F, 3)`, 0 to 255, not clipped, one for each target; whole where they are pasted.

        Raises:
            SamplingError: The networks gave non-finite values, in fp32 too.
        """
        size = self._networks.crop_px
        warped = self._cut(faces.flat, faces.affines, size)
        crops = self._sample(faces, warped)
        # not strict: the batch is longer by its padding
        parts = zip(crops, warped, _in_crop(faces.targets, faces.affines), strict=False)
        drawn = self._pasted.decoded.enlarge(self._factor).slices
        fine = np.stack([match_colour(*part, drawn) for part in parts])
        if self.detail is not None:
            fine = self.detail(fine, self._cut(faces.filled, faces.affines, SCALE * size))
        return [without_colour(crop) if self._grey else crop for crop in fine]

    @property
    def inner(self) -> Inner:
        """What the networks are shown between carried lips, as in their training."""
        return network_inner(self._networks.crop)

    def affine(self, face: NDArray[np.float32]) -> Affine:
        """Crop units of a face `(68, 2)` to those of the networks' crop of it."""
        return network_affine(self._networks.crop, face, self._plan.reference.landmarks)

    def seen(self, face: NDArray[np.float32], size: int) -> tuple[slice, slice] | None:
        """Rows and columns of a face's crop of `size` that the networks look at; None = all."""
        if self._networks.crop == "face":
            return None
        affine = self.affine(face)
        low, high = (
            warp_points(invert_affine(affine), np.array([(0, 0), (1, 1)], np.float32)) * size
        )
        # what is shrunk is blurred before, and read between pixels
        reach = 4.0 + 2.0 * max(1.0, source_pixels(affine) * size / self._networks.crop_px)
        return box_around(low - reach, high + reach, (size, size))

    def _sample(self, faces: CarriedFaces, warped: Picture) -> FloatPicture:
        """A full batch of crops, all finite."""
        size = self._padded(len(faces.targets))
        targets = _pad(_in_crop(faces.targets, faces.affines), size)
        padded = _pad(warped, size)

        def draw_with(sampler: CropSampler) -> FloatPicture:
            background = self._background_of(sampler, faces, padded)

            def draw_part(part: slice) -> FloatPicture:
                drawn_into = None if background is None else background.part(part)
                return sampler.sample(targets[part], padded[part], drawn_into)

            return self._halving.draw(draw_part, size)

        crops = draw_with(self.sampler)
        if not np.isfinite(crops).all() and self._networks.dtype != torch.float32:
            crops = draw_with(self._rescue())
        if not np.isfinite(crops).all():
            raise SamplingError(
                f"{self._model_name} drew non-finite values at {self._plan.num_inference_steps} "
                "steps, in fp32 too; expected pixel values. The weights are unusable: check them "
                "with `talkface doctor`."
            )
        return crops

    def _padded(self, count: int) -> int:
        """The power of two from 2 on, or the batch size, that has room for so many crops."""
        return min(max(2, 1 << (count - 1).bit_length()), self._plan.batch_size)

    def _rescue(self) -> CropSampler:
        """The same in fp32, made when first needed: one batch that overflows is seldom alone."""
        with self._rescuing:
            if self._fp32 is None:
                self._fp32 = self._make_sampler(self._networks.in_fp32())
            return self._fp32

    def _background_of(
        self, sampler: CropSampler, faces: CarriedFaces, warped: Picture
    ) -> Background | None:
        """What a face's crop is drawn into; around a mouth it is what was carried."""
        if self._networks.crop == "mouth":
            return None
        size, side = self._padded(len(faces.targets)), self._networks.crop_px
        if self._plan.footage is not None:
            shown, own = self._cut(faces.shown, faces.affines, side), np.stack(faces.own)
            return sampler.background(_pad(shown, size), _pad(own, size), warped)
        if sampler is self.sampler and self._still is not None:
            return self._still
        first = self._cut(faces.shown[:1], faces.affines[:1], side)
        still = sampler.background(first, np.stack(faces.own[:1]))
        if sampler is self.sampler:
            self._still = still
        return still

    def _make_sampler(self, networks: Networks) -> CropSampler:
        plan, preset = self._plan, PRESETS[self._plan.preset]
        faces = [face.landmarks for face in plan.references]
        affines = [self.affine(face) for face in faces]
        crops = [
            crop_image(x.image, compose_affines(affine, x.crop_affine), networks.crop_px)
            for x, affine in zip(plan.references, affines, strict=True)
        ]
        return CropSampler(
            networks,
            np.stack(crops),
            _in_crop(faces, affines),
            steps=plan.num_inference_steps,
            scheduler=preset.scheduler,
            init=plan.init,
            strength=preset.init_strength,
            seed=plan.seed,
            decoded=self._pasted.decoded,
        )

    def _cut(self, pictures: Sequence[Picture], affines: Sequence[Affine], side: int) -> Picture:
        """The networks' crops `(B, side, side, 3)` of faces' crops `(S, S, 3)` each."""
        if self._networks.crop == "mouth":
            pairs = zip(pictures, affines, strict=True)
            return np.stack([recrop(picture, affine, side) for picture, affine in pairs])
        sides = (side, side)
        shrunk = [cv2.resize(x, sides, interpolation=cv2.INTER_AREA) for x in pictures]
        return np.asarray(np.stack(shrunk), np.uint8)


def _in_crop(
    faces: Sequence[NDArray[np.float32]], affines: Sequence[Affine]
) -> NDArray[np.float32]:
    """Faces `(B, 68, 2)` in the units of the networks' crops."""
    return np.stack([warp_points(a, face) for face, a in zip(faces, affines, strict=True)])


def _pad(rows: ArrayT, size: int) -> ArrayT:
    """A batch of exactly `size`: the last frame repeated, so that all batches cost and round alike."""
    missing = size - len(rows)
    return cast(ArrayT, np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]))
