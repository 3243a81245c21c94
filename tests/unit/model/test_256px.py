"""The larger variants' ways at small widths: 256 px crops, eight pixels to a cell, four scales."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray

from model.checkpoints import SHIPPED
from model.errors import ConfigError
from model.networks.attention import attention_backend, use_backend
from model.networks.autoencoder import pixels_per_cell
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.unet import build_unet
from model.pipelines.options import RenderOptions
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline
from model.training.builders.export import LIMIT_MB, pack
from model.training.stage import Draw
from model.training.stage2_diffusion import DiffusionConfig, build

CHANNELS = (32, 64, 64, 64)
SMALL: dict[str, dict[str, Any]] = {
    "base": {"channels": CHANNELS, "token_width": 32},
    "large": {"channels": CHANNELS, "token_width": 32, "heads": 4, "groups": 8},
}
Image = NDArray[np.uint8]


def make_autoencoder() -> AutoencoderKL:
    torch.manual_seed(3)
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=256,
    )
    with torch.no_grad():
        autoencoder.decoder.conv_out.weight.mul_(3.0)
    return autoencoder


def make_pipeline(variant: str) -> TalkingFacePipeline:
    autoencoder = make_autoencoder()
    unet = build_unet(variant, **SMALL[variant])
    with torch.no_grad():
        for parameter in unet.parameters():
            if not parameter.any():  # zero-initialised: nothing would depend on the landmarks
                parameter.normal_(std=0.05)
    encoder = ReferenceEncoder(CHANNELS, pixels_per_cell(autoencoder))
    completer = LandmarkCompleter(width=32, layers=1, heads=2, window=8)
    with torch.no_grad():
        completer.lip_head.weight.normal_(std=0.02)
    return TalkingFacePipeline(autoencoder, unet, encoder, completer, build_scheduler())


# --- drawing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", SMALL)
def test_frames_change_in_the_lower_face_only(
    variant: str, portrait: Image, speech: NDArray[np.float32]
) -> None:
    pipeline = make_pipeline(variant)
    plan = pipeline.prepare(portrait, speech, RenderOptions(preset="fast", num_inference_steps=1))
    frames = np.concatenate(list(pipeline.render(plan, 0, 2)))
    assert frames.shape == (2, *portrait.shape)
    outside = pipeline.soft_mask(plan) == 0
    assert 0.5 < outside.mean() < 1
    np.testing.assert_array_equal(frames[:, outside], portrait[None].repeat(2, 0)[:, outside])
    drawn = np.abs(frames.astype(int) - portrait)[:, ~outside]
    assert drawn.mean() > 1


@pytest.mark.long
def test_a_checkpoint_larger_than_what_ships_can_be_packed_elsewhere(
    tmp_path: Path, portrait: Image, speech: NDArray[np.float32]
) -> None:
    pipeline = make_pipeline("large")
    parts = {}
    for name in ("autoencoder", "unet", "reference_encoder", "landmark_completer"):
        parts[name] = tmp_path / name
        getattr(pipeline, name).save_pretrained(parts[name])
    wide = LandmarkCompleter(width=768)  # the part that is cheap to make heavy
    wide.save_pretrained(parts["landmark_completer"])
    output = tmp_path / "checkpoint"
    size_mb = pack(parts, SHIPPED / "inner_mouths", output, model_name="large", version="9")
    assert size_mb > LIMIT_MB
    loaded = load_pipeline(output, device="cpu")
    assert loaded.unet.config.stable_diffusion_layout
    plan = loaded.prepare(portrait, speech, RenderOptions(preset="fast", num_inference_steps=1))
    assert next(iter(loaded.render(plan, 0, 1))).shape[-3:] == portrait.shape


# --- training --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def backend_stays() -> Iterator[None]:
    """Stages and `load_pipeline` choose one for the whole process."""
    with use_backend(attention_backend()):
        yield


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stable_diffusion")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=CHANNELS, attention_head_dim=4, norm_num_groups=8, cross_attention_dim=8
    )
    unet.save_pretrained(folder / "unet")
    make_autoencoder().save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pairs.npz` of 8 pictures of 256 px: clips and photographs, for training and held out."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    count = 8
    latents = {
        name: rng.normal(0, 1, (count, 4, 32, 32)).astype(np.float16)
        for name in ("latents", "masked_latents", "warped_latents")
    }
    np.savez(
        folder / "pairs.npz",
        images=rng.integers(0, 256, (count, 256, 256, 3), np.uint8),
        landmarks=rng.uniform(0.3, 0.7, (count, 68, 2)).astype(np.float32),
        masks=np.arange(32)[None, :, None].repeat(count, 0).repeat(32, 2) > 15,
        target=np.arange(count),
        reference=np.roll(np.arange(count), 1),
        kind=np.arange(count) % 2,
        held_out=np.arange(count) // 4,
    )
    np.savez(folder / "latents.npz", **latents)
    return folder


@pytest.mark.long
def test_stage_2_begins_from_stable_diffusion(
    stable_diffusion: Path, pairs: Path, tmp_path: Path
) -> None:
    config = DiffusionConfig(
        output=tmp_path, prepared=pairs, variant="large", crop="face", stable_diffusion=stable_diffusion,
        batch_size=2, sample_steps=1, mixed_precision="no",
    )  # fmt: skip
    torch.manual_seed(0)
    stage = build(config, "cpu")
    unet = stage.modules["unet"]
    begun = UNet2DConditionModel.from_pretrained(stable_diffusion / "unet", low_cpu_mem_usage=False)
    torch.testing.assert_close(
        unet.down_res[0].conv_1.weight, begun.down_blocks[0].resnets[0].conv1.weight
    )
    optimizer = torch.optim.AdamW([p for m in stage.modules.values() for p in m.parameters()], 1e-3)
    for step in range(2):
        optimizer.zero_grad()
        loss, _ = stage.loss(stage.draw(Draw.at(0, step)), step)
        loss.backward()
        optimizer.step()
    assert bool(loss.isfinite())
    for name, module in stage.modules.items():
        silent = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
        assert silent == [], name

    assert stage.finish is not None
    with torch.no_grad():
        figures = stage.sample(tmp_path, 1)
    assert all(np.isfinite(value) for value in figures.values())
    stage.finish(tmp_path / "export")
    exported = AutoencoderKL.from_pretrained(
        tmp_path / "export" / "autoencoder", low_cpu_mem_usage=False
    )
    assert exported.config.sample_size == 256


@pytest.mark.parametrize("variant", ["tiny", "base"])
def test_another_variant_cannot_begin_from_stable_diffusion(
    variant: Any, stable_diffusion: Path, pairs: Path
) -> None:
    config = DiffusionConfig(prepared=pairs, variant=variant, stable_diffusion=stable_diffusion)
    with pytest.raises(ConfigError, match=r"stable_diffusion: variant is .* expected 'large'"):
        build(config, "cpu")
