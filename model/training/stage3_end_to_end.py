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

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from model.checkpoints import INNER_MOUTHS, SHIPPED, verify_checkpoint
from model.data.shards import ClipShards
from model.face.alignment import jitter_affine, lower_face_mask, warp_points
from model.face.landmarks import CONTENT, POSE, flip_landmarks
from model.networks.attention import set_backend
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.talkformer import KeyValue
from model.networks.unet import ReferenceCache, TalkFormerUNet, UNetCondition
from model.training.export import pack
from model.training.landmark_windows import Windows, collate
from model.training.launch import main
from model.training.loop import Draw, LoopConfig, Stage, autocast
from model.training.pairs import warp_reference
from model.training.stage0_autoencoder import mouth_boxes, to_images, to_tensor
from model.training.stage1_landmarks import LandmarksConfig, completion_loss
from model.training.stage2_diffusion import sample_latents

_EYE_CORNERS: Final = (36, 45)
_TIMESTEPS: Final = 1000  # of `build_scheduler`
_IDENTITY: Final = np.eye(2, 3, dtype=np.float32)


@dataclass(frozen=True)
class EndToEndConfig(LoopConfig):
    """Stage 3.

    Attributes:
        weights: Checkpoint folder to start from.
        shards: Clips (`talkface prepare`).
        prepared: Folder with stage 1's arrays, for the landmark loss.
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


@dataclass(frozen=True)
class ClipWindow:
    """A stretch of one clip, its reference from elsewhere in the clip.

    Attributes:
        log_mel: `(4T, 80)`.
        landmarks: `(T, 68, 2)`, crop units.
        drawn: Indices of the frames to draw `(n,)`.
        pictures: Their crops `(n, S, S, 3)` uint8.
        reference: `(S, S, 3)` uint8, with its own jitter.
        reference_landmarks: `(68, 2)`.
    """

    log_mel: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    drawn: NDArray[np.int64]
    pictures: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    reference_landmarks: NDArray[np.float32]


def draw_window(
    shards: ClipShards,
    track: int,
    rng: np.random.Generator,
    *,
    frames: int,
    rendered: int,
    size: int,
    augment: bool = True,
) -> ClipWindow:
    """Cut a window out of a track.

    Args:
        shards: The clips.
        track: Which.
        rng: Randomness.
        frames: T.
        rendered: Frames to draw, from the window's inner half: its ends hear too little.
        size: Side of the crops in pixels.
        augment: Whether crops are jittered (all of the window alike, the reference apart) and
            windows mirrored.
    """
    landmarks = shards.landmarks(track)
    start = int(rng.integers(len(landmarks) - frames + 1))
    inner = np.arange(frames // 4, frames - frames // 4)
    drawn = np.sort(rng.choice(inner, rendered, replace=False))
    reference = int(rng.integers(len(landmarks)))
    jitters = [jitter_affine(_IDENTITY, rng) if augment else _IDENTITY for _ in range(2)]
    pictures, _ = shards.crops(track, [start + int(i) for i in drawn], size=size, jitter=jitters[0])
    shown, shown_landmarks = shards.crops(track, [reference], size=size, jitter=jitters[1])
    face, own = warp_points(jitters[0], landmarks[start : start + frames]), shown_landmarks[0]
    if augment and rng.random() < 0.5:
        pictures = np.ascontiguousarray(pictures[:, :, ::-1])
        shown = np.ascontiguousarray(shown[:, :, ::-1])
        face, own = flip_landmarks(face), flip_landmarks(own)
    log_mel = shards.log_mel(track)[4 * start : 4 * (start + frames)]
    return ClipWindow(log_mel, face, drawn, pictures, shown[0], own)


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
        self.autoencoder: AutoencoderKL = load(AutoencoderKL, "autoencoder")
        self.autoencoder.eval().requires_grad_(False)
        self.scale = float(self.autoencoder.config.scaling_factor)
        self.crop_px = int(self.autoencoder.config.sample_size)
        self.latent_size = int(self.unet.config["latent_size"])

    def complete(self, windows: list[ClipWindow]) -> torch.Tensor:
        """Target landmarks of the drawn frames `(B * n, 68, 2)`, with their graph."""
        mel = torch.from_numpy(np.stack([w.log_mel for w in windows])).float()
        pose = torch.from_numpy(np.stack([w.landmarks[:, list(POSE)] for w in windows]))
        reference = torch.from_numpy(np.stack([w.reference_landmarks for w in windows]))[:, None]
        target = self.completer(
            mel.to(self.device), pose.to(self.device), reference.to(self.device)
        ).target
        rows = torch.from_numpy(np.stack([w.drawn for w in windows])).to(self.device)
        picked = target.gather(1, rows[..., None, None].expand(-1, -1, *target.shape[2:]))
        return picked.flatten(0, 1)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scaled latents of `(N, 3, S, S)` in [-1, 1]."""
        latents: torch.Tensor = self.autoencoder.encode(pictures).latent_dist.mode()
        return latents.float() * self.scale

    def condition(
        self,
        windows: list[ClipWindow],
        target: torch.Tensor,
        *,
        use_warped: NDArray[np.bool_],
        use_reference: NDArray[np.bool_],
    ) -> tuple[UNetCondition, torch.Tensor, torch.Tensor]:
        """What the denoiser sees of the drawn frames.

        Args:
            windows: B of them.
            target: `(B * n, 68, 2)`, crop units; gradients pass.
            use_warped: `(B,)`, which windows get warped latents (of the predicted landmarks).
            use_reference: `(B,)`, which get reference latents.
        Returns:
            The condition, the clean latents `(B * n, 4, h, w)` and the mask `(B * n, 1, h, w)`,
            both of the whole grid.
        """
        rendered = len(windows[0].drawn)
        pictures = to_tensor(np.concatenate([w.pictures for w in windows])).to(self.device)
        masks = np.stack(
            [lower_face_mask(w.landmarks[i], self.latent_size) for w in windows for i in w.drawn]
        )
        mask = torch.from_numpy(masks.astype(np.float32))[:, None].to(self.device)
        factor = self.crop_px // self.latent_size
        kept = 1 - mask.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        shown = to_tensor(np.stack([w.reference for w in windows])).to(self.device)
        encoded = self.encode(torch.cat([pictures, pictures * kept, shown]))
        clean, masked, own = encoded.split([len(pictures), len(pictures), len(shown)])
        keep = torch.from_numpy(use_reference.astype(np.float32)).to(self.device)
        reference_latents = own * keep[:, None, None, None]

        landmarks = torch.from_numpy(np.stack([w.reference_landmarks for w in windows]))
        landmarks = landmarks.to(self.device)
        cache = self.unet.prepare_reference(self.reference_encoder(shown), landmarks)
        condition = self.unet.prepare_condition(
            target_landmarks=target,
            reference_landmarks=landmarks.repeat_interleave(rendered, 0),
            masked_latents=masked,
            mask=mask,
            reference_latents=reference_latents.repeat_interleave(rendered, 0),
            warped_latents=self._warp(windows, target, use_warped),
            reference=_repeat(cache, rendered),
        )
        return condition, clean, mask

    def _warp(
        self, windows: list[ClipWindow], target: torch.Tensor, wanted: NDArray[np.bool_]
    ) -> torch.Tensor | None:
        """Latents of the references moved to the predicted landmarks; zeros where not `wanted`."""
        if not wanted.any() or not self.unet.config["warped_latents"]:
            return None
        rendered = len(windows[0].drawn)
        points = target.detach().float().cpu().numpy().reshape(len(windows), rendered, -1, 2)
        pictures = [
            warp_reference((window.reference, window.reference_landmarks), face)
            for window, faces, chosen in zip(windows, points, wanted, strict=True)
            if chosen
            for face in faces
        ]
        latents = self.encode(to_tensor(np.stack(pictures)).to(self.device))
        shape = (len(windows) * rendered, *latents.shape[1:])
        rows = torch.from_numpy(np.repeat(wanted, rendered)).to(self.device)
        return torch.zeros(shape, device=self.device).index_put((rows,), latents)


