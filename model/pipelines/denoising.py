"""The diffusion of one job.

    once per job      reference crops ─▶ features ─▶ K/V · latents · ONE noise
    once per scene    background crop ─▶ latents · masked latents · mask   (footage: every frame)
    once per batch    target landmarks ─▶ condition;  noise ─▶ steps ─▶ latents ─▶ crops

One noise for all frames: independent noise would flicker.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from numpy.typing import NDArray

from model.face.mouth_crop import NetworkCrop, network_mask
from model.networks.autoencoder import (
    Autoencoder,
    decode_latents,
    encode_pictures,
    pixels_per_cell,
)
from model.networks.detail import DetailNetwork
from model.networks.latent_window import Window
from model.networks.pixels import from_signed, to_signed
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import denoise
from model.networks.unet import TalkFormerUNet, UNetCondition
from model.pipelines.presets import Init, SchedulerName

Scheduler: TypeAlias = Any
"""`DDIMScheduler` or `DPMSolverMultistepScheduler`; diffusers is untyped."""


@dataclass(frozen=True)
class Networks:
    """What draws; all on one device, in one dtype, in evaluation mode."""

    autoencoder: Autoencoder
    unet: TalkFormerUNet
    reference_encoder: ReferenceEncoder
    scheduler: DDIMScheduler
    detail: DetailNetwork | None = None

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Their arithmetic."""
        return self.unet.conv_in.weight.dtype

    def in_fp32(self) -> Networks:
        """Copies in fp32: others may be drawing with these at the same time."""
        return Networks(
            copy.deepcopy(self.autoencoder).float(),
            copy.deepcopy(self.unet).float(),
            copy.deepcopy(self.reference_encoder).float(),
            self.scheduler,
            None if self.detail is None else copy.deepcopy(self.detail).float(),
        )

    @property
    def crop(self) -> NetworkCrop:
        """What they look at."""
        return self.unet.crop

    @property
    def crop_px(self) -> int:
        """Side of the crops."""
        return self.latent_size * pixels_per_cell(self.autoencoder)

    @property
    def latent_size(self) -> int:
        """Side of the latent grid in cells."""
        return int(self.unet.config.latent_size)


