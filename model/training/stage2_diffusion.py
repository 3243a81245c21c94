"""Stage 2: the denoiser with TalkFormer, and the reference encoder, on detector landmarks.

    python -m model.training.stage2_diffusion prepared=data/prepared output=runs/diffusion

v-prediction with a loss weight of 3 near the lips, 1 in the mask, 0.1 outside; landmark noise;
warped latents and reference latents left out of a share of the samples each. Needs `pairs.npz`
(`model.training.pairs`), or shards (`shards=FOLDER`, written by `talkface prepare`; latents are then
encoded as they are needed), or both: then clips come from the shards and photographs from `pairs.npz`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from model.errors import ConfigError
from model.networks.attention import set_backend
from model.networks.autoencoder import pixels_per_cell
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.stable_diffusion import load_stable_diffusion
from model.networks.unet import TalkFormerUNet, UNetCondition, build_unet
from model.training.launch import main
from model.training.loop import Draw, LoopConfig, Stage, autocast
from model.training.pair_batches import PairBatch, Pairs
from model.training.stage0_autoencoder import mouth_boxes, sharpness, to_images, to_tensor


@dataclass(frozen=True)
class DiffusionConfig(LoopConfig):
    """Stage 2.

    Attributes:
        prepared: Folder with `pairs.npz`.
        shards: Clips to train on in place of those of `pairs.npz`, which may then be absent.
        autoencoder: Folder of the trained autoencoder (it encodes shards and decodes samples).
        variant: Size of the U-Net.
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
    seed: int = 0,
) -> torch.Tensor:
    """DDIM from one shared noise; latents `(B, 4, H, W)`, generated inside `mask`, `known` outside."""
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    window = unet.window
    shape = (1, known.shape[1], window.height, window.width)
    latents = (
        torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        .to(known.device)
        .repeat(len(known), 1, 1, 1)
    )
    for timestep in scheduler.timesteps:
        predicted = unet(latents, timestep, condition).float()
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    inside = window.crop(mask)
    return window.paste(inside * latents + (1 - inside) * window.crop(known), known)


def _networks(config: DiffusionConfig) -> tuple[TalkFormerUNet, AutoencoderKL]:
    """The U-Net to train and the autoencoder behind its latents."""
    switches = {
        "m_align": config.m_align,
        "r_align": config.r_align,
        "maps": config.maps,
        "reference_latents": config.reference_latents,
        "warped_latents": config.warped_latents,
    }
    if config.stable_diffusion is None:
        autoencoder = AutoencoderKL.from_pretrained(config.autoencoder, low_cpu_mem_usage=False)
        return build_unet(config.variant, **switches), autoencoder.eval()
    if config.variant != "large":
        raise ConfigError(
            f"stable_diffusion: variant is {config.variant!r}; expected 'large', whose sizes are "
            "Stable Diffusion's"
        )
    begun = load_stable_diffusion(config.stable_diffusion, **switches)
    print(begun.report())
    return begun.unet.train(), begun.autoencoder


_R_ALIGN = ("r_query", "r_key", "r_out", "extra_key", "extra_value")