def _repeat(cache: ReferenceCache, count: int) -> ReferenceCache:
    """Each reference's keys and values for its `count` frames."""
    return ReferenceCache(
        [
            pair
            and KeyValue(
                pair.key.repeat_interleave(count, 0), pair.value.repeat_interleave(count, 0)
            )
            for pair in cache.pairs
        ]
    )


def scale_gradient(tensor: torch.Tensor, gain: float) -> torch.Tensor:
    """The same values; their gradient is multiplied by `gain`, and cut at 0."""
    if gain == 0:
        return tensor.detach()
    return tensor * gain + tensor.detach() * (1 - gain)


def diffusion_loss(
    networks: EndToEnd,
    windows: list[ClipWindow],
    target: torch.Tensor,
    draw: Draw,
    config: EndToEndConfig,
) -> torch.Tensor:
    """v-prediction loss of the drawn frames: weight 3 near the lips, 1 in the mask, 0.1 outside.

    Args:
        networks: All of them.
        windows: B windows.
        target: `(B * n, 68, 2)`, crop units.
        draw: Randomness.
        config: Noise levels, and shares of what is left out.
    """
    count, channels = len(windows), int(networks.unet.config["latent_channels"])
    window, scheduler = networks.unet.window, build_scheduler()
    shape = (len(target), channels, window.height, window.width)
    noise = torch.randn(shape, generator=draw.generator).to(target.device)
    low, high = config.first_timestep, config.last_timestep
    bounds = (0, _TIMESTEPS) if config.every_timestep else (low, high)
    timestep = torch.randint(*bounds, (len(target),), generator=draw.generator).to(target.device)
    telling = ((timestep >= low) & (timestep < high))[:, None, None]
    condition, latents, mask = networks.condition(
        windows,
        torch.where(telling, target, target.detach()),
        use_warped=draw.rng.random(count) >= config.drop_warped,
        use_reference=draw.rng.random(count) >= config.drop_reference,
    )
    lips = mouth_boxes(target.detach().float().cpu().numpy(), mask.shape[-1]).to(mask)
    weight = 0.1 + 0.9 * mask + 2.0 * lips * mask
    clean, here = window.crop(latents), window.crop(weight)
    wanted = scheduler.get_velocity(clean, noise, timestep)
    predicted = networks.unet(scheduler.add_noise(clean, noise, timestep), timestep, condition)
    error = (predicted.float() - wanted) ** 2 * here
    return error.sum() / (here.sum() * clean.shape[1])


