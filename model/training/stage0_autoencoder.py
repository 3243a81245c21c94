"""Stage 0: the autoencoder.

    python -m model.training.stage0_autoencoder prepared=data/prepared output=runs/autoencoder

Loss: L1 + L1 of first differences at two scales (what keeps lips and teeth crisp without a GAN) + a
small KL term; the mouth counts more. Needs `crops.npz` (`model.training.crops`), or shards
(`shards=FOLDER`, written by `talkface prepare`), or both: then clips come from the shards and
photographs from `crops.npz`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from model.errors import ConfigError
from model.face.landmarks import OUTER_LIPS
from model.networks.autoencoder import build_autoencoder
from model.training.launch import main
from model.training.loop import Draw, LoopConfig, Stage, autocast


@dataclass(frozen=True)
class AutoencoderConfig(LoopConfig):
    """Stage 0.

    Attributes:
        prepared: Folder with `crops.npz`.
        shards: Clips to train on in place of those of `crops.npz`, which may then be absent.
        variant: Size of the autoencoder.
        kl_weight: Weight of the KL term, per pixel.
        edge_weight: Weight of the difference terms.
        mouth_weight: Extra weight around the lips.
        window: Side of the random window that a step looks at, pixels; most windows hold the mouth.
    """

    output: Path = Path("runs/autoencoder")
    prepared: Path = Path("data/prepared")
    shards: Path | None = None
    variant: Literal["tiny", "base", "large"] = "tiny"
    max_steps: int = 3000
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    kl_weight: float = 1e-6
    edge_weight: float = 1.0
    mouth_weight: float = 2.0
    window: int = 96


def to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """`(B, H, W, 3)` uint8 -> `(B, 3, H, W)` float32 in [-1, 1], channels last."""
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    return tensor.contiguous(memory_format=torch.channels_last)


def to_images(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """`(B, 3, H, W)` in [-1, 1] -> `(B, H, W, 3)` uint8."""
    scaled = tensor.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    images: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return images


def augment_colour(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random exposure, contrast, channel gains and, for one picture in twelve, grey; `(B, 3, H, W)`."""
    batch = len(tensor)
    gain = 1.0 + 0.12 * torch.randn(batch, 1, 1, 1, generator=generator)
    tint = 1.0 + 0.06 * torch.randn(batch, 3, 1, 1, generator=generator)
    shift = 0.10 * torch.randn(batch, 1, 1, 1, generator=generator)
    grey = (torch.rand(batch, 1, 1, 1, generator=generator) < 1 / 12).float()
    mixed = grey * tensor.mean(dim=1, keepdim=True) + (1 - grey) * tensor
    return (
        ((mixed + 1) * gain * tint - 1 + shift)
        .clamp(-1, 1)
        .contiguous(memory_format=torch.channels_last)
    )


def mouth_boxes(landmarks: NDArray[np.float32], size: int) -> torch.Tensor:
    """1 inside the lips' box widened by 30 %, 0 elsewhere; `(B, 68, 2)` -> `(B, 1, size, size)`."""
    lips = landmarks[:, list(OUTER_LIPS)]
    low, high = lips.min(axis=1), lips.max(axis=1)
    margin = 0.3 * (high - low)
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    inside = [
        (centres > (low - margin)[:, axis, None]) & (centres < (high + margin)[:, axis, None])
        for axis in (0, 1)
    ]
    return torch.from_numpy((inside[1][:, :, None] & inside[0][:, None, :]).astype(np.float32))[
        :, None
    ]


