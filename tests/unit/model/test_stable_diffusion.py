"""Stable Diffusion 1.5's weights in our layout: the same function, and clear refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from model.errors import CheckpointError
from model.networks.stable_diffusion import StableDiffusion, load_stable_diffusion
from model.networks.unet import TalkFormerUNet, build_unet
from tests.unit.model.small_unets import LATENTS, make_condition, noise

WEIGHTS = "diffusion_pytorch_model.safetensors"
OPTIONS: dict[str, Any] = {
    "latent_size": LATENTS,
    "window": (0, 0, LATENTS, LATENTS),  # Stable Diffusion denoises the whole grid
    "token_width": 32,
}


def make_theirs(**changed: Any) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's U-Net at small widths, every weight in it of some size."""
    torch.manual_seed(0)
    options = {
        "block_out_channels": (32, 64, 96, 96), "attention_head_dim": 4, "norm_num_groups": 16,
        "cross_attention_dim": 24, "sample_size": LATENTS,
    }  # fmt: skip
    unet = UNet2DConditionModel(**{**options, **changed})
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
            if "attn2.to_out" in name:  # silent: we have no text
                parameter.zero_()
    return unet.eval()


def make_folder(folder: Path, unet: UNet2DConditionModel, **options: Any) -> Path:
    torch.manual_seed(1)
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        sample_size=512,
    )
    unet.save_pretrained(folder / "unet", **options)
    autoencoder.save_pretrained(folder / "vae", **options)
    return folder


@pytest.fixture(scope="module")
def theirs() -> UNet2DConditionModel:
    return make_theirs()


@pytest.fixture(scope="module")
def folder(theirs: UNet2DConditionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("stable_diffusion"), theirs)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> StableDiffusion:
    torch.manual_seed(2)
    return load_stable_diffusion(folder, **OPTIONS)


TIMES = torch.tensor([870, 3])
NOISY = noise(2, 4, LATENTS, LATENTS, seed=5)


@torch.no_grad()
def ask_theirs(unet: UNet2DConditionModel, inputs: torch.Tensor = NOISY) -> torch.Tensor:
    answer: torch.Tensor = unet(inputs, TIMES, noise(2, 7, 24, seed=6)).sample
    return answer


@torch.no_grad()
def ask_ours(unet: TalkFormerUNet) -> torch.Tensor:
    answer: torch.Tensor = unet(NOISY, TIMES, make_condition(unet))
    return answer


# --- the same function -----------------------------------------------------------------------------


def test_computes_what_stable_diffusion_does_without_text(
    loaded: StableDiffusion, theirs: UNet2DConditionModel
) -> None:
    wanted = ask_theirs(theirs)
    assert float(wanted.std()) > 0.1
    torch.testing.assert_close(ask_ours(loaded.unet), wanted, atol=2e-4, rtol=2e-4)


def test_linear_projections_fit_too(tmp_path: Path) -> None:
    theirs = make_theirs(use_linear_projection=True)
    ours = load_stable_diffusion(make_folder(tmp_path, theirs), **OPTIONS).unet
    torch.testing.assert_close(ask_ours(ours), ask_theirs(theirs), atol=2e-4, rtol=2e-4)


def test_the_inpainting_network_sees_mask_and_masked_latents(tmp_path: Path) -> None:
    theirs = make_theirs(in_channels=9)
    ours = load_stable_diffusion(make_folder(tmp_path, theirs), **OPTIONS).unet
    masked, mask = (
        noise(2, 4, LATENTS, LATENTS, seed=21),
        (noise(2, 1, LATENTS, LATENTS) > 0).float(),
    )
    wanted = ask_theirs(theirs, torch.cat([NOISY, mask, masked], dim=1))
    with torch.no_grad():
        condition = make_condition(ours, masked_latents=masked, mask=mask)
        answer = ours(NOISY, TIMES, condition)
    torch.testing.assert_close(answer, wanted, atol=2e-4, rtol=2e-4)


def test_weights_in_half_precision_are_read_as_fp32(
    theirs: UNet2DConditionModel, loaded: StableDiffusion, tmp_path: Path
) -> None:
    half = make_theirs().half()
    make_folder(tmp_path, half, variant="fp16")
    assert not (tmp_path / "unet" / WEIGHTS).exists()
    again = load_stable_diffusion(tmp_path, **OPTIONS)
    assert {p.dtype for p in again.unet.parameters()} == {torch.float32}
    assert {p.dtype for p in again.autoencoder.parameters()} == {torch.float32}
    torch.testing.assert_close(ask_ours(again.unet), ask_ours(loaded.unet), atol=0.02, rtol=0.02)