def landmark_error(windows: list[ClipWindow], target: torch.Tensor) -> float:
    """Mean distance of lips and jaw from the detected ones, in inter-ocular distances."""
    real = np.concatenate([w.landmarks[w.drawn] for w in windows])
    left, right = (real[:, corner] for corner in _EYE_CORNERS)
    eyes = np.linalg.norm(right - left, axis=-1)[:, None]
    points = target.detach().float().cpu().numpy()[:, list(CONTENT)]
    distance: NDArray[np.float32] = np.linalg.norm(points - real[:, list(CONTENT)], axis=-1) / eyes
    return float(distance.mean())


CONFIG = EndToEndConfig


def build(config: EndToEndConfig, device: str) -> Stage:
    """The networks, their loss and their samples."""
    if device == "cpu":
        set_backend("eager")  # the fastest backward pass on a CPU
    networks = EndToEnd(config.weights, device)
    shards = ClipShards(config.shards)
    long_enough = [i for i, track in enumerate(shards.tracks) if track.num_frames >= config.frames]
    seen = [i for i in long_enough if not shards.tracks[i].held_out]
    unseen = [i for i in long_enough if shards.tracks[i].held_out]
    stage1 = LandmarksConfig(prepared=config.prepared, batch_size=config.landmark_batch)
    speech = Windows(config.prepared, stage1)
    gain = config.diffusion_gain if config.end_to_end else 0.0

    def cut(tracks: list[int], rng: np.random.Generator, augment: bool) -> list[ClipWindow]:
        return [
            draw_window(
                shards,
                track,
                rng,
                frames=config.frames,
                rendered=config.rendered,
                size=networks.crop_px,
                augment=augment,
            )
            for track in tracks
        ]

    def loss(draw: Draw) -> tuple[torch.Tensor, dict[str, float]]:
        # 1. landmarks of stage 1's windows, so that no voice or face is forgotten
        drawn = [speech.draw(draw.rng) for _ in range(config.landmark_batch)]
        batch = collate(drawn, speech.noise, draw).to(device)
        landmarks, figures = completion_loss(networks.completer, batch, stage1)

        # 2. clips: predicted landmarks draw the frames
        chosen = [int(i) for i in draw.rng.choice(seen, config.batch_size)]
        windows = cut(chosen, draw.rng, augment=True)
        target = networks.complete(windows)
        pixels = diffusion_loss(networks, windows, scale_gradient(target, gain), draw, config)
        return config.landmark_weight * landmarks + pixels, {
            "landmarks": landmarks.item(),
            "diffusion": pixels.item(),
            "window_error": landmark_error(windows, target),
            "train_r": figures["train_r"],
        }

    shown = cut(unseen[: config.batch_size], np.random.default_rng(0), augment=False)
    everywhere = np.ones(len(shown), bool)

    def sample(folder: Path, step: int) -> dict[str, float]:
        with autocast(config, device):
            target = networks.complete(shown)
            condition, clean, mask = networks.condition(
                shown, target, use_warped=everywhere, use_reference=everywhere
            )
            latents = sample_latents(networks.unet, condition, clean, mask, config.sample_steps)
            drawn = networks.autoencoder.decode(latents / networks.scale).sample
        drawn = drawn.float().clamp(-1, 1)
        pictures = np.concatenate([w.pictures for w in shown])
        factor = networks.crop_px // networks.latent_size
        wide = mask.repeat_interleave(factor, 2).repeat_interleave(factor, 3).cpu()
        error = (drawn.cpu() - to_tensor(pictures)) ** 2 / 4 * wide
        strips = [to_images(drawn), pictures]
        Image.fromarray(np.concatenate([np.concatenate(list(s), axis=1) for s in strips])).save(
            folder / f"{step:06d}.png"
        )
        return {
            "error": landmark_error(shown, target),
            "psnr_db": float(-10 * (error.sum() / (3 * wide.sum())).log10()),
        }

    trained: dict[str, torch.nn.Module] = {
        "landmark_completer": networks.completer,
        "unet": networks.unet,
        "reference_encoder": networks.reference_encoder,
    }

    def finish(export: Path) -> None:
        parts = {name: export / name for name in trained}
        kept = ("autoencoder", "detail")  # a small checkpoint of one's own may lack the latter
        parts |= {n: config.weights / n for n in kept if (config.weights / n).is_dir()}
        checkpoint = config.output / "checkpoint"
        name = f"{verify_checkpoint(config.weights).model_name}-stage3"
        pack(parts, config.weights / INNER_MOUTHS, checkpoint, model_name=name, version="0")

    return Stage(
        trained,
        loss,
        sample if shown else None,
        finish,
        learning_rates={"landmark_completer": config.completer_learning_rate},
        gradient_clips={"landmark_completer": config.completer_clip},
    )


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
