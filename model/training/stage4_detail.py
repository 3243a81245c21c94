"""Stage 4: the detail network, from what the diffusion drew.

    python -m model.training.stage4_detail prepared=data/prepared output=runs/detail

L1 on pixels and on their differences, three times as much around the lips; the texture's local strength;
and a patch discriminator with feature matching: the mean of all possible teeth is a grey band, and L1
alone draws it. The paper's
"no GAN loss" is about the diffusion, which this stage does not touch. Needs `detail.npz`
(`model.training.builders.detail_pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.func import functional_call

from model.errors import ConfigError
from model.face.landmarks import OUTER_LIPS
from model.networks.detail import SCALE, DetailNetwork, enlarge
from model.networks.patch_discriminator import PatchDiscriminator
from model.networks.pixels import to_images, to_tensor
from model.training.launch import main
from model.training.pictures import (
    augment_colour,
    edge_loss,
    laplacian,
    psnr_db,
    save_strips,
    sharpness,
)
from model.training.stage import Draw, Figures, LoopConfig, Stage, autocast

KINDS: Final = ("clips", "moved", "photographs", "other_photographs")
_PATCH: Final = 8  # pixels over which a texture's strength is averaged
_JUDGE_RAMP: Final = 300  # steps over which the discriminator comes to count


@dataclass(frozen=True)
class DetailConfig(LoopConfig):
    """Stage 4.

    Attributes:
        prepared: Folder with `detail.npz`.
        start: Folder of a detail network to begin with, or None.
        width: Of the network's finest scale; the coarser ones are twice and three times as wide.
        shares: Of samples of each kind: clips, moved photographs, photographs as they are, another
            photograph of the person. Only photographs as they are have sharp teeth.
        rows: Height of the part that a step looks at, pixels of what was drawn.
        columns: Its width.
        lips_weight: Extra weight around the lips.
        edge_weight: Of the difference terms.
        texture_weight: Of the texture's local strength: where it cannot be right, it shall not be weak.
        feature_weight: Of feature matching.
        adversarial_weight: Of the discriminator's verdict.
        judged_from: Step from which the discriminator counts.
        discriminator_rate: Its learning rate.
        light: Share of samples whose warp has another light: footage changes it.
    """

    output: Path = Path("runs/detail")
    prepared: Path = Path("data/prepared")
    start: Path | None = None
    width: int = 32
    shares: tuple[float, float, float, float] = (0.25, 0.40, 0.25, 0.10)
    max_steps: int = 5000
    batch_size: int = 12
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    rows: int = 64
    columns: int = 72
    lips_weight: float = 2.0
    edge_weight: float = 1.0
    texture_weight: float = 1.0
    feature_weight: float = 1.0
    adversarial_weight: float = 0.02
    judged_from: int = 300
    discriminator_rate: float = 1e-4
    light: float = 0.5
    sample_every: int = 500


class DetailArrays:
    """`detail.npz` in memory.

    Raises:
        ConfigError: A kind with a share has no samples.
    """

    def __init__(self, path: Path, shares: tuple[float, ...]) -> None:
        data = np.load(path)
        self.drawn, self.target, self.warped = (data[n] for n in ("drawn", "target", "warped"))
        self.kind, self.held_out = data["kind"], data["held_out"].astype(bool)
        height, width = self.drawn.shape[1:3]
        self.lips = lip_boxes(data["landmarks"], height, width)
        seen = [np.flatnonzero((self.kind == k) & ~self.held_out) for k in range(len(shares))]
        for rows, share, name in zip(seen, shares, KINDS, strict=True):
            if share and not len(rows):
                raise ConfigError(f"shares: {path} has no {name}; expected a share of 0 for them")
        self._seen, self._shares = seen, np.array(shares) / sum(shares)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Rows of training samples `(count,)`."""
        kinds = rng.choice(len(self._shares), count, p=self._shares)
        return np.array([rng.choice(self._seen[kind]) for kind in kinds])

    def unseen(self, kind: int, count: int) -> NDArray[np.int64]:
        """Rows of held-out samples of a kind, always the same ones."""
        rows = np.flatnonzero((self.kind == kind) & self.held_out)
        return np.random.default_rng(0).permutation(rows)[:count]


