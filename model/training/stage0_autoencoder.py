"""Stage 0: the autoencoder.

    python -m model.training.stage0_autoencoder prepared=data/prepared output=runs/autoencoder

Loss: L1 + L1 of first differences at two scales (what keeps lips and teeth crisp without a GAN) + a
small KL term; the mouth counts more. Needs `pairs.npz` (`model.training.builders.pairs`), or shards
(`shards=FOLDER`, written by `talkface prepare`), or both: then clips come from the shards and
photographs from `pairs.npz`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from model.networks.autoencoder import build_autoencoder, pixels_per_cell
from model.networks.pixels import to_images, to_tensor
from model.networks.variants import GRIDS
from model.training.launch import main
from model.training.pictures import (
    augment_pictures,
    check_side,
    even_shares,
    mouth_boxes,
    psnr_db,
    reconstruction_loss,
    save_strips,
    sharpness,
)
from model.training.stage import Draw, Figures, LoopConfig, Stage, autocast


@dataclass(frozen=True)
class AutoencoderConfig(LoopConfig):
    """Stage 0.

    Attributes:
        prepared: Folder with `pairs.npz`.
        shards: Clips to train on in place of those of `pairs.npz`, which may then be absent.
        variant: Size of the autoencoder.
        crop: What the pictures show; `pairs.npz` was made for it.
        start: Folder of an autoencoder to begin with, or None.
        kl_weight: Weight of the KL term, per pixel.
        edge_weight: Weight of the difference terms.
        mouth_weight: Extra weight around the lips.
        window: Side of the random window that a step looks at, pixels; most windows hold the mouth.
    """

    output: Path = Path("runs/autoencoder")
    prepared: Path = Path("data/prepared")
    shards: Path | None = None
    variant: Literal["tiny", "base", "large"] = "tiny"
    crop: Literal["face", "mouth"] = "mouth"
    start: Path | None = None
    max_steps: int = 3000
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    kl_weight: float = 1e-6
    edge_weight: float = 1.0
    mouth_weight: float = 2.0
    window: int = 96


Pictures = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Crops `(N, S, S, 3)` and their landmarks `(N, 68, 2)`."""


