"""Stage 3, end to end: the diffusion loss reaches the landmark completer through TalkFormer.

    talkface train --stage 3 weights=model/weights shards=data/shards/grid output=runs/end_to_end

    speech, pose, reference ─▶ completer ─▶ target landmarks ─▶ tokens, maps ─▶ U-Net ─▶ v-loss
                                   ▲                                                        │
    stage 1's windows ─▶ landmark loss └────────────────── gradient ◀───────────────────────┘

Of a window of 16 frames two are drawn; the landmarks are neither detached nor rasterised. Starts
from a converged stage 2 (a zero-initialised output projection would give the landmarks no
gradient). `end_to_end=false` trains both parts by the same steps side by side, which is the paper's
ablation. arXiv 2408.05416; noise levels and weights are ours (docs/model.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoints import INNER_MOUTHS, OPTIONAL_PARTS, SHIPPED, verify_checkpoint
from model.data.shards import ClipShards
from model.networks.attention import set_backend
from model.networks.autoencoder import (
    decode_latents,
    enlarge_cells,
)
from model.networks.pixels import to_images
from model.networks.schedule import NUM_TIMESTEPS, velocity_loss
from model.networks.unet import TalkFormerUNet
from model.training.builders.export import pack
from model.training.end_to_end_networks import EndToEnd
from model.training.landmark_windows import Batch, collate
from model.training.launch import main
from model.training.pictures import generated_weight, psnr_db, save_strips
from model.training.shard_windows import ClipWindow, draw_window, landmark_error, split_tracks
from model.training.stage import Draw, Figures, LoopConfig, Stage, autocast
from model.training.stage1_landmarks import LandmarksConfig, Material, completion_loss
from model.training.stage2_diffusion import sample_latents


@dataclass(frozen=True)
class EndToEndConfig(LoopConfig):
    """Stage 3.

    Attributes:
        weights: Checkpoint folder to start from.
        shards: Clips (`talkface prepare`).
        prepared: Folder with stage 1's arrays, for the landmark loss. Where there are none, it takes
            windows of `shards`.
        end_to_end: Whether the diffusion loss reaches the completer; the paper's ablation switch.
        batch_size: Windows of clips a step; each gives `rendered` frames.
        frames: Length of a window.
        rendered: Frames of it that are drawn.
        learning_rate: Of U-Net and reference encoder.
        completer_learning_rate: Of the completer.
        completer_clip: Largest norm of the completer's gradient, apart from the others'.
        diffusion_gain: Factor on the diffusion loss's gradient where it enters the landmarks.
        landmark_weight: Of the landmark loss.
        landmark_batch: Windows of the landmark loss.
        first_timestep: Least noise at which the loss reaches the landmarks.
        last_timestep: Most; beyond it the gradient's direction is worst.
        every_timestep: Whether the denoiser also learns at the other noise levels, landmarks
            detached: without them it forgets how sampling begins.
        drop_warped: Share of windows without warped latents: a warp shows where the mouth is, and
            no gradient passes through it.
        drop_reference: Share of windows without reference latents.
        sample_steps: DDIM steps of the samples.
    """

    output: Path = Path("runs/end_to_end")
    weights: Path = SHIPPED
    shards: Path = Path("data/shards/grid")
    prepared: Path = Path("data/prepared")
    end_to_end: bool = True
    max_steps: int = 400
    warmup_steps: int = 20
    batch_size: int = 16
    frames: int = 16
    rendered: int = 2
    learning_rate: float = 1e-5
    completer_learning_rate: float = 1e-4
    completer_clip: float = 1.0
    diffusion_gain: float = 10.0
    landmark_weight: float = 1.0
    landmark_batch: int = 16
    first_timestep: int = 50
    last_timestep: int = 700
    every_timestep: bool = True
    drop_warped: float = 0.5
    drop_reference: float = 0.2
    ema_decay: float = 0.99
    sample_steps: int = 4
    save_every: int = 50
    sample_every: int = 100


def scale_gradient(tensor: torch.Tensor, gain: float) -> torch.Tensor:
    """The same values; their gradient is multiplied by `gain`, and cut at 0."""
    if gain == 0:
        return tensor.detach()
    return tensor * gain + tensor.detach() * (1 - gain)


@dataclass(frozen=True)
class NoiseDraw:
    """Noise of B windows' n drawn frames, and what is left out of them.

    Attributes:
        noise: `(B * n, 4, h, w)`, of the U-Net's window.
        timestep: `(B * n,)`.
        use_warped: `(B,)`, which windows get warped latents.
        use_reference: `(B,)`, which get reference latents.
    """

    noise: torch.Tensor
    timestep: torch.Tensor
    use_warped: NDArray[np.bool_]
    use_reference: NDArray[np.bool_]


def draw_noise(unet: TalkFormerUNet, count: int, draw: Draw, config: EndToEndConfig) -> NoiseDraw:
    """Noise for `count` windows: its levels are all of them, or those at which landmarks learn."""
    frames, window = count * config.rendered, unet.window
    shape = (frames, int(unet.config["latent_channels"]), window.height, window.width)
    noise = torch.randn(shape, generator=draw.generator)
    low, high = config.first_timestep, config.last_timestep
    bounds = (0, NUM_TIMESTEPS) if config.every_timestep else (low, high)
    timestep = torch.randint(*bounds, (frames,), generator=draw.generator)
    use_warped = draw.rng.random(count) >= config.drop_warped
    use_reference = draw.rng.random(count) >= config.drop_reference
    return NoiseDraw(noise, timestep, use_warped, use_reference)


def diffusion_loss(
    networks: EndToEnd,
    windows: list[ClipWindow],
    target: torch.Tensor,
    draw: NoiseDraw,
    config: EndToEndConfig,
) -> torch.Tensor:
    """v-prediction loss of the drawn frames: weight 3 near the lips, 1 in the mask, 0.1 outside.

    Args:
        networks: All of them.
        windows: B windows.
        target: `(B * n, 68, 2)`, crop units.
        draw: Noise and its levels, on the networks' device.
        config: Noise levels at which the gradient reaches the landmarks.
    """
    low, high = config.first_timestep, config.last_timestep
    reached = ((draw.timestep >= low) & (draw.timestep < high))[:, None, None]
    frames = networks.condition(
        windows,
        torch.where(reached, target, target.detach()),
        use_warped=draw.use_warped,
        use_reference=draw.use_reference,
    )
    window, weight = networks.unet.window, generated_weight(frames.mask, frames.target.detach())
    return velocity_loss(
        lambda noisy, timestep: networks.unet(noisy, timestep, frames.condition),
        networks.scheduler,
        window.crop(frames.latents),
        draw.noise,
        draw.timestep,
        window.crop(weight),
    )


@dataclass(frozen=True)
class EndToEndBatch:
    """One loss's draws: stage 1's windows, clips, and noise for their drawn frames."""

    speech: Batch
    windows: list[ClipWindow]
    noise: NoiseDraw


class EndToEndStage(Stage[EndToEndBatch]):
    """The networks, their loss and their samples."""

    def __init__(self, config: EndToEndConfig, device: str) -> None:
        if device == "cpu":
            set_backend("eager")  # the fastest backward pass on a CPU
        self.config, self.device = config, device
        self.networks = EndToEnd(config.weights, device)
        self.shards = ClipShards(config.shards)
        self.seen, unseen = split_tracks(self.shards, config.frames)
        self.stage1 = self._stage1_config()
        self.speech = Material(self.stage1)
        self.gain = config.diffusion_gain if config.end_to_end else 0.0
        # without R-Align nothing asks the reference encoder
        self.find_unused_parameters = not self.networks.unet.config["r_align"]
        self._cut = partial(
            draw_window,
            self.shards,
            frames=config.frames,
            rendered=config.rendered,
            size=self.networks.face_px,
        )
        rng = np.random.default_rng(0)
        self.shown = [self._cut(i, rng, augment=False) for i in unseen[: config.batch_size]]
        super().__init__(
            {
                "landmark_completer": self.networks.completer,
                "unet": self.networks.unet,
                "reference_encoder": self.networks.reference_encoder,
            },
            learning_rates={"landmark_completer": config.completer_learning_rate},
            gradient_clips={"landmark_completer": config.completer_clip},
        )

    def _stage1_config(self) -> LandmarksConfig:
        """Stage 1 on its arrays or, where there are none, on the shards, in windows that they can fill."""
        config = self.config
        stage1 = LandmarksConfig(prepared=config.prepared, batch_size=config.landmark_batch)
        if (config.prepared / "motion.npz").exists():
            return stage1
        longest = max((self.shards.tracks[i].num_frames for i in self.seen), default=stage1.frames)
        return replace(stage1, shards=config.shards, frames=min(stage1.frames, longest))

    def draw(self, draw: Draw) -> EndToEndBatch:
        """Stage 1's windows, so that no voice or face is forgotten; clips; noise."""
        config = self.config
        drawn = [self.speech.draw(draw.rng) for _ in range(config.landmark_batch)]
        speech = collate(drawn, self.speech.noise, draw)
        chosen = draw.rng.choice(self.seen, config.batch_size)
        windows = [self._cut(int(track), draw.rng) for track in chosen]
        noise = draw_noise(self.networks.unet, len(windows), draw, config)
        return EndToEndBatch(speech, windows, noise)

    def loss(self, batch: EndToEndBatch, step: int) -> tuple[torch.Tensor, Figures]:
        """Landmarks of stage 1's windows, and clips whose frames predicted landmarks draw."""
        completer, windows = self.networks.completer, batch.windows
        landmarks, figures = completion_loss(completer, batch.speech, self.stage1)
        target = self.networks.complete(windows)
        pixels = diffusion_loss(
            self.networks, windows, scale_gradient(target, self.gain), batch.noise, self.config
        )
        return self.config.landmark_weight * landmarks + pixels, {
            "landmarks": landmarks.detach(),
            "diffusion": pixels.detach(),
            "window_error": landmark_error(windows, target),
            "train_r": figures["train_r"],
        }

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Held-out clips, drawn from their sound."""
        if not self.shown:
            return {}
        networks, everywhere = self.networks, np.ones(len(self.shown), bool)
        with autocast(self.config, self.device):
            target = networks.complete(self.shown)
            frames = networks.condition(
                self.shown, target, use_warped=everywhere, use_reference=everywhere
            )
            latents = sample_latents(
                networks.unet,
                frames.condition,
                frames.latents,
                frames.mask,
                self.config.sample_steps,
            )
            drawn = decode_latents(networks.autoencoder, latents).clamp(-1, 1)
        wide = enlarge_cells(frames.mask, networks.crop_px // networks.latent_size)
        strips = [to_images(drawn), to_images(frames.pictures)]
        save_strips(folder / f"{step:06d}.png", strips)
        return {
            "error": float(landmark_error(self.shown, target)),
            "psnr_db": psnr_db(drawn, frames.pictures, wide),
        }

    def finish(self, export: Path) -> None:
        """Pack a whole checkpoint beside the run."""
        weights = self.config.weights
        parts = {name: export / name for name in self.modules}
        kept = (
            "autoencoder",
            *OPTIONAL_PARTS,
        )  # a small checkpoint of one's own may lack the latter
        parts |= {n: weights / n for n in kept if (weights / n).is_dir()}
        checkpoint = self.config.output / "checkpoint"
        name = f"{verify_checkpoint(weights).model_name}-stage3"
        pack(parts, weights / INNER_MOUTHS, checkpoint, model_name=name, version="0")


CONFIG, build = EndToEndConfig, EndToEndStage


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
