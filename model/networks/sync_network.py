"""Does this mouth say this sound? Two small towers whose outputs agree where sound and lips do.

    log_mel (B,4T,80) ──conv, stride 4──▶ residual convs ──▶ unit vectors, one a frame ─┐
                                                                                        ├▶ cosine
    landmarks (B,T,68,2) ──lip_features──▶ residual convs ─▶ unit vectors, one a frame ─┘

The lips are 20 points in the face's own frame, less the track's median mouth and divided by its
width: where the face is, how large, how tilted and whose it is, is gone. One frame's vector sees 15
frames (0.6 s).

The scores take SyncNet's form (Chung, Zisserman: Out of time, ACCV 2016 workshops): mean distance
at the best offset (LSE-D) and median less minimum over offsets (LSE-C). Distances lie between unit
vectors, 0 to 2, so no figure can be compared with a published LSE.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from torch import nn

from model.errors import CheckpointError, ShapeError
from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import (
    INNER_LIPS,
    LIPS,
    MOUTH_CORNERS,
    NOSE_AND_EYES,
    NUM_LANDMARKS,
)
from model.media.audio import MELS_PER_FRAME, N_MELS
from model.networks.landmark_completion import fit_similarity

SHIPPED: Final = Path(__file__).resolve().parent / "sync_weights"
"""The weights that come with the package, and their card."""
MARGIN: Final = 7
"""Frames at each end of a recording that get no vector: the towers would look past the end."""
NUM_FEATURES: Final = 2 * len(LIPS) + 3
_SMOOTHING: Final = 2.0  # frames: the detector's noise on the eyes must not move the lips
_DILATIONS: Final = (1, 2, 2)  # with the stems' reach this makes MARGIN
_FEWEST_FRAMES: Final = 5  # that a mean distance is taken over


@dataclass(frozen=True)
class SyncScores:
    """How a recording and a mouth fit together, offset by offset.

    Attributes:
        offset_frames: By how many frames of 40 ms the lips are late (positive) or early (negative).
        confidence: Median less smallest distance over the offsets (form of LSE-C); near 0 where
            no offset is better than another, as with a frozen mouth.
        distance: Mean distance at the best offset (form of LSE-D), 0 to 2.
        distances: `(2 * max_offset + 1,)`, mean distance with lips late by
            `-max_offset ... max_offset` frames.
    """

    offset_frames: int
    confidence: float
    distance: float
    distances: NDArray[np.float32]


def lip_features(landmarks: torch.Tensor) -> torch.Tensor:
    """What the lips do, whoever's they are; differentiable.

    Args:
        landmarks: `(B, T, 68, 2)`, any unit: pixels of the picture or of a crop.
    Returns:
        `(B, T, 43)`: 20 lip points less the track's median mouth, and the three inner gaps, in
        mouth widths, scaled to about unit size; fp32 also within autocast, whose bf16 would round
        lips to whole pixels.
    """
    with torch.autocast(landmarks.device.type, enabled=False):
        return _lip_features(landmarks.float())


def _lip_features(face: torch.Tensor) -> torch.Tensor:
    # 1. into the average face's frame, by nose and eyes low-passed in time
    steady = _smooth(face[:, :, NOSE_AND_EYES])
    average = torch.from_numpy(AVERAGE_FACE)[list(NOSE_AND_EYES)].to(face.device)
    linear, shift = fit_similarity(steady, average.expand_as(steady))
    lips = face[:, :, LIPS] @ linear.transpose(-1, -2) + shift[..., None, :]  # (B, T, 20, 2)

    # 2. in widths of the track's own mouth, less its median form
    left, right = (LIPS.index(corner) for corner in MOUTH_CORNERS)
    widths = torch.linalg.vector_norm(lips[:, :, right] - lips[:, :, left], dim=-1)
    lips = lips / widths.median(dim=1).values.clamp_min(1e-4)[:, None, None, None]
    motion = lips - lips.median(dim=1, keepdim=True).values
    inner = lips[:, :, [LIPS.index(point) for point in INNER_LIPS]]
    gaps = inner[:, :, [7, 6, 5], 1] - inner[:, :, [1, 2, 3], 1]
    return torch.cat([10.0 * motion.flatten(2), 5.0 * gaps], dim=-1)


def _smooth(points: torch.Tensor) -> torch.Tensor:
    """Zero-phase Gaussian over time, `(B, T, N, 2)`, ends repeated."""
    reach = int(3 * _SMOOTHING)
    times = torch.arange(-reach, reach + 1, device=points.device)
    kernel = torch.exp(-0.5 * (times / _SMOOTHING) ** 2)
    rows = points.flatten(2).transpose(1, 2)  # (B, 2N, T)
    padded = F.pad(rows, (reach, reach), mode="replicate")
    filtered = F.conv1d(padded.flatten(0, 1)[:, None], (kernel / kernel.sum())[None, None])
    return filtered.view_as(rows).transpose(1, 2).unflatten(2, points.shape[2:])


class _ResidualConv(nn.Module):
    """Normalised per step, so that a frame's result knows nothing of the rest of the recording."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self.norm(hidden.transpose(1, 2)).transpose(1, 2)
        mixed: torch.Tensor = self.mix(F.silu(self.conv(normed)))
        return hidden + self.dropout(mixed)


