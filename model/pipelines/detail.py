"""The detail network over a batch: what the diffusion drew, at twice its size.

crops (128, in the source's colours) ──┐
sources carried to the targets ────────┴─▶ detail network ─▶ 256
"""

from __future__ import annotations

import copy
import threading

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import SamplingError
from model.networks.detail import SCALE, DetailNetwork
from model.networks.latent_window import Window
from model.networks.pixels import from_signed, to_signed
from model.pipelines.halving import Halving

Picture = NDArray[np.uint8]
FloatPicture = NDArray[np.float32]


class DetailPass:
    """Brings drawn crops to twice their size.

    Args:
        network: The detail network.
        window: Pixels of a drawn crop that are wanted finer.
    """

    def __init__(self, network: DetailNetwork, window: Window) -> None:
        self._network, self._window = network, window
        self._fp32: DetailNetwork | None = None
        self._rescuing = threading.Lock()
        self._halving = Halving()

    @torch.inference_mode()
    def __call__(self, crops: FloatPicture, warped: Picture) -> FloatPicture:
        """Draw the window finer; the rest is interpolated.

        Args:
            crops: `(B, S, S, 3)`, 0 to 255.
            warped: The sources carried to the same faces `(B, 2S, 2S, 3)` uint8, inner mouths and
                all, as the network was trained with them.
        Returns:
            `(B, 2S, 2S, 3)`, not clipped.
        Raises:
            SamplingError: The network gave non-finite values, in fp32 too.
        """
        network, side = self._network, (SCALE * crops.shape[1],) * 2
        fine = np.stack([cv2.resize(x, side, interpolation=cv2.INTER_CUBIC) for x in crops])
        coarse, there = self._window.slices, self._window.enlarge(SCALE).slices
        drawn, guide = crops[:, *coarse], warped[:, *there]
        window = self._run(network, drawn, guide)
        if not np.isfinite(window).all() and network.dtype != torch.float32:
            window = self._run(self._rescue(), drawn, guide)
        if not np.isfinite(window).all():
            raise SamplingError(
                "the detail network gave non-finite values, in fp32 too; expected pixel values. "
                "The weights are unusable: check them with `talkface doctor`."
            )
        fine[:, *there] = window
        return np.asarray(fine, np.float32)

    def _run(self, network: DetailNetwork, drawn: FloatPicture, warped: Picture) -> FloatPicture:
        """The network on as many pictures at once as there is memory for."""

        def draw_part(part: slice) -> FloatPicture:
            return _run(network, drawn[part], warped[part])

        return self._halving.draw(draw_part, len(drawn))

    def _rescue(self) -> DetailNetwork:
        """The network in fp32, made when first needed."""
        with self._rescuing:
            if self._fp32 is None:
                self._fp32 = copy.deepcopy(self._network).float()
            return self._fp32


def _run(network: DetailNetwork, drawn: FloatPicture, warped: Picture) -> FloatPicture:
    """`run_on_device`, and its pictures in the CPU's memory `(B, 2h, 2w, 3)`."""
    output = run_on_device(network, drawn, warped)
    return np.ascontiguousarray(output.permute(0, 2, 3, 1).cpu().numpy(), np.float32)


@torch.inference_mode()
def run_on_device(network: DetailNetwork, drawn: FloatPicture, warped: Picture) -> torch.Tensor:
    """The network on pictures `(B, h, w, 3)` and `(B, 2h, 2w, 3)`, 0 to 255: `(B, 3, 2h, 2w)`, where it is."""

    def tensor(pictures: NDArray[np.float32] | Picture) -> torch.Tensor:
        scaled = torch.from_numpy(np.ascontiguousarray(pictures)).to(network.device)
        # channels last, as numpy has it
        return to_signed(scaled.permute(0, 3, 1, 2)).to(network.dtype)

    return from_signed(network(tensor(drawn), tensor(warped)))