def lip_boxes(landmarks: NDArray[np.float32], height: int, width: int) -> NDArray[np.int64]:
    """Lips' boxes widened by 30 %: top, bottom, left, right `(N, 4)` of landmarks `(N, 68, 2)`, all pixels."""
    points = landmarks[:, list(OUTER_LIPS)]
    low, high = points.min(axis=1), points.max(axis=1)
    margin = 0.3 * (high - low)
    low, high = np.floor(low - margin), np.ceil(high + margin)
    box = np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)
    return box.clip(0, [height, height, width, width]).astype(np.int64)


def textures(pictures: torch.Tensor) -> torch.Tensor:
    """What is finer than some 4 pixels, `(B, 3, H, W)`: colours are not the discriminator's business."""
    return pictures - F.avg_pool2d(pictures, 9, stride=1, padding=4, count_include_pad=False)


def texture_strength(pictures: torch.Tensor) -> torch.Tensor:
    """Mean |Laplacian| of overlapping patches, `(B, 3, H, W)` -> `(B, 3, h, w)`: sharpness without phase."""
    return F.avg_pool2d(laplacian(pictures).abs(), _PATCH, _PATCH // 2)


def box_weight(boxes: NDArray[np.int64], height: int, width: int, scale: int) -> torch.Tensor:
    """1 inside boxes `(B, 4)`, 0 elsewhere: `(B, 1, scale * height, scale * width)`."""
    weight = torch.zeros(len(boxes), 1, scale * height, scale * width)
    for row, (top, bottom, left, right) in zip(weight, boxes * scale, strict=True):
        row[:, top:bottom, left:right] = 1.0
    return weight


@dataclass(frozen=True)
class DetailBatch:
    """Parts of samples that mostly hold the mouth.

    Drawn `(B, 3, h, w)`, in [-1, 1]; warped and target `(B, 3, 2h, 2w)`; `(B, 1, 2h, 2w)`, 1 around the lips.
    """

    drawn: torch.Tensor
    warped: torch.Tensor
    target: torch.Tensor
    lips: torch.Tensor


class DetailStage(Stage[DetailBatch]):
    """The detail network, its judge, their losses and samples."""

    def __init__(self, config: DetailConfig, device: str) -> None:
        self.config, self.device = config, device
        self.arrays = DetailArrays(config.prepared / "detail.npz", config.shares)
        self.network = DetailNetwork((config.width, 2 * config.width, 3 * config.width))
        self.judge = PatchDiscriminator()
        if config.start is not None:
            start = DetailNetwork.from_pretrained(config.start).float()
            self.network.load_state_dict(start.state_dict())
        for module in (self.network, self.judge):
            module.to(device, memory_format=torch.channels_last)
        super().__init__(
            {"detail": self.network, "discriminator": self.judge},
            learning_rates={"discriminator": config.discriminator_rate},
        )

    def draw(self, draw: Draw) -> DetailBatch:
        """One light for all three pictures, and now and then another one for the warp."""
        config, arrays = self.config, self.arrays
        height, width = arrays.drawn.shape[1:3]
        rows = arrays.draw(draw.rng, config.batch_size)
        top = int(draw.rng.integers(0, height - config.rows + 1))
        left = int(draw.rng.integers(0, width - config.columns + 1))
        if draw.rng.random() < 0.7:
            top = min(top, (height - config.rows) // 2)
        coarse = (slice(top, top + config.rows), slice(left, left + config.columns))
        fine = tuple(slice(SCALE * s.start, SCALE * s.stop) for s in coarse)
        drawn, warped, target = (
            to_tensor(x[rows][:, *part])
            for x, part in ((arrays.drawn, coarse), (arrays.warped, fine), (arrays.target, fine))
        )
        lit = torch.rand(len(rows), 1, 1, 1, generator=draw.generator) < config.light
        warped = torch.where(lit, augment_colour(warped, draw.generator), warped)
        lips = box_weight(arrays.lips[rows], height, width, SCALE)[:, :, *fine]
        pictures = [drawn, warped, target, lips]
        if draw.rng.random() < 0.5:
            pictures = [x.flip(-1) for x in pictures]
        return DetailBatch(*(x.contiguous(memory_format=torch.channels_last) for x in pictures))

    def loss(self, batch: DetailBatch, step: int) -> tuple[torch.Tensor, Figures]:
        """What is drawn against what it should be; then the judge's own loss, and its opinion."""
        config = self.config
        # 1. pixels, edges, texture
        weight = 1.0 + config.lips_weight * batch.lips
        weight = weight / weight.mean()
        output = self.network(batch.drawn, batch.warped).float()
        pixel = ((output - batch.target).abs() * weight).mean()
        edge = edge_loss([(output, batch.target, weight)])
        strength = (texture_strength(output) - texture_strength(batch.target)).abs()
        texture = (strength * F.avg_pool2d(weight, _PATCH, _PATCH // 2)).mean()
        total = pixel + config.edge_weight * edge + config.texture_weight * texture

        # 2. the judge: hinge loss on real and drawn textures
        given = enlarge(batch.drawn)
        real, real_features = self.judge(textures(batch.target), given)
        fake, _ = self.judge(textures(output.detach()), given)
        verdict = F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()

        # 3. its opinion; its weights are constants to the network that it judges
        constants = {name: value.detach() for name, value in self.judge.named_parameters()}
        opinion, seen = functional_call(self.judge, constants, (textures(output), given))
        pairs = zip(seen, real_features, strict=True)
        features = torch.stack([(a - b.detach()).abs().float().mean() for a, b in pairs]).mean()
        adversarial = -opinion.float().mean()
        counts = min(1.0, max(0.0, (step - config.judged_from) / _JUDGE_RAMP))
        total = total + counts * (
            config.feature_weight * features + config.adversarial_weight * adversarial
        )
        figures = {"pixel": pixel, "edge": edge, "texture": texture}
        figures |= {"judge": verdict, "features": features}
        return total + verdict, {name: value.detach() for name, value in figures.items()}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Held-out samples of every kind."""
        arrays = self.arrays
        height, width = arrays.drawn.shape[1:3]
        figures: dict[str, float] = {}
        strips = []
        for kind, name in enumerate(KINDS):
            rows = arrays.unseen(kind, 24)
            if not len(rows):
                continue
            drawn, warped, target = (
                to_tensor(x[rows]).to(self.device)
                for x in (arrays.drawn, arrays.warped, arrays.target)
            )
            with autocast(self.config, self.device):
                output = self.network(drawn, warped).float().clamp(-1, 1)
            lips = box_weight(arrays.lips[rows], height, width, SCALE).to(self.device)
            for row, picture in (("", output), ("drawn_", enlarge(drawn)), ("warp_", warped)):
                share = sharpness(picture, lips) / sharpness(target, lips)
                figures[f"{row}{name}_psnr_db"] = psnr_db(picture, target)
                figures[f"{row}{name}_sharpness"] = share
            shown = [to_images(x[:3]) for x in (enlarge(drawn), warped, output, target)]
            strips += [np.concatenate(tiles, axis=1) for tiles in zip(*shown, strict=True)]
        if not strips:
            return {}
        # two columns of strips
        half = -(-len(strips) // 2)
        strips += [np.zeros_like(strips[0])] * (len(strips) % 2)
        pairs = list(zip(strips[:half], strips[half:], strict=True))
        save_strips(folder / f"{step:06d}.png", pairs)
        return figures


CONFIG, build = DetailConfig, DetailStage


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