class SyncNetwork(ModelMixin, ConfigMixin):
    """Vectors of sound and of lips in one space.

    Args:
        width: Channels of both towers.
        embedding: Length D of the vectors.
        dropout: Of the residual branches, training only.
    """

    @register_to_config
    def __init__(self, width: int = 192, embedding: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.audio_tower = nn.Sequential(
            nn.Conv1d(N_MELS, width, 5, padding=2),
            _ResidualConv(width, 1, dropout),
            nn.Conv1d(
                width, width, 2 * MELS_PER_FRAME, stride=MELS_PER_FRAME, padding=MELS_PER_FRAME // 2
            ),
            *(_ResidualConv(width, dilation, dropout) for dilation in _DILATIONS),
        )
        self.lip_tower = nn.Sequential(
            nn.Conv1d(NUM_FEATURES, width, 5, padding=2),
            *(_ResidualConv(width, dilation, dropout) for dilation in _DILATIONS),
        )
        self.audio_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embedding))
        self.lip_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embedding))

    def embed_audio(self, log_mel: torch.Tensor) -> torch.Tensor:
        """`(B, 4T, 80)`, standardised -> unit vectors `(B, T - 14, D)` of frames 7 to T - 8."""
        hidden = self.audio_tower(log_mel.transpose(1, 2))[..., MARGIN:-MARGIN]
        return F.normalize(self.audio_head(hidden.transpose(1, 2)).float(), dim=-1)

    def embed_features(self, features: torch.Tensor) -> torch.Tensor:
        """`lip_features` `(B, T, 43)` -> unit vectors `(B, T - 14, D)` of frames 7 to T - 8."""
        hidden = self.lip_tower(features.transpose(1, 2))[..., MARGIN:-MARGIN]
        return F.normalize(self.lip_head(hidden.transpose(1, 2)).float(), dim=-1)

    def forward(
        self, log_mel: torch.Tensor, landmarks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of sound and lips, differentiable in both.

        Args:
            log_mel: `(B, 4T, 80)`, standardised.
            landmarks: `(B, T, 68, 2)`, any unit, 25 frames a second.
        Returns:
            Unit vectors `(B, T - 14, D)` of the sound and of the lips, frames 7 to T - 8.
        Raises:
            ShapeError: The shapes do not fit, or T is below 15.
        """
        batch, frames = landmarks.shape[:2]
        if landmarks.shape[2:] != (NUM_LANDMARKS, 2) or frames <= 2 * MARGIN:
            raise ShapeError(
                f"landmarks {tuple(landmarks.shape)}; expected (B, T, 68, 2) with T of at least "
                f"{2 * MARGIN + 1} frames"
            )
        if log_mel.shape != (batch, MELS_PER_FRAME * frames, N_MELS):
            raise ShapeError(
                f"log_mel {tuple(log_mel.shape)}; expected (B, 4T, 80) with B = {batch} and "
                f"T = {frames} of landmarks: cut or pad one of them"
            )
        return self.embed_audio(log_mel), self.embed_features(lip_features(landmarks))

    @torch.no_grad()
    def embed(
        self, log_mel: NDArray[np.float32], landmarks: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Array door of `forward`.

        Args:
            log_mel: `(4T, 80)`, as `model.media.audio.log_mel` makes it.
            landmarks: `(T, 68, 2)`, finite, any unit, 25 frames a second.
        Returns:
            Unit vectors `(T - 14, D)` of the sound and of the lips.
        Raises:
            ShapeError: The shapes do not fit, T is below 15, or a landmark is not finite.
        """
        if not np.isfinite(landmarks).all():
            lost = int((~np.isfinite(landmarks)).any(axis=(-1, -2)).sum())
            raise ShapeError(
                f"landmarks of {lost} of {len(landmarks)} frames are not finite; expected a face "
                "in every frame: hold the last one where none was found"
            )
        mel = torch.from_numpy(np.asarray(log_mel, np.float32))[None].to(self.device)
        face = torch.from_numpy(np.asarray(landmarks, np.float32))[None].to(self.device)
        audio, lips = self(mel, face)
        return audio[0].cpu().numpy(), lips[0].cpu().numpy()

    def sync_scores(
        self,
        log_mel: NDArray[np.float32],
        landmarks: NDArray[np.float32],
        max_offset: int = 15,
    ) -> SyncScores:
        """Try all offsets; see `SyncScores`.

        Args:
            log_mel: `(4T, 80)`, standardised.
            landmarks: `(T, 68, 2)`, finite, any unit, 25 frames a second.
            max_offset: Largest offset tried, frames to both sides; T is at least
                `max_offset + 19`.
        Raises:
            ShapeError: The shapes do not fit, or the recording is too short for `max_offset`.
        """
        audio, lips = self.embed(log_mel, landmarks)
        if len(lips) < max_offset + _FEWEST_FRAMES:
            raise ShapeError(
                f"{len(landmarks)} frames are too few for offsets up to {max_offset}; expected at "
                f"least {max_offset + 2 * MARGIN + _FEWEST_FRAMES}: lower max_offset"
            )
        between = np.sqrt(np.maximum(2.0 - 2.0 * lips @ audio.T, 0.0))  # [lips t, sound t']
        # lips that are late by `late` frames show at t what was heard at t - late
        offsets = range(-max_offset, max_offset + 1)
        distances = np.array([between.diagonal(-late).mean() for late in offsets], np.float32)
        best = int(distances.argmin())
        return SyncScores(
            offset_frames=best - max_offset,
            confidence=float(np.median(distances) - distances[best]),
            distance=float(distances[best]),
            distances=distances,
        )

    def matching(self, log_mel: NDArray[np.float32], landmarks: NDArray[np.float32]) -> float:
        """Mean cosine of sound and lips as they stand, -1 to 1: the sound that a mouth prefers has more.

        Args:
            log_mel: `(4T, 80)`, standardised.
            landmarks: `(T, 68, 2)`, finite, any unit, 25 frames a second.
        Raises:
            ShapeError: The shapes do not fit, T is below 15, or a landmark is not finite.
        """
        audio, lips = self.embed(log_mel, landmarks)
        return float((audio * lips).sum(axis=-1).mean())


def load_sync_network(path: Path | None = None) -> SyncNetwork:
    """The network, ready to measure, fp32 on the CPU.

    Args:
        path: Its folder, or None for the weights that ship.
    Raises:
        CheckpointError: The folder holds no sync network.
    """
    folder = SHIPPED if path is None else path
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} holds no sync network; expected config.json and safetensors. Restore "
            "model/networks/sync_weights from the repository, or train one with "
            "`python -m model.training.sync`."
        )
    network: SyncNetwork = SyncNetwork.from_pretrained(folder, low_cpu_mem_usage=False)
    return network.float().eval().requires_grad_(False)
