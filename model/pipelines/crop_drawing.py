"""The networks' crops of a batch, each in the light of the picture that it will be a part of.

sources carried to the targets ─▶ denoise ─▶ source's colours ─▶ detail network ─▶ crops
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import SamplingError
from model.face.alignment import crop_image
from model.face.compositing import is_grey, match_colour, without_colour
from model.pipelines.denoising import Background, CropSampler, Networks
from model.pipelines.detail import DetailPass
from model.pipelines.outputs import RenderPlan
from model.pipelines.presets import PRESETS

Picture = NDArray[np.uint8]
FloatPicture = NDArray[np.float32]
ArrayT = TypeVar("ArrayT", bound=NDArray[Any])


@dataclass(frozen=True)
class CarriedFaces:
    """What the networks are told of a batch of frames.

    Attributes:
        targets: Faces to draw `(B, 68, 2)`, crop units.
        flat: The sources carried to them, mouths flat and dark `(S, S, 3)` uint8 each.
        filled: The same with inner mouths, the detail network's guide.
        shown: Crops of the sources `(S, S, 3)` uint8 each.
        own: Faces of the sources `(68, 2)` each.
    """

    targets: Sequence[NDArray[np.float32]]
    flat: Sequence[Picture]
    filled: Sequence[Picture]
    shown: Sequence[Picture]
    own: Sequence[NDArray[np.float32]]


class CropDrawer:
    """Draws the crops of one plan.

    Args:
        plan: Of the job.
        networks: What draws.
        model_name: For messages.
    Attributes:
        sampler: The diffusion.
        detail: The detail network's pass, or None.
    """

    def __init__(self, plan: RenderPlan, networks: Networks, model_name: str) -> None:
        self._plan, self._networks, self._model_name = plan, networks, model_name
        self.sampler = self._make_sampler(networks)
        self._still: Background | None = None  # of a photograph: the same for all batches
        # The networks tint a grey mouth a little.
        self._grey = is_grey(plan.reference.image)
        self.detail: DetailPass | None = None
        if plan.restore_detail and networks.detail is not None:
            window = networks.unet.window.enlarge(networks.crop_px // networks.latent_size)
            self.detail = DetailPass(networks.detail, window)

    def draw(self, faces: CarriedFaces) -> list[FloatPicture]:
        """Crops `(F, F, 3)`, 0 to 255, not clipped, one for each target.

        Raises:
            SamplingError: The networks gave non-finite values, in fp32 too.
        """
        warped = self._shrink(faces.flat)
        crops = self._sample(faces, warped)
        # not strict: the batch is longer by its padding
        parts = zip(crops, warped, faces.targets, strict=False)
        coloured = np.stack([match_colour(*part) for part in parts])
        fine = list(coloured if self.detail is None else self.detail(coloured, faces.filled))
        return [without_colour(crop) for crop in fine] if self._grey else fine

    def _sample(self, faces: CarriedFaces, warped: Picture) -> FloatPicture:
        """A full batch of crops, all finite."""
        size = self._plan.batch_size
        targets, padded = _pad(np.stack(faces.targets), size), _pad(warped, size)

        def draw_with(sampler: CropSampler) -> FloatPicture:
            return sampler.sample(targets, padded, self._background_of(sampler, faces, padded))

        crops = draw_with(self.sampler)
        if not np.isfinite(crops).all() and self._networks.dtype != torch.float32:
            crops = draw_with(self._make_sampler(self._networks.in_fp32()))
        if not np.isfinite(crops).all():
            raise SamplingError(
                f"{self._model_name} drew non-finite values at {self._plan.num_inference_steps} "
                "steps, in fp32 too; expected pixel values. The weights are unusable: check them "
                "with `talkface doctor`."
            )
        return crops

    def _background_of(
        self, sampler: CropSampler, faces: CarriedFaces, warped: Picture
    ) -> Background:
        size = self._plan.batch_size
        if self._plan.footage is not None:
            shown, own = self._shrink(faces.shown), np.stack(faces.own)
            return sampler.background(_pad(shown, size), _pad(own, size), warped)
        if sampler is self.sampler and self._still is not None:
            return self._still
        still = sampler.background(self._shrink(faces.shown[:1]), np.stack(faces.own[:1]))
        if sampler is self.sampler:
            self._still = still
        return still

    def _make_sampler(self, networks: Networks) -> CropSampler:
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

    def _shrink(self, pictures: Sequence[Picture]) -> Picture:
        """`(S, S, 3)` each -> `(B, s, s, 3)`, s the side of what the networks draw."""
        side = (self._networks.crop_px,) * 2
        shrunk = [cv2.resize(picture, side, interpolation=cv2.INTER_AREA) for picture in pictures]
        return np.asarray(np.stack(shrunk), np.uint8)


def _pad(rows: ArrayT, size: int) -> ArrayT:
    """A batch of exactly `size`: the last frame repeated, so that all batches cost and round alike."""
    missing = size - len(rows)
    return cast(ArrayT, np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]))
