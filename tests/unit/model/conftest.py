"""What several tests use: the example portrait and voice, the pipeline's classes at small sizes, made-up arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from model.face.alignment import TEMPLATE
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import CONTENT, POSE
from model.media.audio import SAMPLE_RATE
from model.networks.detail import DetailNetwork
from model.networks.head_flow import HeadFlow
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.unet import TalkFormerUNet
from model.pipelines.talking_face import TalkingFacePipeline

ROOT = Path(__file__).resolve().parents[3]
BANK = ROOT / "model" / "weights" / "inner_mouths"
Image = NDArray[np.uint8]
Waveform = NDArray[np.float32]


def build() -> TalkingFacePipeline:
    """Every class that ships, at small sizes, with random weights that draw something."""
    torch.manual_seed(7)
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=128,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    channels = (32, 32, 64)
    unet = TalkFormerUNet(channels=channels, token_width=32)
    completer = LandmarkCompleter(width=32, layers=1, heads=2, window=8)
    detail = DetailNetwork(channels=(8, 8, 8), layers=1)
    with torch.no_grad():
        detail.conv_out.weight.normal_(std=0.02)
        for parameter in unet.parameters():
            if not parameter.any():  # zero-initialised: nothing would depend on the landmarks
                parameter.normal_(std=0.05)
        completer.lip_head.weight.normal_(std=0.02)
        autoencoder.decoder.conv_out.weight.mul_(3.0)
    encoder = ReferenceEncoder(channels=channels)
    head_flow = HeadFlow(width=16, layers=1, heads=2)
    with torch.no_grad():
        head_flow.head.weight.normal_(std=0.05)
        head_flow.push_scale.copy_(torch.tensor([0.06, 0.03, 0.005, 0.9, 1.5, 0.9, 0.01]))
    return TalkingFacePipeline(
        autoencoder, unet, encoder, completer, build_scheduler(), detail, head_flow
    )


@pytest.fixture(scope="session")
def build_tiny() -> Callable[[], TalkingFacePipeline]:
    return build


@pytest.fixture(scope="session")
def pipeline() -> TalkingFacePipeline:
    tiny = build()
    tiny.inner_mouths = InnerMouthBank.load(BANK)
    return tiny


@pytest.fixture(scope="session")
def portrait() -> Image:
    picture = cv2.imread(str(ROOT / "examples" / "portrait.jpg"))
    assert picture is not None
    return np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8)


@pytest.fixture(scope="session")
def speech() -> Waveform:
    sound, rate = soundfile.read(ROOT / "examples" / "speech.wav", dtype="float32")
    times = np.arange(int(0.9 * SAMPLE_RATE)) / SAMPLE_RATE + 0.3
    return np.interp(times, np.arange(len(sound)) / rate, sound).astype(np.float32)


def make_face(gap: float) -> NDArray[np.float32]:
    """An upright face in crop units whose inner lips are `gap` apart."""
    face = np.zeros((68, 2), np.float32)
    angles = np.linspace(np.pi, 0, 17)
    face[:17] = np.stack([0.5 + 0.3 * np.cos(angles), 0.32 + 0.48 * np.sin(angles)], 1)
    face[17:27] = np.stack([np.linspace(0.25, 0.75, 10), np.full(10, 0.22)], 1)
    face[[36, 39, 42, 45, 27, 28, 29, 30]] = TEMPLATE
    face[[37, 38, 40, 41]], face[[43, 44, 46, 47]] = (0.37, 0.30), (0.63, 0.30)
    face[31:36] = np.stack([np.linspace(0.42, 0.58, 5), np.full(5, 0.49)], 1)
    x = np.linspace(0.37, 0.63, 7)
    face[48:55] = np.stack([x, [0.60, *[0.58] * 5, 0.60]], 1)
    face[[59, 58, 57, 56, 55]] = np.stack([x[1:6], np.full(5, 0.63 + gap)], 1)
    face[60:65] = np.stack([np.linspace(0.39, 0.61, 5), np.full(5, 0.60)], 1)
    face[[67, 66, 65]] = np.stack([np.linspace(0.445, 0.555, 3), np.full(3, 0.60 + gap)], 1)
    return face


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays as the preparation writes them, made up: 80 clips of one mouth, 12 voices."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    clips, frames, utterance = 80, 75, 400
    gaps = 0.06 * np.abs(np.sin(np.linspace(0, 20, clips * frames)))
    faces = np.stack([make_face(gap) for gap in gaps]).astype(np.float32)
    faces = faces.reshape(clips, frames, 68, 2)
    shut = make_face(0.0)
    np.savez(
        folder / "grid.npz",
        names=np.array([f"clip{i}.mkv" for i in range(clips)]),
        landmarks=400.0 * faces,  # pixels
        log_mel=rng.normal(0, 1, (clips, 4 * frames, 80)).astype(np.float16),
        phones=rng.integers(0, 40, (clips, 4 * frames)).astype(np.uint8),
    )
    voices = 12
    np.savez(
        folder / "speech.npz",
        names=np.array([f"{i}-1-0000.opus" for i in range(voices)]),
        lengths=np.full(voices, utterance),
        log_mel=rng.normal(0, 1, (voices * utterance, 80)).astype(np.float16),
        phones=rng.integers(0, 40, voices * utterance).astype(np.uint8),
    )
    np.savez(
        folder / "motion.npz",
        grid_landmarks=faces,
        grid_pose=faces[:, 0, list(POSE)],
        grid_content=faces[:, :, list(CONTENT)],
        grid_closed=np.repeat(shut[None, list(CONTENT)], clips, axis=0),
        grid_gain=np.ones(clips, np.float32),
        neutral=shut,
        speech_offsets=np.zeros((voices * utterance // 4, 31, 2), np.float32),
        speech_valid=np.ones(voices * utterance // 4, np.bool_),
        portraits=np.stack([make_face(gap) for gap in (0.0, 0.02, 0.05)]),
        portraits_held_out=np.array([False, False, True]),
        noise=rng.normal(0, 1, (4, 300, 80)).astype(np.float16),
    )
    return folder