_CLASSES: Final[dict[SchedulerName, tuple[Any, dict[str, Any]]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpmsolver++": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
}


def make_scheduler(base: DDIMScheduler, name: SchedulerName) -> Scheduler:
    """A fresh sampler over the noise schedule that the network was trained on."""
    kind, options = _CLASSES[name]
    taken = {
        key: base.config[key]
        for key in (
            "num_train_timesteps",
            "beta_start",
            "beta_end",
            "beta_schedule",
            "prediction_type",
            "rescale_betas_zero_snr",
            "timestep_spacing",
        )
    }
    if kind is DDIMScheduler:
        taken["clip_sample"] = False
    return kind(**taken, **options)


def set_steps(scheduler: Scheduler, steps: int, strength: float) -> list[int]:
    """Prepare `scheduler` for the last `strength` of its schedule in exactly `steps` steps.

    Returns:
        The timesteps, falling.
    """
    with warnings.catch_warnings():
        # diffusers hands a tensor to np.array, which numpy 2 will want spelled otherwise
        warnings.simplefilter("ignore", DeprecationWarning)
        scheduler.set_timesteps(max(steps, round(steps / strength)))
    timesteps: list[int] = scheduler.timesteps[-steps:].tolist()
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(len(scheduler.timesteps) - steps)
    return timesteps


_FIRST_NOISE: Final = 1
"""Seed 0's noise for mouths: of the first four the one with the best teeth, by eye, on eight faces."""


@dataclass(frozen=True)
class Background:
    """What a batch is drawn into: one crop for all frames, or one for each; B is 1 or the batch.

    Attributes:
        latents: Of the crop `(B, 4, h, w)`.
        masked_latents: Of the crop with its lower face grey `(B, 4, h, w)`.
        mask: 1 where generated `(B, 1, h, w)`.
    """

    latents: torch.Tensor
    masked_latents: torch.Tensor
    mask: torch.Tensor

    def part(self, frames: slice) -> Background:
        """That of some frames of the batch."""
        if len(self.latents) == 1:
            return self
        return Background(self.latents[frames], self.masked_latents[frames], self.mask[frames])


class CropSampler:
    """Draws the crops of one job.

    Args:
        networks: What draws.
        references: Crops of the person `(R, S, S, 3)` uint8, S = `networks.crop_px`; the first one
            gives latents, all give keys and values.
        landmarks: Their faces `(R, 68, 2)`, crop units.
        steps: Denoising steps.
        scheduler: Which sampler takes them.
        init: Start: "noise", or "warp" for the portrait engine's picture under noise.
        strength: Share of the noise schedule that "warp" leaves to the sampler.
        seed: Of the noise that all frames share.
        decoded: The part of the latent grid that is wanted as a picture; None = all.
    """

    @torch.inference_mode()
    def __init__(
        self,
        networks: Networks,
        references: NDArray[np.uint8],
        landmarks: NDArray[np.float32],
        *,
        steps: int,
        scheduler: SchedulerName,
        init: Init,
        strength: float,
        seed: int,
        decoded: Window | None = None,
    ) -> None:
        self._networks = networks
        self._decoded = decoded or Window(0, 0, networks.latent_size, networks.latent_size)
        self._init = init
        self._scheduler = make_scheduler(networks.scheduler, scheduler)
        part = 1.0 if init == "noise" else strength
        self._timesteps = set_steps(self._scheduler, steps, part)
        self._window = networks.unet.window

        faces = torch.from_numpy(landmarks).to(networks.device)
        self._reference_landmarks = faces[:1]
        self._reference_latents = self._encode(self._pictures(references[:1]))
        features = networks.reference_encoder(self._pictures(references))
        # keys and values of R references as those of one, (1, R * M, C)
        cache = networks.unet.prepare_reference(features, faces)
        self._cache = cache.map(lambda pairs: pairs.flatten(0, 1)[None])
        size = networks.latent_size
        mouth = networks.crop == "mouth"
        generator = torch.Generator("cpu").manual_seed(seed + _FIRST_NOISE * mouth)
        channels = self._reference_latents.shape[1]
        noise = torch.randn(1, channels, size, size, generator=generator)
        if mouth:
            # Mirrored about the mouth's middle: chance alone shall not make one side's teeth another's.
            noise = (noise + noise.flip(-1)) / 2**0.5
        self._noise = self._window.crop(noise.to(networks.device))

    @torch.inference_mode()
    def background(
        self,
        crops: NDArray[np.uint8],
        landmarks: NDArray[np.float32],
        lower_faces: NDArray[np.uint8] | None = None,
    ) -> Background:
        """Prepare what frames are drawn into.

        Args:
            crops: `(B, S, S, 3)` uint8.
            landmarks: The faces that they show `(B, 68, 2)`, crop units; pose points are looked at.
            lower_faces: Pictures `(B, S, S, 3)` uint8 to put where a crop is to be generated, before
                it is encoded: cells beside the mask see a little across it, and footage must not
                show its own mouth there. None = the crops' own.
        """
        cells = self._cells(landmarks)
        masked = _enlarge(cells, self._factor)
        picture = self._pictures(crops)
        kept = self._tensor((~masked).astype(np.float32))[:, None]
        if lower_faces is not None:
            crops = np.where(masked[..., None], lower_faces, crops)
        return Background(
            latents=self._encode(self._pictures(crops)),
            # Masked pixels are mid grey, which is zero here.
            masked_latents=self._encode(picture * kept.to(picture.dtype)),
            mask=self._tensor(cells.astype(np.float32))[:, None],
        )

    def _carried(self, targets: NDArray[np.float32], warped: torch.Tensor) -> Background:
        """What was carried, as what is drawn into: there is nothing else around a mouth."""
        mask = self._tensor(self._cells(targets).astype(np.float32))[:, None]
        return Background(warped, warped * (1 - mask), mask)

    @property
    def _factor(self) -> int:
        """Pixels in a cell."""
        return self._networks.crop_px // self._networks.latent_size

    def _cells(self, landmarks: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Cells of the lower face `(B, h, w)`."""
        size = self._networks.latent_size
        return np.stack([network_mask(self._networks.crop, face, size) for face in landmarks])

    def sample(
        self,
        targets: NDArray[np.float32],
        warped: NDArray[np.uint8],
        background: Background | None,
    ) -> NDArray[np.float32]:
        """Draw one batch.

        Args:
            targets: `(B, 68, 2)`, crop units.
            warped: The sources carried to the targets `(B, S, S, 3)` uint8, mouths flat and dark.
            background: From `background`, for one frame or for B; None = what was carried.
        Returns:
            `(B, S, S, 3)` float32, 0 to 255, not clipped; what was not to be generated is the
            autoencoder's copy of the background, and black beyond what is decoded. Not finite where
            the arithmetic overflowed.
        """
        return self._place(self.draw(targets, warped, background))

    @torch.inference_mode()
    def draw(
        self,
        targets: NDArray[np.float32],
        warped: NDArray[np.uint8],
        background: Background | None,
    ) -> torch.Tensor:
        """What is decoded of `sample`'s crops, on the device `(B, 3, h, w)`, 0 to 255; nothing is waited for."""
        warped_latents = self._encode(self._pictures(warped))
        if background is None:
            background = self._carried(targets, warped_latents)
        condition = self._networks.unet.prepare_condition(
            target_landmarks=torch.from_numpy(targets).to(self._networks.device),
            reference_landmarks=self._reference_landmarks,
            masked_latents=background.masked_latents,
            mask=background.mask,
            reference_latents=self._reference_latents,
            warped_latents=warped_latents,
            reference=self._cache,
        )
        drawn = self._denoise(condition, warped_latents)
        known = background.latents.expand(len(targets), -1, -1, -1)
        mask = self._window.crop(background.mask).float()
        drawn = mask * drawn + (1 - mask) * self._window.crop(known).float()
        return self._decode(self._window.paste(drawn, known.float()))

    def _denoise(self, condition: UNetCondition, warped: torch.Tensor) -> torch.Tensor:
        """The sampling loop: the window's latents `(B, 4, h, w)`, float32."""
        networks, batch = self._networks, len(warped)
        scheduler = copy.deepcopy(self._scheduler)  # it counts its steps
        latents = self._noise.expand(batch, -1, -1, -1).clone()
        if self._init == "warp":
            start = self._window.crop(warped).float()
            latents = scheduler.add_noise(start, latents, torch.full((batch,), self._timesteps[0]))

        def denoiser(latents: torch.Tensor, timestep: torch.Tensor | int) -> torch.Tensor:
            # The state stays in fp32; only the network sees its own dtype.
            noise_pred: torch.Tensor = networks.unet(
                latents.to(networks.dtype), timestep, condition
            )
            return noise_pred

        return denoise(denoiser, scheduler, self._timesteps, latents)

    def _tensor(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._networks.device, self._networks.dtype)

    def _pictures(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        """`(B, S, S, 3)` uint8 -> `(B, 3, S, S)` in [-1, 1], channels last as numpy has it."""
        pictures = torch.from_numpy(crops).to(self._networks.device).permute(0, 3, 1, 2)
        return to_signed(pictures).to(self._networks.dtype)

    def _encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return encode_pictures(self._networks.autoencoder, pictures)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The wanted part of the latents as pictures `(B, 3, h, w)`, 0 to 255."""
        decoded = decode_latents(self._networks.autoencoder, self._decoded.crop(latents))
        return from_signed(decoded)

    def _place(self, parts: torch.Tensor) -> NDArray[np.float32]:
        """Whole crops `(B, S, S, 3)` in the CPU's memory with what `draw` has drawn of them."""
        size = self._networks.crop_px
        crops = np.zeros((len(parts), size, size, 3), np.float32)
        where = self._decoded.enlarge(self._factor).slices
        crops[:, *where] = parts.permute(0, 2, 3, 1).cpu().numpy()
        return crops


def _enlarge(cells: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Nearest-neighbour upsampling of `(B, n, n)`."""
    return cells.repeat(factor, axis=1).repeat(factor, axis=2)