def differences(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First differences along height and width."""
    return image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]


def laplacian(images: torch.Tensor) -> torch.Tensor:
    """Second differences of every channel `(B, C, H, W)`."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=images.device)
    channels = images.shape[1]
    return F.conv2d(images, kernel.expand(channels, 1, 3, 3), groups=channels, padding=1)


def sharpness(images: torch.Tensor, weight: torch.Tensor) -> float:
    """Weighted variance of the Laplacian of the grey picture: falls as it blurs."""
    response = laplacian(images.float().mean(dim=1, keepdim=True))
    return float((response**2 * weight).sum() / weight.sum())


class Crops:
    """Where crops come from.

    Args:
        prepared: Folder with `crops.npz`.
        shards: Folder of shards, or None.
        size: Side of the shards' crops in pixels.
    Raises:
        ConfigError: There is neither, or `crops.npz` has crops of another size.
    """

    def __init__(self, prepared: Path, shards: Path | None, size: int) -> None:
        self._clips = None
        if shards is not None:
            # Late: it needs OpenCV, which a machine that only trains on arrays has not.
            from model.training.shard_pictures import ShardPictures

            self._clips = ShardPictures(shards, size)
        self.size, self._train = size, np.zeros(0, np.int64)
        path = prepared / "crops.npz"
        if shards is not None and not path.exists():
            return
        data = np.load(path)
        self._images, self._landmarks, kind = data["images"], data["landmarks"], data["kind"]
        held_out = data["held_out"].astype(bool)
        wanted = np.ones(len(kind), bool) if shards is None else kind == 1
        self._train, self._unseen = np.flatnonzero(~held_out & wanted), held_out & wanted
        # clips and portraits half and half
        share = np.where(kind == 0, 1 / max(1, (kind == 0).sum()), 1 / max(1, (kind == 1).sum()))
        self._share = share[self._train] / share[self._train].sum()
        if shards is None:
            self.size = self._images.shape[1]
        elif self._images.shape[1] != size:
            raise ConfigError(
                f"prepared: {path} has crops of {self._images.shape[1]} px; expected {size} px, the "
                "autoencoder's size: cut them again with --size"
            )

    def draw(
        self, rng: np.random.Generator, count: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Training crops `(N, S, S, 3)` and their landmarks `(N, 68, 2)`."""
        parts = []
        rest = count
        if self._clips is not None:
            clips = count if not len(self._train) else int(rng.binomial(count, 0.5))
            rest -= clips
            if clips:
                parts.append(self._clips.crops(rng, clips))
        if rest:
            rows = rng.choice(self._train, rest, p=self._share)
            parts.append((self._images[rows], self._landmarks[rows]))
        images, landmarks = zip(*parts, strict=True)
        return np.concatenate(images), np.concatenate(landmarks)

    def held_out(self, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
        """The same of what is never trained on, always the same ones; None where there is nothing."""
        rng = np.random.default_rng(1)
        parts = []
        if self._clips is not None and self._clips.unseen:
            parts.append(self._clips.crops(rng, count // 2, held_out=True))
        if len(self._train) and self._unseen.any():
            rows = rng.choice(
                np.flatnonzero(self._unseen), count, replace=self._unseen.sum() < count
            )
            parts.append((self._images[rows], self._landmarks[rows]))
        if not parts:
            return None
        images, landmarks = zip(*parts, strict=True)
        return np.concatenate(images)[:count], np.concatenate(landmarks)[:count]


CONFIG = AutoencoderConfig


def build(config: AutoencoderConfig, device: str) -> Stage:
    """The autoencoder, its loss and its samples."""
    autoencoder = build_autoencoder(config.variant).to(device, memory_format=torch.channels_last)
    crops = Crops(config.prepared, config.shards, int(autoencoder.config.sample_size))
    shown = crops.held_out(64)
    size = crops.size

    def loss(draw: Draw) -> tuple[torch.Tensor, dict[str, float]]:
        # 1. crops in any light, mirrored half of the time
        images, landmarks = crops.draw(draw.rng, config.batch_size)
        target = augment_colour(to_tensor(images), draw.generator)
        weight = 1.0 + config.mouth_weight * mouth_boxes(landmarks, size)
        if draw.rng.random() < 0.5:
            target, weight = target.flip(-1), weight.flip(-1)
        # 2. a window: cheaper, and the decoder learns to decode parts
        high = size - config.window + 1
        top = (
            int(draw.rng.integers(high))
            if draw.rng.random() < 0.4
            else high - 1 - int(draw.rng.integers(9))
        )
        left = int(draw.rng.integers(high))
        there = (..., slice(top, top + config.window), slice(left, left + config.window))
        target, weight = target[there].to(device), weight[there].to(device)
        posterior = autoencoder.encode(target).latent_dist
        output = autoencoder.decode(posterior.sample()).sample.float()
        pixel = ((output - target).abs() * weight).mean()
        edge = torch.zeros(())
        for scale in (1, 2):
            first, second = (F.avg_pool2d(x, scale) if scale > 1 else x for x in (output, target))
            here = F.avg_pool2d(weight, scale) if scale > 1 else weight
            for d_out, d_in, w in zip(
                differences(first),
                differences(second),
                (here[:, :, 1:], here[:, :, :, 1:]),
                strict=True,
            ):
                edge = edge + ((d_out - d_in).abs() * w).mean()
        kl = posterior.kl().mean() / (size * size)
        total = pixel + config.edge_weight * edge + config.kl_weight * kl * size * size
        return total, {"pixel": pixel.item(), "edge": edge.item(), "kl": kl.item()}

    def sample(folder: Path, step: int) -> dict[str, float]:
        assert shown is not None
        images, landmarks = shown
        target = to_tensor(images).to(device)
        with autocast(config, device):
            latents = autoencoder.encode(target).latent_dist.mode()
            output = autoencoder.decode(latents).sample.float().clamp(-1, 1)
        mouth = mouth_boxes(landmarks, size).to(device)
        error = float(((output - target) ** 2 / 4).mean())
        rows = [np.concatenate(list(to_images(x[:10])), axis=1) for x in (target, output)]
        Image.fromarray(np.concatenate(rows)).save(folder / f"{step:06d}.png")
        return {
            "psnr_db": -10 * float(np.log10(error)),
            "mouth_sharpness": sharpness(output, mouth) / sharpness(target, mouth),
            "latent_std": float(latents.std()),
        }

    def finish(folder: Path) -> None:
        """Put the latents' scale on training crops into the export, so that every user divides by one number."""
        exported = AutoencoderKL.from_pretrained(folder / "autoencoder", low_cpu_mem_usage=False)
        images, _ = crops.draw(np.random.default_rng(2), 256)
        with torch.no_grad():
            std = float(exported.encode(to_tensor(images)).latent_dist.mode().std())
        exported.register_to_config(scaling_factor=1.0 / std)
        exported.save_pretrained(folder / "autoencoder")
        print(f"scaling_factor {1.0 / std:.4f}")

    return Stage({"autoencoder": autoencoder}, loss, sample if shown else None, finish)


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
