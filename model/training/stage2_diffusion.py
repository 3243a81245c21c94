"""Stage 2: the denoiser with TalkFormer, and the reference encoder, on detector landmarks.

    python -m model.training.stage2_diffusion prepared=data/prepared output=runs/diffusion

v-prediction with a loss weight of 3 near the lips, 1 in the mask, 0.1 outside; landmark noise;
warped latents and reference latents left out of a share of the samples each. Needs `pairs.npz`
(`model.training.builders.pairs`), or shards (`shards=FOLDER`, written by `talkface prepare`; latents are then
encoded as they are needed), or both: then clips come from the shards and photographs from `pairs.npz`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from model.errors import ConfigError
from model.face.landmarks import NUM_LANDMARKS
from model.networks.attention import set_backend
from model.networks.autoencoder import (
    Autoencoder,
    decode_latents,
    enlarge_cells,
    load_autoencoder,
    pixels_per_cell,
)
from model.networks.pixels import to_images, to_tensor
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import NUM_TIMESTEPS, build_scheduler, denoise, velocity_loss
from model.networks.stable_diffusion import load_stable_diffusion
from model.networks.unet import TalkFormerUNet, UNetCondition, build_unet
from model.training.launch import main
from model.training.pair_batches import PairBatch, PairPixels, Pairs
from model.training.pictures import generated_weight, mouth_boxes, psnr_db, save_strips, sharpness
from model.training.stage import Draw, Figures, LoopConfig, Stage, autocast, map_tensors


@dataclass(frozen=True)
class DiffusionConfig(LoopConfig):
    """Stage 2.

    Attributes:
        prepared: Folder with `pairs.npz`.
        shards: Clips to train on in place of those of `pairs.npz`, which may then be absent.
        autoencoder: Folder of the trained autoencoder (it encodes shards and decodes samples).
        variant: Size of the U-Net.
        crop: What it looks at; `pairs.npz` was made for it.
        m_align: The paper's ablation switch.
        r_align: The paper's ablation switch.
        maps: Whether landmark maps are given.
        reference_latents: Whether the reference's latents are given at all.
        warped_latents: Whether the warped reference's latents are given at all.
        start: Checkpoint folder whose U-Net and reference encoder this run begins with. Where it has
            no R-Align of the form trained here (docs/adr/0010), R-Align begins anew.
        stable_diffusion: Local Stable Diffusion 1.5 folder to start variant `large` from; its
            autoencoder takes the place of `autoencoder`, and `pairs.npz` must be made with it.
        portrait_share: Share of samples from photographs, the rest from clips.
        drop_warped: Share of samples without warped latents.
        drop_reference: Share of samples without reference latents.
        landmark_noise: Largest standard deviation of noise on target landmarks, crop units.
        sample_steps: DDIM steps of the samples.
    """

    output: Path = Path("runs/diffusion")
    prepared: Path = Path("data/prepared")
    shards: Path | None = None
    autoencoder: Path = Path("runs/autoencoder/export/autoencoder")
    variant: Literal["tiny", "base", "large"] = "tiny"
    crop: Literal["face", "mouth"] = "mouth"
    max_steps: int = 4000
    batch_size: int = 32
    learning_rate: float = 6e-4
    m_align: bool = True
    r_align: bool = True
    maps: bool = True
    reference_latents: bool = True
    warped_latents: bool = True
    start: Path | None = None
    stable_diffusion: Path | None = None
    portrait_share: float = 0.5
    drop_warped: float = 0.2
    drop_reference: float = 0.2
    landmark_noise: float = 0.004
    sample_steps: int = 4
    sample_every: int = 500


def condition_of(
    unet: TalkFormerUNet, reference_encoder: ReferenceEncoder, batch: PairBatch
) -> UNetCondition:
    """The denoiser's condition for a batch of pairs."""
    features = reference_encoder(batch.reference_image)
    return unet.prepare_condition(
        target_landmarks=batch.target_landmarks,
        reference_landmarks=batch.reference_landmarks,
        masked_latents=batch.masked_latents,
        mask=batch.mask,
        reference_latents=batch.reference_latents,
        warped_latents=batch.warped_latents,
        reference=unet.prepare_reference(features, batch.reference_landmarks),
    )


