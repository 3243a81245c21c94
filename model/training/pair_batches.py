"""What stage 2 is fed with: pairs of a target and a reference, out of arrays or out of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.networks.autoencoder import (
    Autoencoder,
    encode_pictures,
    enlarge_cells,
    pixels_per_cell,
)
from model.networks.pixels import to_tensor
from model.networks.variants import GRIDS
from model.training.pictures import check_side
from model.training.stage import map_tensors

if TYPE_CHECKING:  # it needs OpenCV, which a machine that only trains on arrays has not
    from model.face.mouth_crop import NetworkCrop

_ARRAYS: Final = (*("images", "landmarks", "masks", "target", "reference"),)


@dataclass(frozen=True)
class PairBatch:
    """Pairs of a target and a reference of one person, float32.

    Latents `(B, 4, h, w)` are scaled: of the target, of the target with its lower face grey, of the
    reference, and of the reference moved to the target. The mask `(B, 1, h, w)` is 1 where generated;
    landmarks `(B, 68, 2)` are crop units, the reference's picture `(B, 3, S, S)` lies in [-1, 1].
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
        batches, targets, from_portrait = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(PairBatch.join(batches), np.concatenate(targets), np.concatenate(from_portrait))


@dataclass(frozen=True)
class PairPixels:
    """Pairs whose latents are still to be made, on the device, by `encode_pairs`.

    Pictures `(B, S, S, 3)` uint8 as in `PairPictures`, landmarks `(B, 68, 2)` in crop units, and a mask
    `(B, 1, h, w)`, float32, 1 where generated.
    """

    target: torch.Tensor
    reference: torch.Tensor
    warped: torch.Tensor
    mask: torch.Tensor
    target_landmarks: torch.Tensor
    reference_landmarks: torch.Tensor


@torch.no_grad()
def encode_pairs(autoencoder: Autoencoder, pairs: PairPixels, crop: NetworkCrop) -> PairBatch:
    """Latents of pictures, by the frozen autoencoder on their device."""
    target, reference, warped = map(to_tensor, (pairs.target, pairs.reference, pairs.warped))
    pictures = {"latents": target, "reference_latents": reference, "warped_latents": warped}
    if crop == "face":
        known = 1.0 - enlarge_cells(pairs.mask, pixels_per_cell(autoencoder))
        pictures["masked_latents"] = target * known
    latents = {name: encode_pictures(autoencoder, x, torch.float32) for name, x in pictures.items()}
    if crop == "mouth":  # what surrounds the mouth is carried, too
        latents["masked_latents"] = latents["warped_latents"] * (1.0 - pairs.mask)
    return PairBatch(
        mask=pairs.mask,
        target_landmarks=pairs.target_landmarks,
        reference_landmarks=pairs.reference_landmarks,
        reference_image=reference,
        **latents,
    )


class PairArrays:
    """`pairs.npz` of a folder and its `latents.npz` in memory, batches on demand."""

    def __init__(self, prepared: Path) -> None:
        data, latents = np.load(prepared / "pairs.npz"), np.load(prepared / "latents.npz")
        self.arrays: dict[str, NDArray[Any]] = {name: data[name] for name in _ARRAYS}
        self.arrays |= {name: latents[name] for name in latents.files}
        self.kind = data["kind"][data["target"]]
        self.held_out = data["held_out"][data["target"]].astype(bool)
        self.rows = [np.flatnonzero(~self.held_out & (self.kind == kind)) for kind in (0, 1)]

    def _tensor(self, name: str, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name][rows]).float()

    def batch(self, pairs: NDArray[np.int64]) -> PairBatch:
        """Tensors of the given pairs."""
        target, reference = self.arrays["target"][pairs], self.arrays["reference"][pairs]
        mask, warped = self._tensor("masks", target)[:, None], self._tensor("warped_latents", pairs)
        masked = warped * (1 - mask)  # of mouths' crops: what surrounds the mouth is carried, too
        if "masked_latents" in self.arrays:
            masked = self._tensor("masked_latents", target)
        return PairBatch(
            latents=self._tensor("latents", target),
            masked_latents=masked,
            mask=mask,
            target_landmarks=self._tensor("landmarks", target),
            reference_landmarks=self._tensor("landmarks", reference),
            reference_latents=self._tensor("latents", reference),
            reference_image=to_tensor(self.arrays["images"][reference]),
            warped_latents=warped,
        )

    def shown(self, rng: np.random.Generator, kind: int, count: int) -> Shown | None:
        """Held-out pairs of clips (0) or photographs (1), or None."""
        unseen = np.flatnonzero(self.held_out & (self.kind == kind))
        if not len(unseen):
            return None
        pairs = rng.choice(unseen, count)
        images = self.arrays["images"][self.arrays["target"][pairs]]
        return Shown(self.batch(pairs), images, np.full(count, kind == 1))


