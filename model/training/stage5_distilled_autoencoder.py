"""Stage 5: a quick autoencoder with the latents of the one that the denoiser was trained with.

    python -m model.training.stage5_distilled_autoencoder prepared=data/prepared output=runs/distilled

Encoder and decoder are convolutions and ReLU alone (diffusers' `AutoencoderTiny`) and learn apart: the
encoder the teacher's latents, so that the denoiser needs no other training; the decoder the pictures
themselves from the teacher's latents, by stage 0's loss, so that it may become better than the teacher's.
Needs `pairs.npz` (`model.training.builders.pairs`); what was carried is looked at as well, because that is
what is mostly encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.errors import ConfigError
from model.networks.autoencoder import (
    build_distilled_autoencoder,
    decode_latents,
    encode_pictures,
    load_autoencoder,
    pixels_per_cell,
)
from model.networks.pixels import to_images, to_tensor
from model.training.launch import main
from model.training.pictures import (
    augment_pictures,
    even_shares,
    mouth_boxes,
    psnr_db,
    reconstruction_loss,
    save_strips,
    sharpness,
)
from model.training.stage import Draw, Figures, LoopConfig, Stage, autocast


@dataclass(frozen=True)
class DistillationConfig(LoopConfig):
    """Stage 5.

    Attributes:
        prepared: Folder with `pairs.npz`.
        teacher: Folder of the autoencoder whose latents are learned.
        variant: Size of the networks.
        carried: Share of pictures that were carried by the portrait engine.
        edge_weight: Of the difference terms.
        mouth_weight: Extra weight around the lips.
        latent_noise: Largest standard deviation of noise on the latents that are decoded: what a
            sampler draws is never quite what an encoder gives.
        window: Side of the part that a step looks at, in latent cells.
    """

    output: Path = Path("runs/distilled")
    prepared: Path = Path("data/prepared")
    teacher: Path = Path("runs/autoencoder/export/autoencoder")
    variant: Literal["tiny"] = "tiny"
    carried: float = 0.4
    max_steps: int = 6000
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.0
    edge_weight: float = 1.0
    mouth_weight: float = 2.0
    latent_noise: float = 0.1
    window: int = 16


class Pictures:
    """`pairs.npz`: pictures of people, and others that were carried to their landmarks."""

    def __init__(self, path: Path) -> None:
        data = np.load(path)
        self._pictures, self._carried, self._landmarks = (
            data[name] for name in ("images", "warped", "landmarks")
        )
        self._targets = data["target"]
        held_out = data["held_out"].astype(bool)
        self._of_kind = {
            (carried, unseen): np.flatnonzero(
                (held_out[self._targets] if carried else held_out) == unseen
            )
            for carried in (False, True)
            for unseen in (False, True)
        }
        share = even_shares(data["kind"])
        self._shares = {False: share, True: share[self._targets]}
        self.size = int(self._pictures.shape[1])

    def draw(
        self, rng: np.random.Generator, count: int, *, carried: float, unseen: bool = False
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Pictures `(N, S, S, 3)` uint8 and their landmarks `(N, 68, 2)`, `carried` of them carried ones.

        Raises:
            ConfigError: There are none.
        """
        images, landmarks = [], []
        moved = round(count * carried)
        for is_carried, number in ((False, count - moved), (True, moved)):
            rows = self._of_kind[is_carried, unseen]
            if number and not len(rows):
                raise ConfigError("prepared: pairs.npz has no such pictures; make it again")
            share = self._shares[is_carried][rows]
            chosen = rng.choice(rows, number, p=share / share.sum()) if number else rows[:0]
            images.append((self._carried if is_carried else self._pictures)[chosen])
            landmarks.append(self._landmarks[self._targets[chosen] if is_carried else chosen])
        return np.concatenate(images), np.concatenate(landmarks)


