"""Train the sync network: whether a mouth says a sound (`model.networks.sync_network`).

    python -m model.training.sync prepared=data/prepared output=runs/sync

Windows are stage 1's: filmed sentences, other voices with the phone teacher's labels, on filmed
faces and on photographs. Sound is augmented as there; lips get what detectors and renderers do to
them: noise, low-pass, more or less articulation, the drift of a nodding head. A frame's partner
competes with all frames of all windows, once more with those of its own window alone (sound that is
shifted), and with the same mouth held still.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F

from model.evaluation.sync_figures import load_tracks, measure
from model.face.landmarks import LIPS, join_landmarks
from model.media.audio import MELS_PER_FRAME
from model.networks.sync_network import MARGIN, SyncNetwork, lip_features, load_sync_network
from model.training.builders.export import tidy, to_half
from model.training.landmark_windows import WindowMix, Windows, collate
from model.training.launch import main
from model.training.stage import Draw, Figures, LoopConfig, Stage

_NEIGHBOUR: Final = math.log(4.0)  # the next frame counts as a quarter of a wrong answer
_NEVER: Final = -1e4


@dataclass(frozen=True)
class SyncConfig(LoopConfig):
    """The sync network's training.

    Attributes:
        prepared: Folder with `grid.npz`, `speech.npz` and `motion.npz`.
        frames: Longest window; every step draws a length from the upper third.
        width: Channels of the towers.
        embedding: Length of the vectors.
        speech_share: Windows with other voices.
        temperature: Of the softmax over candidates.
        noise: Largest standard deviation of the landmarks' noise, crop units (0.006 is 0.8 px of
            128).
        drift: Standard deviation of the lips' slow drift, crop units.
    """

    output: Path = Path("runs/sync")
    prepared: Path = Path("data/prepared")
    max_steps: int = 2400
    batch_size: int = 24
    learning_rate: float = 1e-3
    warmup_steps: int = 60
    weight_decay: float = 0.05
    num_threads: int = 1
    save_every: int = 200
    sample_every: int = 400
    frames: int = 64
    width: int = 192
    embedding: int = 128
    speech_share: float = 0.5
    temperature: float = 0.07
    noise: float = 0.006
    drift: float = 0.006


def disturb(faces: torch.Tensor, config: SyncConfig, generator: torch.Generator) -> torch.Tensor:
    """What detectors and renderers do to moving mouths: faces `(B, T, 68, 2)`, crop units."""
    batch, frames = faces.shape[:2]

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(batch, 1, 1, 1).uniform_(low, high, generator=generator)

    # 1. low-pass on half of the windows, more or less articulation
    lips = faces[:, :, LIPS]
    sides = uniform(-0.3, 0.3).clamp_min(0.0)  # weights of both neighbours
    padded = torch.cat([lips[:, :1], lips, lips[:, -1:]], dim=1)
    lips = (1 - 2 * sides) * lips + sides * (padded[:, :-2] + padded[:, 2:])
    middle = lips.median(dim=1, keepdim=True).values
    lips = middle + uniform(0.7, 1.3) * (lips - middle)

    # 2. a head that nods: slow shift, slow vertical stretch
    slow = torch.randn(batch, 3, 2 + frames // 12, generator=generator)
    slow = F.interpolate(slow, size=frames, mode="linear", align_corners=True)
    shift, stretch = slow[:, :2].transpose(1, 2)[:, :, None], slow[:, 2, :, None, None]
    centre = lips.mean(dim=2, keepdim=True)
    scale = torch.cat([torch.ones_like(stretch), 1.0 + 0.04 * stretch], dim=-1)
    lips = centre + scale * (lips - centre) + config.drift * shift

    # 3. the detector's noise on all points, partly the same in neighbouring frames
    moved = faces.clone()
    moved[:, :, LIPS] = lips
    noise = torch.randn(batch, frames + 2, faces.shape[2], 2, generator=generator)
    mixed = (noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]) / 3.0**0.5
    noise = torch.where(uniform(-1, 1) > 0.3, mixed, noise[:, 1:-1])
    return moved + uniform(0.0, config.noise) * noise


def sync_loss(
    audio: torch.Tensor,
    lips: torch.Tensor,
    frozen: torch.Tensor,
    valid: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, Figures]:
    """Every frame of sound seeks its lips and the reverse (InfoNCE, arXiv 1807.03748 eq. 4).

    Args:
        audio: Unit vectors `(B, N, D)`.
        lips: Unit vectors `(B, N, D)`.
        frozen: Unit vectors `(B, N, D)` of the same mouths held still.
        valid: `(B, N)`, 0 where the lips' labels are unknown.
        temperature: Of the softmax.
    Returns:
        The loss, and how often the right partner comes first among all frames and among those
        of the own window.
    """
    batch, count = audio.shape[:2]
    apart = (torch.arange(count)[:, None] - torch.arange(count)[None]).abs().to(audio.device)
    near = torch.where(apart == 1, -_NEIGHBOUR, 0.0)  # (N, N)
    unknown = torch.where(valid > 0, 0.0, _NEVER)
    flat_audio, flat_lips = audio.flatten(0, 1), lips.flatten(0, 1)
    weight = valid.flatten() / valid.sum().clamp_min(1.0)

    everywhere = flat_audio @ flat_lips.T / temperature  # [sound, lips]
    everywhere = everywhere + torch.block_diag(*[near] * batch) + unknown.flatten()
    inside = audio @ lips.transpose(1, 2) / temperature + near + unknown[:, None]  # (B, N, N)
    still = (audio * frozen).sum(dim=-1, keepdim=True) / temperature  # (B, N, 1)

    def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (F.cross_entropy(logits, target, reduction="none") * weight).sum()

    all_frames = torch.arange(batch * count, device=audio.device)
    own_frames = torch.arange(count, device=audio.device).repeat(batch)
    loss = (
        cross_entropy(torch.cat([everywhere, still.flatten(0, 1)], dim=1), all_frames)
        + cross_entropy(everywhere.T, all_frames)
        + cross_entropy(torch.cat([inside, still], dim=2).flatten(0, 1), own_frames)
        + cross_entropy(inside.transpose(1, 2).flatten(0, 1), own_frames)
    ) / 4
    with torch.no_grad():
        first = (everywhere.argmax(dim=1) == all_frames).float() @ weight
        first_inside = (inside.argmax(dim=2).flatten() == own_frames).float() @ weight
        cosine = (audio * lips).sum(dim=-1).flatten() @ weight
    return loss, {"first_of_all": first, "first_of_window": first_inside, "cosine": cosine}


@dataclass(frozen=True)
class SyncBatch:
    """Sound `(B, 4T, 80)` and faces `(2 B, T, 68, 2)` of B windows: mouths that move, then the same held still.

    `valid` `(B, T - 14)` is 0 where the lips' labels are unknown.
    """

    log_mel: torch.Tensor
    faces: torch.Tensor
    valid: torch.Tensor


class SyncStage(Stage[SyncBatch]):
    """The sync network, its loss and its held-out figures."""

    def __init__(self, config: SyncConfig, device: str) -> None:
        self.config, self.device = config, device
        # frames without speech are all alike: nothing to tell apart
        mix = WindowMix(frames=config.frames, speech_share=config.speech_share, silence_share=0.0)
        self.windows = Windows(config.prepared, mix)
        self.tracks = load_tracks(config.prepared)
        self.network = SyncNetwork(width=config.width, embedding=config.embedding).to(device)
        super().__init__({"sync_network": self.network})
        size = sum(p.numel() for p in self.network.parameters())
        spoken = sum(len(cutter.spans) for cutter in self.windows.voices)
        there = f"{len(self.windows.mels)} clips, {spoken} utterances"
        pictures = f"{len(self.windows.portraits)} photographs"
        print(f"{there}, {pictures}, {size / 1e6:.2f} M parameters", flush=True)

    def draw(self, draw: Draw) -> SyncBatch:
        """Stage 1's windows, shortened, and what detectors and renderers do to them."""
        config, rng = self.config, draw.rng
        windows = [self.windows.draw(rng) for _ in range(config.batch_size)]
        batch = collate(windows, self.windows.noise, draw)
        length = int(rng.integers(2 * config.frames // 3, config.frames + 1))
        whole = join_landmarks(batch.pose.numpy(), batch.content.numpy())
        faces = torch.from_numpy(whole)[:, :length]
        held = torch.from_numpy(rng.integers(0, length, len(faces)))
        still = faces[torch.arange(len(faces)), held][:, None].expand_as(faces)
        return SyncBatch(
            batch.mel[:, : MELS_PER_FRAME * length],
            disturb(torch.cat([faces, still]), config, draw.generator),
            batch.valid[:, MARGIN : length - MARGIN],
        )

    def loss(self, batch: SyncBatch, step: int) -> tuple[torch.Tensor, Figures]:
        """See `sync_loss`."""
        lips, frozen = self.network.embed_features(lip_features(batch.faces)).chunk(2)
        audio = self.network.embed_audio(batch.log_mel)
        device_type = torch.device(self.device).type
        with torch.autocast(device_type, enabled=False):  # cosines need more than 8 bits
            return sync_loss(audio, lips, frozen, batch.valid, self.config.temperature)

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Whether held-out mouths are told from shifted, swapped and frozen ones."""
        figures = {
            f"{kind}_{name}": value
            for kind, rows in self.tracks.items()
            for name, value in measure(self.network, rows).items()
        }
        text = json.dumps({key: round(value, 4) for key, value in figures.items()})
        (folder / f"{step:06d}.json").write_text(text + "\n")
        print(f"\nstep {step}: {text}", flush=True)
        return figures

    def finish(self, export: Path) -> None:
        """Make the export fp16, as it ships."""
        network = load_sync_network(export / "sync_network")
        to_half("sync_network", network)
        network.save_pretrained(export / "sync_network")
        tidy(export)


CONFIG, build = SyncConfig, SyncStage


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
