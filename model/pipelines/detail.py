"""From the crops that the diffusion drew to crops as fine as the face is shown.

    reference ─▶ portrait engine at the face's own resolution ─┬──────────────┐
                                                               ▼              ▼
    crops (128, in the photograph's colours) ─▶ detail network ─▶ 256 ─▶ + what the warp has beyond

Checkpoints without a detail network go straight to the last step.
"""

from __future__ import annotations

import copy
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import SamplingError
from model.face.alignment import Affine, crop_image
from model.face.compositing import add_detail
from model.face.inner_mouth import InnerMouthBank
from model.face.reference_warp import ReferenceWarp
from model.networks.detail import SCALE, DetailNetwork
from model.networks.latent_window import Window
from model.networks.pixels import from_signed, to_signed

_FINEST_PX: Final = 384
"""Greatest side at which the reference is moved."""
_WORTH: Final = 1.25
"""A face larger by this factor than what is drawn has detail to add."""

Picture = NDArray[np.uint8]
FloatPicture = NDArray[np.float32]


class DetailPass:
    """Brings the crops of one job to the face's own resolution.

    Args:
        network: The detail network, or None.
        warp: The reference, at the resolution wanted; `finest_px` says which.
        window: Pixels of a drawn crop that are generated.
    """

    def __init__(self, network: DetailNetwork | None, warp: ReferenceWarp, window: Window) -> None:
        self._network, self._warp, self._window = network, warp, window

    @torch.inference_mode()
    def __call__(self, crops: FloatPicture, targets: NDArray[np.float32]) -> list[FloatPicture]:
        """Add detail to a batch.

        Args:
            crops: `(B, S, S, 3)`, 0 to 255.
            targets: The faces that they show `(B, 68, 2)`, crop units.
        Returns:
            `(F, F, 3)` each, F the warp's side; not clipped.
        Raises:
            SamplingError: The network gave non-finite values, in fp32 too.
        """
        warped = self._warp.render_many(targets)
        fine = crops if self._network is None else self._enlarge(self._network, crops, warped)
        if fine.shape[1] == self._warp.size:
            return list(fine)
        parts = zip(fine, warped, targets, strict=True)
        return [add_detail(crop, picture, target) for crop, picture, target in parts]

    def _enlarge(
        self, network: DetailNetwork, crops: FloatPicture, warped: Picture
    ) -> FloatPicture:
        """`(B, S, S, 3)` -> `(B, 2S, 2S, 3)`: the window by the network, the rest interpolated."""
        size = SCALE * crops.shape[1]
        if warped.shape[1] != size:
            warped = np.stack(
                [cv2.resize(x, (size, size), interpolation=cv2.INTER_AREA) for x in warped]
            ).astype(np.uint8)
        fine = np.stack(
            [cv2.resize(x, (size, size), interpolation=cv2.INTER_CUBIC) for x in crops]
        ).astype(np.float32)
        coarse, there = self._window.slices, self._window.enlarge(SCALE).slices
        drawn, guide = crops[:, *coarse], warped[:, *there]
        window = _run(network, drawn, guide)
        if not np.isfinite(window).all() and network.dtype != torch.float32:
            window = _run(copy.deepcopy(network).float(), drawn, guide)
        if not np.isfinite(window).all():
            raise SamplingError(
                "the detail network gave non-finite values, in fp32 too; expected pixel values. "
                "The weights are unusable: check them with `talkface doctor`."
            )
        fine[:, *there] = window
        return fine


def finest_px(native_px: float, crop_px: int, network: DetailNetwork | None) -> int:
    """Side at which crops are pasted.

    Args:
        native_px: Side of the crop in pixels of the picture; the face has no more to give.
        crop_px: Side of what the diffusion draws.
        network: The detail network, or None. It is worth its while for small faces, too: what was drawn
            is softer than its size allows.
    Returns:
        `crop_px` where there is nothing to add.
    """
    drawn = crop_px if network is None else SCALE * crop_px
    return int(max(drawn, min(native_px, _FINEST_PX))) if native_px > _WORTH * drawn else drawn


def make_detail_pass(
    network: DetailNetwork | None,
    reference: tuple[Picture, Affine, NDArray[np.float32]],
    native_px: float,
    crop_px: int,
    window: Window,
    inner_mouths: InnerMouthBank | None,
) -> DetailPass | None:
    """The pass of a job, or None where the crops are as fine as the face.

    Args:
        network: The detail network, or None.
        reference: Picture `(H, W, 3)`, its crop's affine and its face `(68, 2)`, crop units.
        native_px: See `finest_px`.
        crop_px: Side of what the diffusion draws.
        window: Pixels of it that are generated.
        inner_mouths: What the warp shows between the lips; the detail network was trained with them.
    """
    size = finest_px(native_px, crop_px, network)
    if size == crop_px:
        return None
    picture, affine, face = reference
    warp = ReferenceWarp(crop_image(picture, affine, size), face, inner_mouths)
    return DetailPass(network, warp, window)


def _run(network: DetailNetwork, drawn: FloatPicture, warped: Picture) -> FloatPicture:
    """The network on pictures `(B, h, w, 3)` and `(B, 2h, 2w, 3)`, 0 to 255."""

    def tensor(pictures: NDArray[np.float32] | Picture) -> torch.Tensor:
        scaled = torch.from_numpy(np.ascontiguousarray(pictures)).to(network.device)
        # channels last, as numpy has it
        return to_signed(scaled.permute(0, 3, 1, 2)).to(network.dtype)

    output = from_signed(network(tensor(drawn), tensor(warped)))
    return np.ascontiguousarray(output.permute(0, 2, 3, 1).cpu().numpy(), np.float32)