def sample_latents(
    unet: TalkFormerUNet,
    condition: UNetCondition,
    known: torch.Tensor,
    mask: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """DDIM from one shared noise; latents `(B, 4, H, W)`, generated inside `mask`, `known` outside."""
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    window = unet.window
    shape = (1, known.shape[1], window.height, window.width)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(known.device)
    latents = denoise(
        lambda latents, timestep: unet(latents, timestep, condition),
        scheduler,
        scheduler.timesteps.tolist(),
        noise.repeat(len(known), 1, 1, 1),
    )
    inside = window.crop(mask)
    return window.paste(inside * latents + (1 - inside) * window.crop(known), known)


def _networks(config: DiffusionConfig) -> tuple[TalkFormerUNet, Autoencoder]:
    """The U-Net to train and the autoencoder behind its latents."""
    inputs = ("maps", "reference_latents", "warped_latents")
    switches = {name: getattr(config, name) for name in ("m_align", "r_align", *inputs)}
    if config.stable_diffusion is None:
        autoencoder = load_autoencoder(config.autoencoder).eval()
        return build_unet(config.variant, config.crop, **switches), autoencoder
    if config.variant != "large":
        raise ConfigError(
            f"stable_diffusion: variant is {config.variant!r}; expected 'large', whose sizes are "
            "Stable Diffusion's"
        )
    begun = load_stable_diffusion(config.stable_diffusion, crop=config.crop, **switches)
    print(begun.report())
    return begun.unet.train(), begun.autoencoder


_R_ALIGN = ("r_query", "r_key", "r_out", "extra_key", "extra_value")


def begin_from(start: Path, unet: TalkFormerUNet, reference_encoder: ReferenceEncoder) -> list[str]:
    """Take over a checkpoint's `unet/` and `reference_encoder/`; R-Align only of the same `reference_places`.

    Returns:
        Parameters of `unet` that keep their initial values.
    Raises:
        ConfigError: `start` is of other sizes.
    """
    trained = TalkFormerUNet.from_pretrained(start / "unet")
    weights = trained.float().state_dict()
    if trained.config.get("reference_places") != unet.config["reference_places"]:
        weights = {k: v for k, v in weights.items() if not any(part in k for part in _R_ALIGN)}
    try:
        left = unet.load_state_dict(weights, strict=False).missing_keys
        encoder = ReferenceEncoder.from_pretrained(start / "reference_encoder").float()
        reference_encoder.load_state_dict(encoder.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"start: {start} holds networks of other sizes than this run's: {error}"
        ) from error
    return left


@dataclass(frozen=True)
class DiffusionBatch:
    """One loss's draws: B pairs in parts, and noise.

    `keep` `(2, B, 1, 1, 1)` says whether warped and reference latents are given; landmark noise is
    `(B, 68, 2)`, crop units; noise `(B, 4, h, w)`, of the window, and timesteps `(B,)`.
    """

    pairs: list[PairBatch | PairPixels]
    keep: torch.Tensor
    landmark_noise: torch.Tensor
    noise: torch.Tensor
    timestep: torch.Tensor


class DiffusionStage(Stage[DiffusionBatch]):
    """The U-Net and the reference encoder, their loss and their samples."""

    def __init__(self, config: DiffusionConfig, device: str) -> None:
        if device == "cpu":
            set_backend("eager")  # the fastest backward pass on a CPU
        self.config, self.device = config, device
        self.unet, self.autoencoder = _networks(config)
        self.autoencoder.to(device)
        self.pairs = Pairs(
            config.prepared,
            config.shards,
            self.autoencoder,
            crop=config.crop,
            portrait_share=config.portrait_share,
        )
        self.shown = self.pairs.shown(16)
        self.reference_encoder = ReferenceEncoder(
            self.unet.config.channels, pixels_per_cell(self.autoencoder)
        )
        if config.start is not None:
            left = begin_from(config.start, self.unet, self.reference_encoder)
            print(f"begins with {config.start}; anew: {', '.join(left) or 'nothing'}", flush=True)
        for module in (self.unet, self.reference_encoder):
            module.to(device, memory_format=torch.channels_last)
        self.scheduler = build_scheduler()
        # without R-Align nothing asks the reference encoder
        self.find_unused_parameters = not self.unet.config["r_align"]
        super().__init__({"unet": self.unet, "reference_encoder": self.reference_encoder})

    def draw(self, draw: Draw) -> DiffusionBatch:
        """Pairs, what is left out of them, and noise on landmarks and latents."""
        config, size, window = self.config, self.config.batch_size, self.unet.window
        pairs = self.pairs.draw(draw.rng, size)
        kept = draw.rng.random((2, size)) >= [[config.drop_warped], [config.drop_reference]]
        sigma = config.landmark_noise * torch.rand(size, 1, 1, generator=draw.generator)
        landmark_noise = torch.randn(size, NUM_LANDMARKS, 2, generator=draw.generator)
        shape = (size, int(self.autoencoder.config.latent_channels), window.height, window.width)
        return DiffusionBatch(
            pairs=pairs,
            keep=torch.from_numpy(kept.astype(np.float32))[..., None, None, None],
            landmark_noise=sigma * landmark_noise,
            noise=torch.randn(shape, generator=draw.generator),
            timestep=torch.randint(0, NUM_TIMESTEPS, (size,), generator=draw.generator),
        )

    def loss(self, batch: DiffusionBatch, step: int) -> tuple[torch.Tensor, Figures]:
        """v-prediction loss in the window."""
        pairs, window = self.pairs.encode(batch.pairs), self.unet.window
        shaken = replace(
            pairs,
            warped_latents=pairs.warped_latents * batch.keep[0],
            reference_latents=pairs.reference_latents * batch.keep[1],
            target_landmarks=pairs.target_landmarks + batch.landmark_noise,
        )
        condition = condition_of(self.unet, self.reference_encoder, shaken)
        weight = generated_weight(pairs.mask, pairs.target_landmarks)
        error = velocity_loss(
            lambda noisy, timestep: self.unet(noisy, timestep, condition),
            self.scheduler,
            window.crop(pairs.latents),
            batch.noise,
            batch.timestep,
            window.crop(weight),
        )
        return error, {}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Held-out pairs: drawn, the autoencoder's copy of the target, and the warp."""
        if self.shown is None:
            return {}
        batch = map_tensors(self.shown.batch, lambda tensor: tensor.to(self.device))
        with autocast(self.config, self.device):
            condition = condition_of(self.unet, self.reference_encoder, batch)
            steps = self.config.sample_steps
            latents = sample_latents(self.unet, condition, batch.latents, batch.mask, steps)
            drawn, ceiling, warp = (
                decode_latents(self.autoencoder, x).clamp(-1, 1).cpu()
                for x in (latents, batch.latents, batch.warped_latents)
            )
        target = to_tensor(self.shown.target)
        mask = enlarge_cells(batch.mask.cpu(), target.shape[-1] // batch.mask.shape[-1])
        lips = mouth_boxes(batch.target_landmarks.cpu(), target.shape[-1])
        figures: dict[str, float] = {}
        for from_portrait, name in ((False, "clips"), (True, "portraits")):
            rows = torch.from_numpy(self.shown.from_portrait == from_portrait)
            if not rows.any():
                continue
            for row, picture in (("", drawn), ("ceiling_", ceiling), ("warp_", warp)):
                figures[f"{row}{name}_psnr_db"] = psnr_db(picture[rows], target[rows], mask[rows])
            sharp = [sharpness(picture[rows], lips[rows]) for picture in (drawn, target)]
            figures[f"{name}_mouth_sharpness"] = sharp[0] / sharp[1]
        pictures = (batch.reference_image, warp, drawn, ceiling)
        strips = [*(to_images(x[::2]) for x in pictures), self.shown.target[::2]]
        save_strips(folder / f"{step:06d}.png", strips)
        return figures

    def finish(self, export: Path) -> None:
        """Put Stable Diffusion's autoencoder beside the networks: no stage 0 has exported it."""
        if self.config.stable_diffusion is not None:
            self.autoencoder.save_pretrained(export / "autoencoder")


CONFIG, build = DiffusionConfig, DiffusionStage


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
