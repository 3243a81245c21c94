"""The networks of stage 3, and the one road through them: sound, target landmarks, condition."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.crops import FACE_PX
from model.face.alignment import Affine, recrop
from model.face.landmarks import POSE
from model.face.mouth_crop import NetworkCrop, network_affine, network_inner, network_mask
from model.face.reference_warp import ReferenceWarp
from model.networks.autoencoder import (
    encode_pictures,
    enlarge_cells,
    load_autoencoder,
    pixels_per_cell,
)
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.pixels import to_tensor
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.unet import TalkFormerUNet, UNetCondition
from model.training.shard_windows import ClipWindow


@dataclass(frozen=True)
class DrawnFrames:
    """Frames of windows: their condition, pictures `(N, 3, S, S)`, latents `(N, 4, h, w)`, mask `(N, 1, h, w)`.

    All of the whole grid; target landmarks `(N, 68, 2)` in units of the denoiser's crop.
    """

    condition: UNetCondition
    pictures: torch.Tensor
    latents: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor


class EndToEnd:
    """The networks of stage 3 and the one road through them.

    Args:
        weights: Checkpoint folder.
        device: Where they are.
    """

    def __init__(self, weights: Path, device: str) -> None:
        def load(kind: Any, name: str) -> Any:
            network = kind.from_pretrained(weights / name, low_cpu_mem_usage=False)
            return network.float().to(device)

        self.device = device
        self.completer: LandmarkCompleter = load(LandmarkCompleter, "landmark_completer")
        self.unet: TalkFormerUNet = load(TalkFormerUNet, "unet")
        self.unet.to(memory_format=torch.channels_last)
        self.reference_encoder: ReferenceEncoder = load(ReferenceEncoder, "reference_encoder")
        self.autoencoder = load_autoencoder(weights / "autoencoder").float().to(device)
        self.autoencoder.eval().requires_grad_(False)
        self.crop: NetworkCrop = self.unet.crop
        self.latent_size = int(self.unet.config["latent_size"])
        self.crop_px = self.latent_size * pixels_per_cell(self.autoencoder)
        self.scheduler = build_scheduler()

    @property
    def face_px(self) -> int:
        """Side of the faces' crops that the denoiser's are cut out of."""
        return self.crop_px if self.crop == "face" else FACE_PX

    def complete(self, windows: list[ClipWindow]) -> torch.Tensor:
        """Target landmarks of the drawn frames `(B * n, 68, 2)`, with their graph."""
        mel = self._stack([w.log_mel for w in windows]).float()
        pose = self._stack([w.landmarks[:, list(POSE)] for w in windows])
        reference = self._stack([w.reference_landmarks for w in windows])[:, None]
        target = self.completer(mel, pose, reference).target
        rows = self._stack([w.drawn for w in windows])
        picked = target.gather(1, rows[..., None, None].expand(-1, -1, *target.shape[2:]))
        return picked.flatten(0, 1)

    def _stack(self, arrays: list[NDArray[Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scaled latents of `(N, 3, S, S)` in [-1, 1]."""
        return encode_pictures(self.autoencoder, pictures, torch.float32)

    def condition(
        self,
        windows: list[ClipWindow],
        target: torch.Tensor,
        *,
        use_warped: NDArray[np.bool_],
        use_reference: NDArray[np.bool_],
    ) -> DrawnFrames:
        """What the denoiser sees of the drawn frames, and what it should draw.

        Args:
            windows: B of them.
            target: `(B * n, 68, 2)`, crop units; gradients pass.
            use_warped: `(B,)`, which windows get warped latents (of the predicted landmarks).
            use_reference: `(B,)`, which get reference latents.
        """
        rendered = len(windows[0].drawn)
        drawn = [(w.landmarks[i], w.reference_landmarks) for w in windows for i in w.drawn]
        affines = [network_affine(self.crop, *pair) for pair in drawn]
        own_affines = [network_affine(self.crop, *[w.reference_landmarks] * 2) for w in windows]
        mask = self._stack([network_mask(self.crop, x, self.latent_size) for x, _ in drawn])
        mask = mask[:, None].float()
        pictures = self._cut(np.concatenate([w.pictures for w in windows]), affines)
        shown = self._cut(np.stack([w.reference for w in windows]), own_affines)
        clean, own = self.encode(torch.cat([pictures, shown])).split([len(pictures), len(shown)])
        keep, use = (
            torch.from_numpy(x.astype(np.float32)).to(self.device)[:, None, None, None]
            for x in (use_reference, np.repeat(use_warped, rendered))
        )
        # Around a mouth what was carried is always seen, around a face's lower half the frame itself.
        warped = None
        if self.crop == "mouth" or (use_warped.any() and self.unet.config["warped_latents"]):
            warped = self._warp(windows, target, affines)
        if self.crop == "mouth" and warped is not None:
            masked = warped * (1 - mask)
        else:
            masked = self.encode(
                pictures * (1 - enlarge_cells(mask, self.crop_px // self.latent_size))
            )

        placed = warp_each(target, affines)
        landmarks = warp_each(self._stack([w.reference_landmarks for w in windows]), own_affines)
        cache = self.unet.prepare_reference(self.reference_encoder(shown), landmarks)
        condition = self.unet.prepare_condition(
            target_landmarks=placed,
            reference_landmarks=landmarks.repeat_interleave(rendered, 0),
            masked_latents=masked,
            mask=mask,
            reference_latents=(own * keep).repeat_interleave(rendered, 0),
            warped_latents=None if warped is None else warped * use,
            reference=cache.map(lambda pairs: pairs.repeat_interleave(rendered, 0)),
        )
        return DrawnFrames(condition, pictures, clean, mask, placed)

    def _cut(self, faces: NDArray[np.uint8], affines: list[Affine]) -> torch.Tensor:
        """The denoiser's crops `(N, 3, s, s)` in [-1, 1] of faces' crops `(N, S, S, 3)`."""
        pairs = zip(faces, affines, strict=True)
        return to_tensor(np.stack([recrop(*x, self.crop_px) for x in pairs])).to(self.device)

    def _warp(
        self, windows: list[ClipWindow], target: torch.Tensor, affines: list[Affine]
    ) -> torch.Tensor:
        """Latents of the references moved to the predicted landmarks."""
        rendered = len(windows[0].drawn)
        points = target.detach().float().cpu().numpy().reshape(len(windows), rendered, -1, 2)
        inner = network_inner(self.crop)
        pictures = [
            ReferenceWarp(window.reference, window.reference_landmarks).render_many(
                faces, inner=inner
            )
            for window, faces in zip(windows, points, strict=True)
        ]
        return self.encode(self._cut(np.concatenate(pictures), affines))


def warp_each(points: torch.Tensor, affines: list[Affine]) -> torch.Tensor:
    """Points `(N, 68, 2)` through a transform each, with their graph."""
    matrices = torch.from_numpy(np.stack(affines)).to(points.device)
    return points @ matrices[:, :, :2].mT + matrices[:, None, :, 2]
