"""Stage 2: the denoiser with TalkFormer, and the reference encoder, on detector landmarks.

    python -m model.training.stage2_diffusion prepared=data/prepared output=runs/diffusion

v-prediction with a loss weight of 3 near the lips, 1 in the mask, 0.1 outside; landmark noise;
warped latents and reference latents left out of a share of the samples each. Needs `pairs.npz`
(`model.training.pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
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
from model.training.stage0_autoencoder import mouth_boxes, sharpness, to_images, to_tensor


@dataclass(frozen=True)
class DiffusionConfig(LoopConfig):
    """Stage 2.

    Attributes:
        prepared: Folder with `pairs.npz`.
        autoencoder: Folder of the trained autoencoder (samples are decoded with it).
        variant: Size of the U-Net.
        m_align: The paper's ablation switch.
        r_align: The paper's ablation switch.
        maps: Whether landmark maps are given.
        reference_latents: Whether the reference's latents are given at all.
        warped_latents: Whether the warped reference's latents are given at all.
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
    stable_diffusion: Path | None = None
    portrait_share: float = 0.5
    drop_warped: float = 0.2
    drop_reference: float = 0.2
    landmark_noise: float = 0.004
    sample_steps: int = 4
    sample_every: int = 500


class Pairs:
    """`pairs.npz` in memory, batches on demand."""

    def __init__(self, path: Path, device: str) -> None:
        data = np.load(path)
        self.device = device
        names = (
            "images",
            "landmarks",
            "latents",
            "masked_latents",
            "masks",
            "target",
            "reference",
            "warped_latents",
        )
        self.arrays: dict[str, NDArray[Any]] = {name: data[name] for name in names}
        self.kind = data["kind"][data["target"]]
        self.held_out = data["held_out"][data["target"]].astype(bool)

    def _tensor(self, name: str, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name][rows]).float().to(self.device)

    def batch(self, pairs: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Tensors of the given pairs, float32; see `model.training.pairs` for shapes."""
        target, reference = self.arrays["target"][pairs], self.arrays["reference"][pairs]
        return {
            "latents": self._tensor("latents", target),
            "masked_latents": self._tensor("masked_latents", target),
            "mask": self._tensor("masks", target)[:, None],
            "target_landmarks": self._tensor("landmarks", target),
            "reference_landmarks": self._tensor("landmarks", reference),
            "reference_latents": self._tensor("latents", reference),
            "reference_image": to_tensor(self.arrays["images"][reference]).to(self.device),
            "warped_latents": self._tensor("warped_latents", pairs),
        }


def condition_of(
    unet: TalkFormerUNet, reference_encoder: ReferenceEncoder, batch: dict[str, torch.Tensor]
) -> UNetCondition:
    """The denoiser's condition for a batch of pairs."""
    features = reference_encoder(batch["reference_image"])
    return unet.prepare_condition(
        target_landmarks=batch["target_landmarks"],
        reference_landmarks=batch["reference_landmarks"],
        masked_latents=batch["masked_latents"],
        mask=batch["mask"],
        reference_latents=batch["reference_latents"],
        warped_latents=batch["warped_latents"],
        reference=unet.prepare_reference(features, batch["reference_landmarks"]),
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


CONFIG = DiffusionConfig


def build(config: DiffusionConfig, device: str) -> Stage:
    """The U-Net and the reference encoder, their loss and their samples."""
    if device == "cpu":
        set_backend("eager")  # the fastest backward pass on a CPU
    pairs = Pairs(config.prepared / "pairs.npz", device)
    unet, autoencoder = _networks(config)
    autoencoder.to(device)
    scale = float(autoencoder.config.scaling_factor)
    reference_encoder = ReferenceEncoder(unet.config.channels, pixels_per_cell(autoencoder))
    for module in (unet, reference_encoder):
        module.to(device, memory_format=torch.channels_last)
    scheduler = build_scheduler()
    rows = [np.flatnonzero(~pairs.held_out & (pairs.kind == kind)) for kind in (0, 1)]
    rng = np.random.default_rng(1)
    shown = np.concatenate(
        [rng.choice(np.flatnonzero(pairs.held_out & (pairs.kind == k)), 16) for k in (0, 1)]
    )

    def loss(draw: Draw) -> tuple[torch.Tensor, dict[str, float]]:
        # 1. batch, with inputs left out and landmarks shaken
        size = config.batch_size
        from_portraits = draw.rng.random(size) < config.portrait_share
        chosen = np.where(
            from_portraits, draw.rng.choice(rows[1], size), draw.rng.choice(rows[0], size)
        )
        batch = pairs.batch(chosen)
        keep = (
            draw.rng.random((2, size)) >= [[config.drop_warped], [config.drop_reference]]
        ).astype(np.float32)
        batch["warped_latents"] *= torch.from_numpy(keep[0])[:, None, None, None].to(device)
        batch["reference_latents"] *= torch.from_numpy(keep[1])[:, None, None, None].to(device)
        weight = 0.1 + 0.9 * batch["mask"]
        lips = mouth_boxes(batch["target_landmarks"].cpu().numpy(), weight.shape[-1]).to(device)
        weight = weight + 2.0 * lips * batch["mask"]
        sigma = config.landmark_noise * torch.rand(size, 1, 1, generator=draw.generator)
        noise = torch.randn(batch["target_landmarks"].shape, generator=draw.generator)
        batch["target_landmarks"] = batch["target_landmarks"] + (sigma * noise).to(device)

        # 2. v-prediction loss in the window
        window = unet.window
        clean = window.crop(batch["latents"])
        noise = torch.randn(clean.shape, generator=draw.generator).to(device)
        timestep = torch.randint(0, 1000, (size,), generator=draw.generator).to(device)
        noisy = scheduler.add_noise(clean, noise, timestep)
        wanted = scheduler.get_velocity(clean, noise, timestep)
        predicted = unet(noisy, timestep, condition_of(unet, reference_encoder, batch))
        here = window.crop(weight)
        error = ((predicted.float() - wanted) ** 2 * here).sum() / (here.sum() * clean.shape[1])
        return error, {}

    def sample(folder: Path, step: int) -> dict[str, float]:
        batch = pairs.batch(shown)
        with autocast(config, device):
            condition = condition_of(unet, reference_encoder, batch)
            latents = sample_latents(
                unet, condition, batch["latents"], batch["mask"], config.sample_steps
            )
            decoded = [
                autoencoder.decode(x / scale).sample.float().clamp(-1, 1)
                for x in (latents, batch["latents"], batch["warped_latents"])
            ]
        images = pairs.arrays["images"]
        target = to_tensor(images[pairs.arrays["target"][shown]])
        factor = target.shape[-1] // batch["mask"].shape[-1]
        mask = batch["mask"].cpu().repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        lips = mouth_boxes(batch["target_landmarks"].cpu().numpy(), target.shape[-1])
        figures: dict[str, float] = {}
        for kind, name in ((0, "clips"), (1, "portraits")):
            of_kind = torch.from_numpy(pairs.kind[shown] == kind)
            for row, picture in zip(("", "ceiling_", "warp_"), decoded, strict=True):
                error = ((picture.cpu() - target) ** 2 / 4 * mask)[of_kind].sum() / (
                    3 * mask[of_kind].sum()
                )
                figures[f"{row}{name}_psnr_db"] = -10 * float(error.log10())
            figures[f"{name}_mouth_sharpness"] = sharpness(
                decoded[0].cpu()[of_kind], lips[of_kind]
            ) / sharpness(target[of_kind], lips[of_kind])
        every = slice(None, None, 2)
        strips = [
            images[pairs.arrays["reference"][shown]][every],
            to_images(decoded[2][every]),
            to_images(decoded[0][every]),
        ]
        strips += [to_images(decoded[1][every]), images[pairs.arrays["target"][shown]][every]]
        Image.fromarray(np.concatenate([np.concatenate(list(s), axis=1) for s in strips])).save(
            folder / f"{step:06d}.png"
        )
        return figures

    def finish(export: Path) -> None:
        if config.stable_diffusion is not None:  # no stage 0 has exported it
            autoencoder.save_pretrained(export / "autoencoder")

    return Stage({"unet": unet, "reference_encoder": reference_encoder}, loss, sample, finish)


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
