"""What the work of others' networks costs on this machine: their layers with random weights, one frame.

    Wav2Lip-size      the generator's published layer table (Prajwal et al. 2020): 96 px, 16 mels x 80
    MuseTalk-size     one step of an SD1.5-size U-Net and one KL-f8 decode at 256 px
    LatentSync-size   twenty such steps and one decode

Costs, not qualities: nothing is drawn. One thread, a batch of 8 (Wav2Lip) or 1, fp32 and bf16.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

LATENT_SYNC_STEPS = 20


def conv(channels_in: int, channels: int, kernel: int, stride: object, padding: int) -> nn.Module:
    """Convolution, normalisation, ReLU."""
    layer = nn.Conv2d(channels_in, channels, kernel, stride, padding)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU())


def upconv(channels_in: int, channels: int, stride: int) -> nn.Module:
    """Transposed convolution to twice the size (or from 1 to 3), normalisation, ReLU."""
    extra = stride - 1
    layer = nn.ConvTranspose2d(channels_in, channels, 3, stride, 1 if extra else 0, extra)
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU())


class Wav2LipSize(nn.Module):
    """A face encoder, a sound encoder and a decoder with skips, of Wav2Lip's widths."""

    def __init__(self) -> None:
        super().__init__()
        # face encoder: (width, stride, blocks behind), 96 px to 1 px
        table = [(16, 1, 0), (32, 2, 2), (64, 2, 3), (128, 2, 2), (256, 2, 2), (512, 2, 1)]
        faces, entering = [], 6
        for width, stride, blocks in table:
            kernel = 7 if stride == 1 else 3
            first = conv(entering, width, kernel, stride, kernel // 2)
            faces.append(
                nn.Sequential(first, *(conv(width, width, 3, 1, 1) for _ in range(blocks)))
            )
            entering = width
        faces.append(nn.Sequential(conv(512, 512, 3, 1, 0), conv(512, 512, 1, 1, 0)))
        self.faces = nn.ModuleList(faces)
        # sound encoder: (width, stride, padding, blocks behind)
        sound: list[nn.Module] = []
        entering = 1
        for width, strides, padding, blocks in [
            (32, 1, 1, 2),
            (64, (3, 1), 1, 2),
            (128, 3, 1, 2),
            (256, (3, 2), 1, 1),
            (512, 1, 0, 0),
        ]:
            sound.append(conv(entering, width, 3, strides, padding))
            sound += [conv(width, width, 3, 1, 1) for _ in range(blocks)]
            entering = width
        self.sound = nn.Sequential(*sound, conv(512, 512, 1, 1, 0))
        # decoder: (entering with its skip, leaving, stride, blocks behind)
        self.first = conv(512, 512, 1, 1, 0)
        self.up = nn.ModuleList(
            nn.Sequential(
                upconv(entering, width, stride),
                *(conv(width, width, 3, 1, 1) for _ in range(blocks)),
            )
            for entering, width, stride, blocks in [
                (1024, 512, 1, 1),
                (1024, 512, 2, 2),
                (768, 384, 2, 2),
                (512, 256, 2, 2),
                (320, 128, 2, 2),
                (160, 64, 2, 2),
            ]
        )
        self.out = nn.Sequential(conv(80, 32, 3, 1, 1), nn.Conv2d(32, 3, 1), nn.Sigmoid())

    def forward(self, mel: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
        """Mels `(B, 1, 80, 16)` and faces `(B, 6, 96, 96)` -> `(B, 3, 96, 96)`."""
        skips = []
        for block in self.faces:
            face = block(face)
            skips.append(face)
        hidden = self.first(self.sound(mel))
        hidden = torch.cat([hidden, skips.pop()], dim=1)
        for block in self.up:
            hidden = torch.cat([block(hidden), skips.pop()], dim=1)
        drawn: torch.Tensor = self.out(hidden)
        return drawn


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Best CPU time of one run, behind one that is not counted."""
    run()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return 1e3 * best


@torch.inference_mode()
def peer_costs(repeats: int = 2) -> dict[str, float]:
    """Core-milliseconds a frame by "peer dtype"."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    costs: dict[str, float] = {}
    placed = {"memory_format": torch.channels_last}
    generator = Wav2LipSize().eval()
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        nn.Module.to(generator, dtype=dtype, **placed)  # type: ignore[call-overload]
        inputs = torch.ones(8, 1, 80, 16, dtype=dtype), torch.ones(8, 6, 96, 96, dtype=dtype)
        costs[f"Wav2Lip-size {name}"] = milliseconds(lambda x=inputs: generator(*x), repeats) / 8  # type: ignore[misc]
    # diffusers' defaults are Stable Diffusion 1.5's widths
    unet = UNet2DConditionModel(sample_size=32, in_channels=8, cross_attention_dim=384).eval()
    decoder = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for network in (unet, decoder):
            nn.Module.to(network, dtype=dtype, **placed)  # type: ignore[call-overload]
        noisy, sound = torch.ones(1, 8, 32, 32, dtype=dtype), torch.ones(1, 50, 384, dtype=dtype)
        latents = torch.ones(1, 4, 32, 32, dtype=dtype)
        step = milliseconds(lambda x=noisy, s=sound: unet(x, 0, s), repeats)  # type: ignore[misc]
        decode = milliseconds(lambda x=latents: decoder.decode(x), repeats)  # type: ignore[misc]
        costs[f"MuseTalk-size {name}"] = step + decode
        costs[f"LatentSync-size {name}"] = LATENT_SYNC_STEPS * step + decode
    return costs


def main() -> None:
    """Print a row for each."""
    torch.set_num_threads(1)
    for name, cost in peer_costs().items():
        print(f"{name:>22} {cost:>10.1f} core-ms a frame")


if __name__ == "__main__":
    main()