def test_new_parts_learn_after_one_step(folder: Path) -> None:
    torch.manual_seed(2)
    unet = load_stable_diffusion(folder, **OPTIONS).unet.train()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        (unet(NOISY, TIMES, make_condition(unet)) - NOISY).square().mean().backward()
        optimizer.step()
    silent = [n for n, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


# --- what came from where --------------------------------------------------------------------------


def test_only_conditioning_is_new_and_only_text_is_left_out(loaded: StableDiffusion) -> None:
    state = set(loaded.unet.state_dict())
    assert set(loaded.loaded) | set(loaded.new) == state
    assert not set(loaded.loaded) & set(loaded.new)
    conditioning = (".m_", ".r_", ".reference_norm", ".extra_", ".position", "landmark_encoder")
    assert [x for x in loaded.new if not any(part in x for part in conditioning)] == []
    assert loaded.unused
    assert [x for x in loaded.unused if ".attn2." not in x and ".norm2." not in x] == []
    report = loaded.report()
    assert f"loaded: {len(loaded.loaded)} tensors" in report
    assert "m_query" in report


def test_every_weight_of_stable_diffusion_1_5_has_its_place_in_large(
    loaded: StableDiffusion,
) -> None:
    with torch.device("meta"):  # 860 M parameters, none of them in memory
        theirs = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        large = build_unet("large")
    assert set(large.state_dict()) == set(loaded.unet.state_dict())
    state = large.state_dict()
    ours = sum(state[name].numel() for name in loaded.loaded)
    unheard = (large.in_channels - 4) * 9 * 320
    text = set(loaded.unused)
    wanted = sum(x.numel() for name, x in theirs.state_dict().items() if name not in text)
    assert ours - unheard == wanted
    assert wanted > 700e6


def test_the_autoencoder_is_theirs_for_256_px_crops(folder: Path, loaded: StableDiffusion) -> None:
    assert loaded.autoencoder.config.sample_size == 8 * LATENTS
    assert loaded.autoencoder.config.scaling_factor == pytest.approx(0.18215)
    wanted = load_file(folder / "vae" / WEIGHTS)
    state = loaded.autoencoder.state_dict()
    assert wanted.keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in wanted.items())


def test_switches_and_window_may_be_changed(folder: Path) -> None:
    unet = load_stable_diffusion(
        folder, **{**OPTIONS, "r_align": False, "window": (8, 0, 8, 16)}
    ).unet
    assert not [name for name in unet.state_dict() if ".r_" in name]
    assert unet.window.height == 8


def test_what_was_loaded_is_saved_and_loaded_as_ours(
    loaded: StableDiffusion, tmp_path: Path
) -> None:
    loaded.unet.save_pretrained(tmp_path)
    again = TalkFormerUNet.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    torch.testing.assert_close(ask_ours(again), ask_ours(loaded.unet), atol=0, rtol=0)


# --- refusals --------------------------------------------------------------------------------------


def set_config(part: str, **changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return change


def drop_tensor(part: str, name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / part / WEIGHTS)
        del tensors[name]
        save_file(tensors, folder / part / WEIGHTS, metadata={"format": "pt"})

    return change


def truncate(part: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / part / WEIGHTS
        path.write_bytes(path.read_bytes()[:-100])

    return change


XL = {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "unet"), "expected a Stable Diffusion 1.5 folder"),
        (lambda folder: shutil.rmtree(folder / "vae"), r"vae.config\.json cannot be read"),
        (lambda folder: (folder / "unet/config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "unet/config.json").write_text("[]"), "expected a JSON object"),
        (
            lambda folder: (folder / "unet/config.json").write_text("{}"),
            "has no block_out_channels",
        ),
        (lambda folder: (folder / "unet" / WEIGHTS).unlink(), "Pickled weights"),
        (lambda folder: (folder / "vae" / WEIGHTS).unlink(), "has no weights"),
        (set_config("unet", _class_name="FluxTransformer2DModel"), "_class_name 'Flux"),
        (set_config("unet", addition_embed_type="text_time"), "addition_embed_type 'text_time'"),
        (set_config("unet", **XL), "down_block_types"),
        (
            set_config("unet", attention_head_dim=[5, 10, 20, 20]),
            "attention_head_dim .* one number",
        ),
        (set_config("unet", in_channels=8), "in_channels 8 .not 4 or 9."),
        (set_config("unet", block_out_channels=[32, 32, 96, 96]), "is of another network"),
        (set_config("vae", _class_name="AutoencoderTiny"), "expected AutoencoderKL"),
        (set_config("vae", latent_channels=16), "16 latent channels"),
        (drop_tensor("unet", "mid_block.resnets.1.conv2.weight"), "has no mid_block.resnets.1"),
        (drop_tensor("vae", "decoder.conv_out.weight"), "has no decoder.conv_out.weight"),
        (truncate("unet"), "cannot be read"),
        (truncate("vae"), "could not be loaded"),
    ],
)
def test_another_folder_is_refused(
    change: Callable[[Path], None], message: str, folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    change(copy)
    with pytest.raises(CheckpointError, match=message):
        load_stable_diffusion(copy, **OPTIONS)