@dataclass(frozen=True)
class PictureBatch:
    """Pictures `(B, 3, S, S)` in [-1, 1], weights of their pixels `(B, 1, S, S)`, and the noise of latents.

    `top` and `left` are the corner of the part that is decoded, in cells.
    """

    target: torch.Tensor
    weight: torch.Tensor
    noise: torch.Tensor
    top: int
    left: int


class DistillationStage(Stage[PictureBatch]):
    """The quick autoencoder, its teacher and its losses."""

    def __init__(self, config: DistillationConfig, device: str) -> None:
        self.config, self.device = config, device
        self.teacher = load_autoencoder(config.teacher).eval().requires_grad_(False)
        self.autoencoder = build_distilled_autoencoder(config.variant)
        for network in (self.teacher, self.autoencoder):
            network.to(device=device, memory_format=torch.channels_last)
        super().__init__({"autoencoder": self.autoencoder})
        self.pictures = Pictures(config.prepared / "pairs.npz")
        self.cells = self.pictures.size // pixels_per_cell(self.teacher)

    def draw(self, draw: Draw) -> PictureBatch:
        """Pictures in any light, mirrored half of the time, and the part of them that is decoded."""
        config = self.config
        images, landmarks = self.pictures.draw(draw.rng, config.batch_size, carried=config.carried)
        target, weight = augment_pictures(
            images, landmarks, config.mouth_weight, draw.rng, draw.generator
        )
        target = target.contiguous(memory_format=torch.channels_last)
        shape = (len(target), 4, self.cells, self.cells)
        scale = config.latent_noise * torch.rand(shape[0], 1, 1, 1, generator=draw.generator)
        noise = scale * torch.randn(shape, generator=draw.generator)
        top, left = (int(x) for x in draw.rng.integers(self.cells - config.window + 1, size=2))
        return PictureBatch(target, weight, noise, top, left)

    def loss(self, batch: PictureBatch, step: int) -> tuple[torch.Tensor, Figures]:
        """The teacher's latents, squared; pixels and edges of what its latents are decoded to."""
        config, factor = self.config, pixels_per_cell(self.teacher)
        with torch.no_grad():
            known = encode_pictures(self.teacher, batch.target, torch.float32)
        latents = F.mse_loss(encode_pictures(self.autoencoder, batch.target).float(), known)
        cells, pixels = (
            (
                ...,
                slice(scale * batch.top, scale * (batch.top + config.window)),
                slice(scale * batch.left, scale * (batch.left + config.window)),
            )
            for scale in (1, factor)
        )
        output = decode_latents(self.autoencoder, (known + batch.noise)[cells])
        pixel, edge = reconstruction_loss(output, batch.target[pixels], batch.weight[pixels])
        total = latents + pixel + config.edge_weight * edge
        return total, {"latents": latents.detach(), "pixel": pixel.detach(), "edge": edge.detach()}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Held-out pictures: themselves, the teacher's copies, this one's; decoded from the teacher's latents."""
        images, landmarks = self.pictures.draw(
            np.random.default_rng(1), 48, carried=0.25, unseen=True
        )
        target = to_tensor(images).to(self.device)
        mouth = mouth_boxes(torch.from_numpy(landmarks), self.pictures.size).to(self.device)
        with autocast(self.config, self.device), torch.no_grad():
            known = encode_pictures(self.teacher, target, torch.float32)
            latents = encode_pictures(self.autoencoder, target, torch.float32)
            copies = {
                "teacher": decode_latents(self.teacher, known),
                "decoder": decode_latents(self.autoencoder, known),
                "both": decode_latents(self.autoencoder, latents),
            }
        shown = [target, *copies.values()]
        save_strips(folder / f"{step:06d}.png", [to_images(x.clamp(-1, 1)[::5]) for x in shown])
        figures = {"latent_error": float((latents - known).square().mean().sqrt())}
        for name, copy in copies.items():
            figures[f"{name}_psnr_db"] = psnr_db(copy.clamp(-1, 1), target, mouth)
            figures[f"{name}_sharpness"] = sharpness(copy, mouth) / sharpness(target, mouth)
        return figures


CONFIG, build = DistillationConfig, DistillationStage


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