class Pairs:
    """Clips from shards or `pairs.npz` in `prepared`, photographs from `pairs.npz`.

    The autoencoder, whose pictures and latents they are, encodes those out of shards. Where there are
    any photographs, `portrait_share` of the samples are.

    Raises:
        ConfigError: `pairs.npz` was made for another size of pictures than the shards' crops.
    """

    def __init__(
        self,
        prepared: Path,
        shards: Path | None,
        autoencoder: Autoencoder,
        *,
        crop: NetworkCrop,
        portrait_share: float,
    ) -> None:
        path, size = prepared / "pairs.npz", GRIDS[crop] * pixels_per_cell(autoencoder)
        self._autoencoder, self._crop = autoencoder, crop
        self._shards = self._arrays = None
        if shards is not None:
            # Late: it needs OpenCV, which a machine that only trains on arrays has not.
            from model.data.shard_pictures import ShardPictures

            self._shards = ShardPictures(shards, size, crop)
        if shards is None or path.exists():
            self._arrays = PairArrays(prepared)
        self._portrait_share = portrait_share if self._arrays is not None else 0.0
        if self._arrays is not None:
            check_side(path, self._arrays.arrays["images"].shape[1], size)

    def _from_shards(
        self, rng: np.random.Generator, count: int, *, held_out: bool = False
    ) -> PairPixels:
        """`count` pairs, of the tracks that are trained on or of the others."""
        from model.face.mouth_crop import network_mask  # late, as above

        assert self._shards is not None
        pairs = self._shards.pairs(rng, count, held_out=held_out)
        cells = self._shards.size // pixels_per_cell(self._autoencoder)
        masks = np.stack([network_mask(self._crop, x, cells) for x in pairs.target_landmarks])
        tensors = {name: torch.from_numpy(values) for name, values in vars(pairs).items()}
        return PairPixels(mask=torch.from_numpy(masks)[:, None].float(), **tensors)

    def draw(self, rng: np.random.Generator, count: int) -> list[PairBatch | PairPixels]:
        """Training pairs in parts, for `encode`."""
        from_portraits = rng.random(count) < self._portrait_share
        if self._shards is None:
            assert self._arrays is not None
            clips, portraits = self._arrays.rows
            rows = np.where(from_portraits, rng.choice(portraits, count), rng.choice(clips, count))
            return [self._arrays.batch(rows)]
        parts: list[PairBatch | PairPixels] = []
        rest = int(from_portraits.sum())
        if rest < count:
            parts.append(self._from_shards(rng, count - rest))
        if rest:
            assert self._arrays is not None
            parts.append(self._arrays.batch(rng.choice(self._arrays.rows[1], rest)))
        return parts

    def encode(self, parts: Sequence[PairBatch | PairPixels]) -> PairBatch:
        """One batch of all parts, which lie on the autoencoder's device."""
        encode = partial(encode_pairs, self._autoencoder, crop=self._crop)
        return PairBatch.join([encode(x) if isinstance(x, PairPixels) else x for x in parts])

    def shown(self, count: int) -> Shown | None:
        """`count` held-out pairs of each kind, always the same ones; None where there are none."""
        rng = np.random.default_rng(1)
        parts: list[Shown | None] = []
        if self._shards is None:
            assert self._arrays is not None
            parts.append(self._arrays.shown(rng, 0, count))
        elif self._shards.unseen:
            pairs = self._from_shards(rng, count, held_out=True)
            there = map_tensors(pairs, lambda tensor: tensor.to(self._autoencoder.device))
            batch = map_tensors(
                encode_pairs(self._autoencoder, there, self._crop), torch.Tensor.cpu
            )
            parts.append(Shown(batch, pairs.target.numpy(), np.zeros(count, bool)))
        if self._arrays is not None:
            parts.append(self._arrays.shown(rng, 1, count))
        held_out = [part for part in parts if part is not None]
        return Shown.join(held_out) if held_out else None