def begin_from(start: Path, unet: TalkFormerUNet, reference_encoder: ReferenceEncoder) -> list[str]:
    """Take over a trained checkpoint's weights.

    Args:
        start: Checkpoint folder with `unet/` and `reference_encoder/`.
        unet: Gets all that `start` has; R-Align only of the same `reference_places`.
        reference_encoder: Gets all.
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


CONFIG = DiffusionConfig


def build(config: DiffusionConfig, device: str) -> Stage:
    """The U-Net and the reference encoder, their loss and their samples."""
    if device == "cpu":
        set_backend("eager")  # the fastest backward pass on a CPU
    unet, autoencoder = _networks(config)
    autoencoder.to(device)
    pairs = Pairs(
        config.prepared, config.shards, autoencoder, device, portrait_share=config.portrait_share
    )
    shown = pairs.shown(16)
    scale = float(autoencoder.config.scaling_factor)
    reference_encoder = ReferenceEncoder(unet.config.channels, pixels_per_cell(autoencoder))
    if config.start is not None:
        left = begin_from(config.start, unet, reference_encoder)
        print(f"begins with {config.start}; anew: {', '.join(left) or 'nothing'}", flush=True)
    for module in (unet, reference_encoder):
        module.to(device, memory_format=torch.channels_last)
    scheduler = build_scheduler()

    def loss(draw: Draw) -> tuple[torch.Tensor, dict[str, float]]:
        # 1. batch, with inputs left out and landmarks shaken
        size = config.batch_size
        batch = pairs.draw(draw.rng, size)
        kept = draw.rng.random((2, size)) >= [[config.drop_warped], [config.drop_reference]]
        keep = torch.from_numpy(kept.astype(np.float32))[..., None, None, None].to(device)
        weight = 0.1 + 0.9 * batch.mask
        lips = mouth_boxes(batch.target_landmarks.cpu().numpy(), weight.shape[-1]).to(device)
        weight = weight + 2.0 * lips * batch.mask
        sigma = config.landmark_noise * torch.rand(size, 1, 1, generator=draw.generator)
        noise = torch.randn(batch.target_landmarks.shape, generator=draw.generator)
        shaken = replace(
            batch,
            warped_latents=batch.warped_latents * keep[0],
            reference_latents=batch.reference_latents * keep[1],
            target_landmarks=batch.target_landmarks + (sigma * noise).to(device),
        )

        # 2. v-prediction loss in the window
        window = unet.window
        clean = window.crop(batch.latents)
        noise = torch.randn(clean.shape, generator=draw.generator).to(device)
        timestep = torch.randint(0, 1000, (size,), generator=draw.generator).to(device)
        noisy = scheduler.add_noise(clean, noise, timestep)
        wanted = scheduler.get_velocity(clean, noise, timestep)
        predicted = unet(noisy, timestep, condition_of(unet, reference_encoder, shaken))
        here = window.crop(weight)
        error = ((predicted.float() - wanted) ** 2 * here).sum() / (here.sum() * clean.shape[1])
        return error, {}

    def sample(folder: Path, step: int) -> dict[str, float]:
        assert shown is not None
        batch = shown.batch
        with autocast(config, device):
            condition = condition_of(unet, reference_encoder, batch)
            latents = sample_latents(
                unet, condition, batch.latents, batch.mask, config.sample_steps
            )
            decoded = [
                autoencoder.decode(x / scale).sample.float().clamp(-1, 1)
                for x in (latents, batch.latents, batch.warped_latents)
            ]
        target = to_tensor(shown.target)
        factor = target.shape[-1] // batch.mask.shape[-1]
        mask = batch.mask.cpu().repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        lips = mouth_boxes(batch.target_landmarks.cpu().numpy(), target.shape[-1])
        figures: dict[str, float] = {}
        for from_portrait, name in ((False, "clips"), (True, "portraits")):
            of_kind = torch.from_numpy(shown.from_portrait == from_portrait)
            if not of_kind.any():
                continue
            for row, picture in zip(("", "ceiling_", "warp_"), decoded, strict=True):
                error = ((picture.cpu() - target) ** 2 / 4 * mask)[of_kind].sum() / (
                    3 * mask[of_kind].sum()
                )
                figures[f"{row}{name}_psnr_db"] = -10 * float(error.log10())
            figures[f"{name}_mouth_sharpness"] = sharpness(
                decoded[0].cpu()[of_kind], lips[of_kind]
            ) / sharpness(target[of_kind], lips[of_kind])
        every = slice(None, None, 2)
        pictures = (batch.reference_image, decoded[2], decoded[0], decoded[1])
        strips = [*(to_images(x[every]) for x in pictures), shown.target[every]]
        Image.fromarray(np.concatenate([np.concatenate(list(s), axis=1) for s in strips])).save(
            folder / f"{step:06d}.png"
        )
        return figures

    def finish(export: Path) -> None:
        if config.stable_diffusion is not None:  # no stage 0 has exported it
            autoencoder.save_pretrained(export / "autoencoder")

    modules = {"unet": unet, "reference_encoder": reference_encoder}
    return Stage(modules, loss, sample if shown else None, finish)


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
