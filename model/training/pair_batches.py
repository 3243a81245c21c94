"""What stage 2 is fed with: pairs of a target and a reference, out of arrays or out of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from model.errors import ConfigError
from model.networks.autoencoder import pixels_per_cell
from model.training.stage0_autoencoder import to_tensor

if TYPE_CHECKING:
    from model.training.shard_pictures import PairPictures


@dataclass(frozen=True)
class PairBatch:
    """Pairs of a target and a reference of one person, float32, on one device.

    Attributes:
        latents: Of the target, scaled, `(B, 4, h, w)`.
        masked_latents: Of the target with its lower face grey.
        mask: `(B, 1, h, w)`, 1 where generated.
        target_landmarks: `(B, 68, 2)`, crop units.
        reference_landmarks: `(B, 68, 2)`.
        reference_latents: `(B, 4, h, w)`.
        reference_image: `(B, 3, S, S)`, in [-1, 1].
        warped_latents: Of the reference moved to the target.
    """

    latents: torch.Tensor
    masked_latents: torch.Tensor
    mask: torch.Tensor
    target_landmarks: torch.Tensor
    reference_landmarks: torch.Tensor
    reference_latents: torch.Tensor
    reference_image: torch.Tensor
    warped_latents: torch.Tensor

    @classmethod
    def join(cls, batches: Sequence[PairBatch]) -> PairBatch:
        """One batch after the other."""
        columns = zip(*(vars(batch).values() for batch in batches), strict=True)
        return cls(*(torch.cat(column) for column in columns))


@dataclass(frozen=True)
class Shown:
    """Held-out pairs that samples are drawn of: the batch, its targets `(N, S, S, 3)` and their kind."""

    batch: PairBatch
    target: NDArray[np.uint8]
    from_portrait: NDArray[np.bool_]

    @classmethod
    def join(cls, parts: Sequence[Shown]) -> Shown:
        """One after the other."""
        return cls(
            PairBatch.join([part.batch for part in parts]),
            np.concatenate([part.target for part in parts]),
            np.concatenate([part.from_portrait for part in parts]),
        )


class PairArrays:
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
        self.rows = [np.flatnonzero(~self.held_out & (self.kind == kind)) for kind in (0, 1)]

    def _tensor(self, name: str, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name][rows]).float().to(self.device)

    def batch(self, pairs: NDArray[np.int64]) -> PairBatch:
        """Tensors of the given pairs."""
        target, reference = self.arrays["target"][pairs], self.arrays["reference"][pairs]
        return PairBatch(
            latents=self._tensor("latents", target),
            masked_latents=self._tensor("masked_latents", target),
            mask=self._tensor("masks", target)[:, None],
            target_landmarks=self._tensor("landmarks", target),
            reference_landmarks=self._tensor("landmarks", reference),
            reference_latents=self._tensor("latents", reference),
            reference_image=to_tensor(self.arrays["images"][reference]).to(self.device),
            warped_latents=self._tensor("warped_latents", pairs),
        )

    def shown(self, rng: np.random.Generator, kind: int, count: int) -> Shown | None:
        """Held-out pairs of clips (0) or photographs (1), or None."""
        unseen = np.flatnonzero(self.held_out & (self.kind == kind))
        if not len(unseen):
            return None
        pairs = rng.choice(unseen, count)
        images = self.arrays["images"][self.arrays["target"][pairs]]
        return Shown(self.batch(pairs), images, np.full(count, kind == 1))


class PairShards:
    """Pairs of clips out of shards, their latents encoded when they are needed.

    Args:
        folder: Shards.
        autoencoder: Encodes; frozen, on `device`.
        device: Where batches go.
    """

    def __init__(self, folder: Path, autoencoder: AutoencoderKL, device: str) -> None:
        # Late: it needs OpenCV, which a machine that only trains on arrays has not.
        from model.face.alignment import lower_face_mask
        from model.training.shard_pictures import ShardPictures

        self._mask = lower_face_mask
        self._autoencoder, self._device = autoencoder, device
        self.pictures = ShardPictures(folder, int(autoencoder.config.sample_size))

    def draw(self, rng: np.random.Generator, count: int) -> PairBatch:
        """`count` training pairs."""
        return self._batch(self.pictures.pairs(rng, count))

    def shown(self, rng: np.random.Generator, count: int) -> Shown | None:
        """Held-out pairs, or None."""
        if not self.pictures.unseen:
            return None
        pairs = self.pictures.pairs(rng, count, held_out=True)
        return Shown(self._batch(pairs), pairs.target, np.zeros(count, bool))

    def _batch(self, pairs: PairPictures) -> PairBatch:
        cell = pixels_per_cell(self._autoencoder)
        cells = self.pictures.size // cell
        masks = np.stack([self._mask(points, cells) for points in pairs.target_landmarks])
        mask = torch.from_numpy(masks)[:, None].to(self._device).float()
        target = to_tensor(pairs.target).to(self._device)
        reference = to_tensor(pairs.reference).to(self._device)
        known = 1.0 - mask.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        return PairBatch(
            latents=self._encode(target),
            masked_latents=self._encode(target * known),
            mask=mask,
            target_landmarks=torch.from_numpy(pairs.target_landmarks).to(self._device),
            reference_landmarks=torch.from_numpy(pairs.reference_landmarks).to(self._device),
            reference_latents=self._encode(reference),
            reference_image=reference,
            warped_latents=self._encode(to_tensor(pairs.warped).to(self._device)),
        )

    @torch.no_grad()
    def _encode(self, pictures: torch.Tensor) -> torch.Tensor:
        latents = self._autoencoder.encode(pictures).latent_dist.mode().float()
        return latents * float(self._autoencoder.config.scaling_factor)


class Pairs:
    """Clips from shards or `pairs.npz`, photographs from `pairs.npz`.

    Args:
        prepared: Folder with `pairs.npz`.
        shards: Folder of shards, or None.
        autoencoder: Encodes pictures out of shards; frozen, on `device`.
        device: Where batches go.
        portrait_share: Share of photographs, where there are any.
    Raises:
        ConfigError: `pairs.npz` was made for another size of pictures than the shards' crops.
    """

    def __init__(
        self,
        prepared: Path,
        shards: Path | None,
        autoencoder: AutoencoderKL,
        device: str,
        *,
        portrait_share: float,
    ) -> None:
        path = prepared / "pairs.npz"
        self._shards = self._arrays = None
        if shards is not None:
            self._shards = PairShards(shards, autoencoder, device)
        if self._shards is None or path.exists():
            self._arrays = PairArrays(path, device)
        self._portrait_share = portrait_share if self._arrays is not None else 0.0
        if self._shards is not None and self._arrays is not None:
            side = self._arrays.arrays["images"].shape[1]
            if side != self._shards.pictures.size:
                raise ConfigError(
                    f"prepared: {path} has pictures of {side} px; expected "
                    f"{self._shards.pictures.size} px, the autoencoder's size: make it again with "
                    "--size"
                )

    def draw(self, rng: np.random.Generator, count: int) -> PairBatch:
        """Training pairs, in no order."""
        from_portraits = rng.random(count) < self._portrait_share
        if self._shards is None:
            assert self._arrays is not None
            clips, portraits = self._arrays.rows
            return self._arrays.batch(
                np.where(from_portraits, rng.choice(portraits, count), rng.choice(clips, count))
            )
        parts = []
        rest = int(from_portraits.sum())
        if rest < count:
            parts.append(self._shards.draw(rng, count - rest))
        if rest:
            assert self._arrays is not None
            parts.append(self._arrays.batch(rng.choice(self._arrays.rows[1], rest)))
        return PairBatch.join(parts)

    def shown(self, count: int) -> Shown | None:
        """`count` held-out pairs of each kind, always the same ones; None where there are none."""
        rng = np.random.default_rng(1)
        clips: PairArrays | PairShards | None = self._shards or self._arrays
        parts = []
        if isinstance(clips, PairShards):
            parts.append(clips.shown(rng, count))
        elif clips is not None:
            parts.append(clips.shown(rng, 0, count))
        if self._arrays is not None:
            parts.append(self._arrays.shown(rng, 1, count))
        there = [part for part in parts if part is not None]
        return Shown.join(there) if there else None
