"""Other people's networks by path: TorchScript files, never downloaded by us.

What each of them takes and gives, and which known files do, stands in docs/evaluation.md; SyncNet's
interface is the original's (Chung, Zisserman 2016) after `torch.jit.script`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from model.errors import CheckpointError
from model.face.alignment import crop_image, fit_similarity
from model.face.landmarks import LEFT_EYE, MOUTH_CORNERS, NOSE_TIP, RIGHT_EYE
from model.media.audio import SAMPLE_RATE
from model.networks.pixels import to_signed

Crops = NDArray[np.uint8]
Rows = NDArray[np.float32]

_BATCH: Final = 16
_ARCFACE: Final = np.array(
    [
        *((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366)),
        *((41.5493, 92.3655), (70.7299, 92.2041)),
    ],
    np.float32,
) / np.float32(112)
"""Eyes, nose tip and mouth corners in the frame that face embedders are trained in."""

_SYNCNET_FRAMES: Final = 5
_SYNCNET_MFCC: Final = 20  # of 10 ms: five frames
_SYNCNET_PX: Final = 224
_SYNCNET_MARGIN: Final = 0.4  # of the face's box, as its authors cut it


class Downloaded:
    """A TorchScript file, on the CPU; `purpose` is what it is for, for messages.

    Raises:
        CheckpointError: It is not a TorchScript file.
    """

    purpose: str

    def __init__(self, path: Path) -> None:
        try:
            with warnings.catch_warnings():
                # What others publish is TorchScript, whatever torch thinks of it today.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._module: Any = torch.jit.load(str(path), map_location="cpu").eval()
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not a TorchScript file ({str(error).splitlines()[0]}); expected the "
                f"network for {self.purpose}, saved with torch.jit.save"
            ) from error
        self._what = f"{path.name} ({self.purpose})"
        self._accepts = {argument.name for argument in self._module.forward.schema.arguments}

    @torch.inference_mode()
    def _call(self, *inputs: torch.Tensor, **options: bool) -> Any:
        known = {name: value for name, value in options.items() if name in self._accepts}
        try:
            return self._module(*inputs, **known)
        except RuntimeError as error:
            shapes = [tuple(tensor.shape) for tensor in inputs]
            raise CheckpointError(
                f"{self._what} refused inputs of shapes {shapes}: {str(error).splitlines()[-1]}; "
                "docs/evaluation.md says what it must take"
            ) from error

    def _rows(self, output: Any, count: int) -> Rows:
        if not isinstance(output, torch.Tensor) or len(output) != count:
            got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise CheckpointError(f"{self._what} gave {got}; expected {count} rows (B, D)")
        return np.asarray(output.float().flatten(1).numpy(), np.float32)

    def _in_batches(self, pictures: Crops, *, signed: bool = False, **options: bool) -> Rows:
        """Rows `(N, D)` of pictures `(N, S, S, 3)`, given as uint8 or `signed`."""
        parts = []
        for part in _batches(pictures):
            tensor = to_signed(_channels_first(part)) if signed else _channels_first(part)
            parts.append(self._rows(self._call(tensor, **options), len(part)))
        return np.concatenate(parts)


class PictureFeatures(Downloaded):
    """Features for the Fréchet distance."""

    purpose = "FID"

    def __call__(self, crops: Crops) -> Rows:
        """`(N, S, S, 3)` uint8 -> `(N, D)`."""
        return self._in_batches(crops, return_features=True)


class PerceptualDistance(Downloaded):
    """LPIPS."""

    purpose = "LPIPS"

    def __call__(self, first: Crops, second: Crops) -> Rows:
        """Distances `(N,)` of `(N, S, S, 3)` uint8 each."""
        if "return_lpips" in self._accepts:
            left, right = (self._in_batches(x, return_lpips=True) for x in (first, second))
            return np.asarray(((left - right) ** 2).sum(axis=1))
        distances = []
        for one, other in zip(_batches(first), _batches(second), strict=True):
            output = self._call(to_signed(_channels_first(one)), to_signed(_channels_first(other)))
            distances.append(self._rows(output.reshape(-1, 1), len(one))[:, 0])
        return np.concatenate(distances)


class IdentityEmbedder(Downloaded):
    """Whose face it is; CSIM is the cosine of two embeddings."""

    purpose = "CSIM"

    def __call__(self, frames: list[NDArray[np.uint8]], landmarks: Rows) -> Rows:
        """Unit vectors `(N, D)` of the faces with `landmarks` `(N, 68, 2)`, pixels, in `frames`."""
        faces = np.stack([_arcface_crop(f, p) for f, p in zip(frames, landmarks, strict=True)])
        embeddings = self._in_batches(faces, signed=True)
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)


class SyncNet(Downloaded):
    """The original SyncNet, for figures that others report too."""

    purpose = "the original SyncNet's LSE-C and LSE-D"

    def scores(
        self, frames: NDArray[np.uint8], landmarks: Rows, waveform: Rows, max_offset: int = 15
    ) -> tuple[float, float]:
        """LSE-C and LSE-D of `(T, H, W, 3)`, uint8 RGB at 25 fps, and `(640 T,)`, 16 kHz.

        Landmarks `(T, 68, 2)` are pixels, finite; offsets up to `max_offset` frames are tried, and T is above
        `max_offset + 5`.
        """
        mouths = _face_boxes(frames, landmarks)  # (T, 224, 224, 3) BGR
        coefficients = mfcc(waveform)
        count = min(len(mouths) - _SYNCNET_FRAMES + 1, (len(coefficients) - _SYNCNET_MFCC) // 4 + 1)
        lips, sound = [], []
        for start in range(count):
            window = mouths[start : start + _SYNCNET_FRAMES].transpose(3, 0, 1, 2)
            heard = coefficients[4 * start : 4 * start + _SYNCNET_MFCC].T
            one = torch.from_numpy(np.ascontiguousarray(heard, np.float32))[None, None]
            output = self._call(one, torch.from_numpy(window.astype(np.float32))[None])
            if not isinstance(output, tuple) or len(output) != 2:
                raise CheckpointError(f"{self._what} gave no pair; expected (audio, video) (B, D)")
            sound.append(self._rows(output[0], 1)[0])
            lips.append(self._rows(output[1], 1)[0])
        between = np.linalg.norm(np.stack(lips)[:, None] - np.stack(sound)[None], axis=-1)
        offsets = range(-max_offset, max_offset + 1)
        distances = np.array([between.diagonal(offset).mean() for offset in offsets])
        return float(np.median(distances) - distances.min()), float(distances.min())


def frechet_distance(first: Rows, second: Rows) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features, `(N, D)` and `(M, D)`.

    Source: Heusel et al. 2017, arXiv 1706.08500 eq. (6).
    """
    one, other = first.astype(np.float64), second.astype(np.float64)
    gap = one.mean(axis=0) - other.mean(axis=0)
    left, right = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    # The trace of the product's root from its eigenvalues: real and not negative but for rounding.
    root = np.sqrt(np.maximum(np.linalg.eigvals(left @ right).real, 0.0)).sum()
    return float(gap @ gap + np.trace(left) + np.trace(right) - 2 * root)


