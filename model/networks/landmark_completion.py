"""Landmark completion: speech + pose + reference face -> lips and jaw of every frame (arXiv 2408.05416, Fig. 2).

    log_mel (B,4T,80) ──conv, stride 4──▶ audio tokens ─┐
    pose (B,T,37,2) ──────────MLP───────▶ pose tokens ──┼─▶ transformer, |i-j| <= 16 ─▶ lip offsets (audio tokens)
    reference (B,R,68,2) ─────MLP───────▶ R tokens ─────┘                            └▶ jaw offsets (pose tokens)

Offsets live in the reference's own frame: content_t = S_t(reference_content + offset_t), with S_t
the closed-form similarity that carries the reference's pose points to frame t's. Zero offsets give
the reference's mouth, so identity is kept by construction.

Everything is shift-invariant in time and local (per-step normalisation, rotary positions, a bounded
window), so a long recording is completed in overlapping pieces with the result of one piece
(`complete`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from model.errors import ShapeError
from model.face.landmarks import CONTENT, INNER_LIPS, JAW, MOUTH_CORNERS, NUM_LANDMARKS, POSE
from model.media.audio import MELS_PER_FRAME, N_MELS
from model.networks.near_attention import NearBlocks
from model.networks.rotary_layer import RotaryLayer

NUM_PHONES: Final = 40
_NUM_JAW: Final = len(JAW)
_LIPS_IN_CONTENT: Final = len(CONTENT) - _NUM_JAW
_REFERENCE_FEATURES: Final = 2 * NUM_LANDMARKS + 6
_OFFSET_SCALE: Final = 0.05  # crop units: an offset of one network unit


@dataclass
class LandmarkCompletionOutput:
    """Completed landmarks.

    Attributes:
        content: Jaw and lips `(B, T, 31, 2)`, crop units.
        target: Full face `(B, T, 68, 2)`; pose points are those given.
        offsets: `(B, T, 31, 2)`, crop units, in the reference's frame.
        mouth_open: Lip gap over mouth width `(B, T)`, the auxiliary head.
        phone_logits: `(B, 4T, 40)`, auxiliary, used in training only.
    """

    content: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
    mouth_open: torch.Tensor
    phone_logits: torch.Tensor


def fit_similarity(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Closed-form least-squares similarity, differentiable.

    Args:
        source: `(..., N, 2)`.
        target: `(..., N, 2)`.
    Returns:
        Linear part `(..., 2, 2)` and shift `(..., 2)` such that `source @ linear^T + shift` is nearest to `target`.
    """
    source_mean, target_mean = source.mean(dim=-2), target.mean(dim=-2)
    centred, wanted = source - source_mean[..., None, :], target - target_mean[..., None, :]
    norm = (centred**2).sum(dim=(-1, -2)).clamp_min(1e-8)
    a = (centred * wanted).sum(dim=(-1, -2)) / norm
    b = (centred[..., 0] * wanted[..., 1] - centred[..., 1] * wanted[..., 0]).sum(dim=-1) / norm
    linear = torch.stack([torch.stack([a, -b], dim=-1), torch.stack([b, a], dim=-1)], dim=-2)
    return linear, target_mean - _apply_linear(linear, source_mean)