class Crops:
    """Where crops come from.

    Args:
        prepared: Folder with `pairs.npz`.
        shards: Folder of shards, or None.
        size: Side of the crops in pixels.
        crop: What the shards' crops show.
    Raises:
        ConfigError: There is neither, or `pairs.npz` has crops of another size.
    """

    def __init__(
        self, prepared: Path, shards: Path | None, size: int, crop: Literal["face", "mouth"]
    ) -> None:
        self._clips = None
        if shards is not None:
            # Late: it needs OpenCV, which a machine that only trains on arrays has not.
            from model.data.shard_pictures import ShardPictures

            self._clips = ShardPictures(shards, size, crop)
        self.size, self._train = size, np.zeros(0, np.int64)
        path = prepared / "pairs.npz"
        if shards is not None and not path.exists():
            return
        data = np.load(path)
        self._images, self._landmarks, kind = data["images"], data["landmarks"], data["kind"]
        held_out = data["held_out"].astype(bool)
        wanted = np.ones(len(kind), bool) if shards is None else kind == 1
        self._train, self._unseen = np.flatnonzero(~held_out & wanted), held_out & wanted
        share = even_shares(kind)[self._train]
        self._share = share / share.sum()
        if shards is None:
            self.size = self._images.shape[1]
        check_side(path, self._images.shape[1], self.size)

    def draw(self, rng: np.random.Generator, count: int) -> Pictures:
        """Training crops."""
        parts = []
        rest = count
        if self._clips is not None:
            clips = count if not len(self._train) else int(rng.binomial(count, 0.5))
            rest -= clips
            if clips:
                parts.append(self._clips.crops(rng, clips))
        if rest:
            parts.append(self._rows(rng.choice(self._train, rest, p=self._share)))
        return _joined(parts)

    def held_out(self, count: int) -> Pictures | None:
        """The same of what is never trained on, always the same ones; None where there is nothing."""
        rng = np.random.default_rng(1)
        parts = []
        if self._clips is not None and self._clips.unseen:
            parts.append(self._clips.crops(rng, count // 2, held_out=True))
        if len(self._train) and self._unseen.any():
            unseen = np.flatnonzero(self._unseen)
            parts.append(self._rows(rng.choice(unseen, count, replace=len(unseen) < count)))
        if not parts:
            return None
        images, landmarks = _joined(parts)
        return images[:count], landmarks[:count]

    def _rows(self, rows: NDArray[np.int64]) -> Pictures:
        return self._images[rows], self._landmarks[rows]


def _joined(parts: list[Pictures]) -> Pictures:
    images, landmarks = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(landmarks)


@dataclass(frozen=True)
class CropBatch:
    """Windows of crops `(B, 3, h, w)` in [-1, 1], and the weight of their pixels `(B, 1, h, w)`."""

    target: torch.Tensor
    weight: torch.Tensor


class AutoencoderStage(Stage[CropBatch]):
    """The autoencoder, its loss and its samples."""

    def __init__(self, config: AutoencoderConfig, device: str) -> None:
        self.config, self.device = config, device
        self.autoencoder = build_autoencoder(config.variant)
        if config.start is not None:
            start = AutoencoderKL.from_pretrained(config.start, low_cpu_mem_usage=False)
            self.autoencoder.load_state_dict(start.float().state_dict())
        self.autoencoder.to(device, memory_format=torch.channels_last)
        super().__init__({"autoencoder": self.autoencoder})
        side = GRIDS[config.crop] * pixels_per_cell(self.autoencoder)
        self.crops = Crops(config.prepared, config.shards, side, config.crop)
        self.shown = self.crops.held_out(64)

    def draw(self, draw: Draw) -> CropBatch:
        """Crops in any light, mirrored half of the time, and a window of them."""
        config, size = self.config, self.crops.size
        images, landmarks = self.crops.draw(draw.rng, config.batch_size)
        target, weight = augment_pictures(
            images, landmarks, config.mouth_weight, draw.rng, draw.generator
        )
        # A window: cheaper, and the decoder learns to decode parts. Most of them hold the mouth.
        high = size - config.window + 1
        anywhere = draw.rng.random() < 0.4
        low = 0 if anywhere else max(0, high - 9)
        top = int(draw.rng.integers(low, high))
        left = int(draw.rng.integers(high))
        window = (..., slice(top, top + config.window), slice(left, left + config.window))
        return CropBatch(target[window], weight[window])

    def loss(self, batch: CropBatch, step: int) -> tuple[torch.Tensor, Figures]:
        """L1 of pixels and, at two scales, of edges; the KL term."""
        config, target, weight = self.config, batch.target, batch.weight
        posterior = self.autoencoder.encode(target).latent_dist
        output = self.autoencoder.decode(posterior.sample()).sample.float()
        pixel, edge = reconstruction_loss(output, target, weight)
        pixels = self.crops.size**2
        kl = posterior.kl().mean() / pixels
        total = pixel + config.edge_weight * edge + config.kl_weight * kl * pixels
        return total, {"pixel": pixel.detach(), "edge": edge.detach(), "kl": kl.detach()}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Held-out crops and their copies."""
        if self.shown is None:
            return {}
        images, landmarks = self.shown
        target = to_tensor(images).to(self.device)
        with autocast(self.config, self.device):
            latents = self.autoencoder.encode(target).latent_dist.mode()
            output = self.autoencoder.decode(latents).sample.float().clamp(-1, 1)
        mouth = mouth_boxes(torch.from_numpy(landmarks), self.crops.size).to(self.device)
        save_strips(folder / f"{step:06d}.png", [to_images(x[:10]) for x in (target, output)])
        return {
            "psnr_db": psnr_db(output, target),
            "mouth_sharpness": sharpness(output, mouth) / sharpness(target, mouth),
            "latent_std": float(latents.std()),
        }

    def finish(self, export: Path) -> None:
        """Put the latents' scale on training crops into the export, so that every user divides by one number."""
        exported = AutoencoderKL.from_pretrained(export / "autoencoder", low_cpu_mem_usage=False)
        images, _ = self.crops.draw(np.random.default_rng(2), 256)
        with torch.no_grad():
            std = float(exported.encode(to_tensor(images)).latent_dist.mode().std())
        exported.register_to_config(scaling_factor=1.0 / std)
        exported.save_pretrained(export / "autoencoder")
        print(f"scaling_factor {1.0 / std:.4f}")


CONFIG, build = AutoencoderConfig, AutoencoderStage


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