def mfcc(waveform: Rows) -> Rows:
    """The 13 cepstral coefficients that SyncNet hears, `(N,)` at 16 kHz -> `(K, 13)` of 10 ms.

    25 ms frames without a window, pre-emphasis 0.97, 26 mel bands to 8 kHz, lifter 22, the first
    coefficient replaced by the log energy; on the scale of 16-bit samples.
    """
    from librosa.filters import mel

    samples = waveform.astype(np.float64) * 32768
    samples = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    width, hop = SAMPLE_RATE // 40, SAMPLE_RATE // 100
    padded = np.pad(samples, (0, max(0, width - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop]
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    bands = mel(sr=SAMPLE_RATE, n_fft=512, n_mels=26, htk=True, norm=None)
    floor = np.finfo(np.float64).eps
    cepstrum = scipy.fft.dct(np.log(np.maximum(power @ bands.T, floor)), norm="ortho")[:, :13]
    cepstrum *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    cepstrum[:, 0] = np.log(np.maximum(power.sum(axis=1), floor))
    return np.asarray(cepstrum, np.float32)


def _arcface_crop(frame: NDArray[np.uint8], landmarks: Rows) -> Crops:
    five = [landmarks[list(eye)].mean(axis=0) for eye in (LEFT_EYE, RIGHT_EYE)]
    five += [landmarks[NOSE_TIP], *landmarks[list(MOUTH_CORNERS)]]
    return crop_image(frame, fit_similarity(np.stack(five).astype(np.float32), _ARCFACE), 112)


def _face_boxes(frames: NDArray[np.uint8], landmarks: Rows) -> Crops:
    """One steady square around the face, `(T, 224, 224, 3)` BGR."""
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    half = float(np.median((high - low).max(axis=1))) / 2 * (1 + _SYNCNET_MARGIN)
    crops = []
    for frame, centre in zip(frames, (low + high) / 2, strict=True):
        corner = centre - half
        affine = np.array([(1, 0, -corner[0]), (0, 1, -corner[1])], np.float32)
        crops.append(crop_image(frame, affine / np.float32(2 * half), _SYNCNET_PX)[..., ::-1])
    return np.stack(crops)


def _batches(crops: Crops) -> list[Crops]:
    return [crops[start : start + _BATCH] for start in range(0, len(crops), _BATCH)]


def _channels_first(crops: Crops) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