def _apply_linear(linear: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The product of `linear` `(..., 2, 2)` and `points` `(..., 2)`, in the points' own precision.

    Written out because autocast turns `@` into a bf16 product, and eight bits of mantissa move a
    coordinate by up to 0.002 crop units: half of a closed mouth's gap.
    """
    x, y = points[..., 0], points[..., 1]
    return torch.stack(
        [
            linear[..., 0, 0] * x + linear[..., 0, 1] * y,
            linear[..., 1, 0] * x + linear[..., 1, 1] * y,
        ],
        dim=-1,
    )


def lip_opening(landmarks: torch.Tensor) -> torch.Tensor:
    """Lip gap over mouth width, `(..., 68, 2)` -> `(...)`: the torch twin of `landmarks.mouth_opening`."""
    upper, lower = landmarks[..., INNER_LIPS[1:4], :], landmarks[..., INNER_LIPS[7:4:-1], :]
    gap = torch.linalg.vector_norm(lower - upper + 1e-8, dim=-1).mean(dim=-1)
    left, right = (landmarks[..., corner, :] for corner in MOUTH_CORNERS)
    return gap / torch.linalg.vector_norm(right - left, dim=-1).clamp_min(1e-6)


def _reference_features(reference: torch.Tensor) -> torch.Tensor:
    """Centred coordinates at about unit size and the three inner gaps, larger: `(..., 142)`."""
    centre = reference[..., POSE, :].mean(dim=-2, keepdim=True)
    upper, lower = reference[..., INNER_LIPS[1:4], :], reference[..., INNER_LIPS[7:4:-1], :]
    coordinates = ((reference - centre) * 5.0).flatten(-2)
    return torch.cat([coordinates, ((lower - upper) * 25.0).flatten(-2)], dim=-1)


def _rest_network(widths: list[int]) -> nn.Sequential:
    """Reference features `(..., 142)` -> offsets of the resting mouth `(..., 62)`."""
    layers: list[nn.Module] = []
    for before, after in pairwise([_REFERENCE_FEATURES, *widths]):
        layers += [nn.Linear(before, after), nn.SiLU()]
    out = nn.Linear(widths[-1], 2 * len(CONTENT))
    nn.init.normal_(out.weight, std=1e-3)
    nn.init.zeros_(out.bias)
    return nn.Sequential(*layers, out)


class _AudioEncoder(nn.Module):
    """`(B, 4T, 80)` -> features at the mel rate `(B, 4T, D)` and at the video rate `(B, T, D)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(N_MELS, width, 5, padding=2)
        self.blocks = nn.ModuleList(_ConvBlock(width, dilation) for dilation in (1, 2, 4))
        self.stride = nn.Conv1d(
            width, width, 2 * MELS_PER_FRAME, stride=MELS_PER_FRAME, padding=MELS_PER_FRAME // 2
        )

    def forward(self, log_mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.stem(log_mel.transpose(1, 2))
        for block in self.blocks:
            hidden = block(hidden)
        return hidden.transpose(1, 2), self.stride(hidden).transpose(1, 2)


class _ConvBlock(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation, groups=4)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self.norm(hidden.transpose(1, 2)).transpose(1, 2)
        mixed: torch.Tensor = self.mix(F.silu(self.conv(normed)))
        return hidden + mixed


class LandmarkCompleter(ModelMixin, ConfigMixin):
    """Completes lip and jaw landmarks from speech.

    Args:
        width: Token width D.
        layers: Transformer layers.
        heads: Attention heads.
        window: Tokens see each other up to this many frames apart; reference tokens see and are seen by all.
        dropout: Of channels of the residual branches, training only.
        rest_layers: Hidden layers of the resting mouth's own network, each `2 * width` wide; 0 for
            a single one of `width`.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
        window: int = 16,
        dropout: float = 0.1,
        rest_layers: int = 0,
    ) -> None:
        super().__init__()
        self.audio_encoder = _AudioEncoder(width)
        self.pose_encoder = nn.Sequential(
            nn.Linear(2 * len(POSE), width), nn.SiLU(), nn.Linear(width, width)
        )
        self.reference_encoder = nn.Sequential(
            nn.Linear(_REFERENCE_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.speaker = nn.Linear(width, width)
        self.rest_head = _rest_network([2 * width] * rest_layers or [width])
        self.modality = nn.Parameter(0.02 * torch.randn(3, width))  # reference, audio, pose
        self.blocks = nn.ModuleList(RotaryLayer(width, heads, dropout) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.lip_head = nn.Linear(width, 2 * _LIPS_IN_CONTENT)
        self.jaw_head = nn.Linear(width, 2 * _NUM_JAW)
        self.open_head = nn.Linear(width, 1)
        self.phone_head = nn.Linear(width, NUM_PHONES)
        for head in (self.lip_head, self.jaw_head):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)
        frequencies = 10000.0 ** (-torch.arange(0, width // heads, 2) / (width // heads))
        self.register_buffer("frequencies", frequencies, persistent=False)

    @property
    def receptive_field(self) -> int:
        """Frames on each side that one output frame can depend on."""
        return int(self.config["window"]) * int(self.config["layers"]) + 8

    def forward(
        self, log_mel: torch.Tensor, pose: torch.Tensor, reference: torch.Tensor
    ) -> LandmarkCompletionOutput:
        """Complete one stretch of speech.

        Args:
            log_mel: `(B, 4T, 80)`, standardised.
            pose: `(B, T, 37, 2)`, crop units.
            reference: `(B, R, 68, 2)`, crop units; the first one's mouth is moved.
        Raises:
            ShapeError: The shapes do not fit.
        """
        batch, frames = pose.shape[:2]
        if pose.shape != (batch, frames, len(POSE), 2):
            raise ShapeError(f"pose {tuple(pose.shape)}; expected (B, T, 37, 2)")
        if log_mel.shape != (batch, MELS_PER_FRAME * frames, N_MELS):
            raise ShapeError(
                f"log_mel {tuple(log_mel.shape)}; expected (B, 4T, 80) with the B = {batch} and "
                f"T = {frames} of pose"
            )
        if reference.ndim != 4 or reference.shape[::2] != (batch, NUM_LANDMARKS):
            raise ShapeError(f"reference {tuple(reference.shape)}; expected (B, R, 68, 2)")
        first = reference[:, 0].float()

        # 1. tokens, coordinates centred and scaled to about unit size
        mel_features, audio = self.audio_encoder(log_mel)
        dtype = audio.dtype
        pose_tokens = self.pose_encoder(
            ((pose.float() - 0.4) * 5.0).flatten(2).to(log_mel.dtype)
        ).to(dtype)
        features = _reference_features(reference.float()).to(log_mel.dtype)  # (B, R, F)
        reference_tokens = self.reference_encoder(features).to(dtype)
        # Told to every token and not left to attention alone: what speech asks of a mouth depends
        # on how far it stands open already.
        speaker = self.speaker(reference_tokens[:, :1]).to(dtype)
        tokens = torch.cat(
            [
                reference_tokens + self.modality[0].to(dtype),
                audio + speaker + self.modality[1].to(dtype),
                pose_tokens + speaker + self.modality[2].to(dtype),
            ],
            dim=1,
        )

        # 2. local attention over time, references seen by all
        count = reference.shape[1]
        time = torch.arange(frames, device=pose.device)
        times = torch.cat([torch.zeros(count, device=pose.device, dtype=time.dtype), time, time])
        angles = times[:, None].float() * self.frequencies
        rotation = (angles.cos(), angles.sin())
        window = int(self.config["window"])
        near: NearBlocks | None = None
        if self.training or frames <= 4 * window:
            is_reference = torch.arange(len(times), device=pose.device) < count
            allowed = (times[:, None] - times[None, :]).abs() <= window
            # references look at references only: what they say must not depend on how long the recording is
            allowed = torch.where(
                is_reference[:, None], is_reference[None, :], allowed | is_reference[None, :]
            )
            forbidden = torch.zeros(allowed.shape, device=pose.device).masked_fill(~allowed, -1e4)
        else:
            near = NearBlocks.of(frames, window, count)
            forbidden = near.mask(pose.device)
        for block in self.blocks:
            tokens = block(tokens, rotation, forbidden, count, near)
        tokens = self.norm_out(tokens)
        audio_out, pose_out = tokens[:, count : count + frames], tokens[:, count + frames :]

        # 3. offsets in the reference's frame, carried to each frame's pose
        jaw = self.jaw_head(pose_out).float().view(batch, frames, _NUM_JAW, 2)
        lips = self.lip_head(audio_out).float().view(batch, frames, _LIPS_IN_CONTENT, 2)
        # The same in all frames: from the reference's mouth to its resting one.
        rest = self.rest_head(features[:, 0]).float().view(batch, 1, len(CONTENT), 2)
        offsets = (torch.cat([jaw, lips], dim=2) + rest) * _OFFSET_SCALE
        content = self.place(first, pose.float(), offsets)
        target = torch.empty(batch, frames, NUM_LANDMARKS, 2, device=pose.device)
        target[:, :, POSE] = pose.float()
        target[:, :, CONTENT] = content
        return LandmarkCompletionOutput(
            content=content,
            target=target,
            offsets=offsets,
            mouth_open=self.open_head(audio_out).float()[..., 0],
            phone_logits=self.phone_head(mel_features).float(),
        )

    def resting(self, reference: torch.Tensor) -> torch.Tensor:
        """Lips and jaw of a mouth at rest, whatever the reference's mouth does.

        Args:
            reference: `(B, 68, 2)`, crop units.
        Returns:
            `(B, 31, 2)`, crop units.
        """
        features = _reference_features(reference.float())
        rest: torch.Tensor = self.rest_head(features).float().unflatten(-1, (len(CONTENT), 2))
        return reference[:, CONTENT] + rest * _OFFSET_SCALE

    @torch.no_grad()
    def scale_motion(self, width: float, opening: float, jaw: float) -> None:
        """Make the motion about the resting mouth larger or smaller, in place.

        Args:
            width: Factor on what the lips do sideways.
            opening: Factor on what the lips do up and down.
            jaw: The same of the jaw.
        """
        for head, across, down in ((self.lip_head, width, opening), (self.jaw_head, 1.0, jaw)):
            factor = torch.tensor([across, down]).repeat(head.out_features // 2)
            factor = factor.to(head.weight)
            head.weight.mul_(factor[:, None])
            head.bias.mul_(factor)

    @staticmethod
    def place(reference: torch.Tensor, pose: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """content_t = S_t(reference_content + offset_t).

        Args:
            reference: `(B, 68, 2)`.
            pose: `(B, T, 37, 2)`.
            offsets: `(B, T, 31, 2)`.
        Returns:
            `(B, T, 31, 2)`.
        """
        linear, shift = fit_similarity(reference[:, None, POSE].expand_as(pose), pose)
        moved = reference[:, None, CONTENT] + offsets
        return _apply_linear(linear[..., None, :, :], moved) + shift[..., None, :]

    @torch.no_grad()
    def complete(
        self,
        log_mel: torch.Tensor,
        pose: torch.Tensor,
        reference: torch.Tensor,
        *,
        chunk: int = 768,
        apply: Callable[[Callable[[int], torch.Tensor], range], Iterable[torch.Tensor]] = map,
    ) -> torch.Tensor:
        """Complete a recording of any length in pieces that overlap by the receptive field; memory stays flat.

        Args:
            log_mel: `(1, 4T, 80)`.
            pose: `(1, T, 37, 2)`.
            reference: `(1, R, 68, 2)`.
            chunk: New frames a piece.
            apply: `map`, or what does the same for several pieces at once.
        Returns:
            Target landmarks `(1, T, 68, 2)`, equal to `forward(...).target` up to rounding.
        """
        frames, reach = pose.shape[1], self.receptive_field

        @torch.no_grad()
        def piece(start: int) -> torch.Tensor:
            stop = min(frames, start + chunk)
            low, high = max(0, start - reach), min(frames, stop + reach)
            mel = log_mel[:, MELS_PER_FRAME * low : MELS_PER_FRAME * high]
            target: torch.Tensor = self(mel, pose[:, low:high], reference).target
            return target[:, start - low : stop - low]

        pieces = list(apply(piece, range(0, frames, chunk)))
        return torch.cat(pieces, dim=1)
