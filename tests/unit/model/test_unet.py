"""The denoiser: shapes, caches, switches and precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import ShapeError
from model.face.alignment import lower_face_mask
from model.networks.attention import use_backend
from model.networks.autoencoder import build_autoencoder, pixels_per_cell
from model.networks.latent_window import Window
from model.networks.reference_encoder import build_reference_encoder
from model.networks.schedule import build_scheduler
from model.networks.unet import TalkFormerUNet, build_unet
from model.networks.variants import VARIANTS
from tests.unit.model.small_unets import (
    CHANNELS,
    FOUR_SCALES,
    LATENTS,
    SMALL,
    VARIANTS_SMALL,
    face,
    make_condition,
    make_features,
    make_latents,
    make_unet,
    noise,
    predict,
)

Change = dict[str, Callable[[], Any]]  # makes other inputs
each_variant = pytest.mark.parametrize("variant", VARIANTS_SMALL)


@pytest.fixture(scope="module")
def unet() -> TalkFormerUNet:
    return make_unet()


# --- shapes ---------------------------------------------------------------------------------------


def test_window_crops_pastes_and_shrinks() -> None:
    window = Window(4, 8, 12, 8)
    whole = torch.arange(32.0 * 32).view(1, 1, 32, 32)
    part = window.crop(whole)
    assert part.shape == (1, 1, 12, 8)
    assert part[0, 0, 0, 0] == whole[0, 0, 4, 8]
    pasted = window.paste(part + 1, whole)
    torch.testing.assert_close(window.crop(pasted), part + 1)
    assert int((pasted != whole).sum()) == 12 * 8
    assert window.shrink(4) == Window(1, 2, 3, 2)


def test_predicts_its_window(unet: TalkFormerUNet) -> None:
    predicted = predict(unet, 3)
    assert predicted.shape == (3, 4, 12, 8)
    assert bool(predicted.isfinite().all())
    assert float(predicted.std()) > 0.01


def test_the_shipped_variant_denoises_20_by_24_of_32_by_32() -> None:
    torch.manual_seed(0)
    unet = build_unet("tiny").eval()
    assert unet.window == Window(12, 4, 20, 24)
    points = face(1)
    with torch.no_grad():
        features = build_reference_encoder("tiny")(torch.zeros(1, 3, 128, 128))
        latents = torch.zeros(1, 4, 32, 32)
        condition = unet.prepare_condition(
            target_landmarks=points,
            reference_landmarks=points,
            masked_latents=latents,
            mask=latents[:, :1],
            reference_latents=latents,
            warped_latents=None,
            reference=unet.prepare_reference(features, points),
        )
        assert condition.spatial.shape == (1, 29, 20, 24)
        assert unet(torch.zeros(1, 4, 20, 24), 999, condition).shape == (1, 4, 20, 24)


@pytest.mark.parametrize(
    "window", [(8, 4, 12, 8), (4, 12, 12, 8), (-4, 4, 12, 8), (4, 4, 10, 8), (4, 4, 0, 8)]
)
def test_a_window_outside_the_grid_or_between_cells_is_refused(window: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="window"):
        TalkFormerUNet(**{**SMALL, "window": window})


def test_with_four_scales_a_window_is_made_of_blocks_of_8_cells() -> None:
    with pytest.raises(ShapeError, match="multiples of 8 cells"):
        TalkFormerUNet(**{**FOUR_SCALES, "window": (4, 0, 8, 16)})


@pytest.mark.parametrize("talk_scales", [0, 4])
def test_talkformers_at_no_scale_or_too_many_are_refused(talk_scales: int) -> None:
    with pytest.raises(ShapeError, match=f"talk_scales is {talk_scales}; expected 1 to 3"):
        TalkFormerUNet(**{**SMALL, "talk_scales": talk_scales})


def test_latents_of_the_whole_grid_are_refused(unet: TalkFormerUNet) -> None:
    with pytest.raises(ShapeError, match=r"expected the window's \(2, 4, 12, 8\)"):
        unet(noise(2, 4, LATENTS, LATENTS), 500, make_condition(unet))


def test_another_number_of_frames_than_the_conditions_is_refused(unet: TalkFormerUNet) -> None:
    with pytest.raises(ShapeError, match="latents are"):
        unet(make_latents(3), 500, make_condition(unet, 2))


def test_a_condition_of_the_window_only_is_refused(unet: TalkFormerUNet) -> None:
    with pytest.raises(ShapeError, match="expected 16 x 16"):
        make_condition(unet, masked_latents=noise(1, 4, 12, 8))


def test_features_of_another_crop_size_are_refused(unet: TalkFormerUNet) -> None:
    with pytest.raises(ShapeError, match="reference features"):
        make_condition(unet, features=[x[..., ::2, ::2] for x in make_features()])


def test_heads_are_32_wide() -> None:
    for channels in (CHANNELS, VARIANTS["tiny"].channels):
        unet = make_unet(channels=channels)
        for scale, block in unet.talk_blocks:
            assert block.heads * 32 == channels[scale]


def test_every_scale_and_the_middle_have_a_talkformer(unet: TalkFormerUNet) -> None:
    assert [scale for scale, _ in unet.talk_blocks] == [0, 1, 2, 2, 0, 1, 2]
    assert [block.self_norm is not None for _, block in unet.talk_blocks[:3]] == [False, True, True]


# --- variants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_networks_of_a_variant_fit_together(variant: str) -> None:
    with torch.device("meta"):
        unet, encoder = build_unet(variant), build_reference_encoder(variant)
        autoencoder = build_autoencoder(variant)
        side, cells = int(autoencoder.config.sample_size), int(unet.config.latent_size)
        features = encoder(torch.zeros(1, 3, side, side))
        latents = autoencoder.encode(torch.zeros(1, 3, side, side)).latent_dist.mode()
    assert latents.shape == (1, 4, cells, cells)
    assert side == cells * encoder.config.patch == cells * pixels_per_cell(autoencoder)
    sizes = [(width, cells >> scale) for scale, width in enumerate(unet.config.channels)]
    assert [(x.shape[1], x.shape[2]) for x in features] == sizes


@pytest.mark.parametrize("variant", VARIANTS)
def test_talkformers_stand_at_32_16_8_and_in_the_middle(variant: str) -> None:
    with torch.device("meta"):
        unet = build_unet(variant)
    middle = len(unet.down_talk)
    blocks = unet.talk_blocks
    assert blocks[middle][0] == len(unet.config.channels) - 1
    for way in (blocks[:middle], blocks[middle + 1 :]):
        assert sorted({32 >> scale for scale, _ in way}) == [8, 16, 32]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_window_of_a_variant_holds_the_mask_and_known_rows_above(variant: str) -> None:
    with torch.device("meta"):
        window = build_unet(variant).window
    mask = torch.from_numpy(lower_face_mask(face()[0].numpy(), 32))
    inside = torch.zeros(32, 32, dtype=torch.bool)
    window.crop(inside)[:] = True
    assert not (mask & ~inside).any()
    assert int(mask.any(dim=1).nonzero()[0]) - window.top >= 4


@each_variant
def test_each_layout_predicts_its_window_from_every_input(variant: str) -> None:
    unet = make_unet(**VARIANTS_SMALL[variant])
    predicted = predict(unet, 3)
    assert predicted.shape == (3, 4, *unet.config.window[2:])
    inputs: Change = {
        "target_landmarks": lambda: face(3, seed=30),
        "features": lambda: make_features(seed=30, channels=unet.config.channels),
        "masked_latents": lambda: noise(1, 4, LATENTS, LATENTS, seed=30),
        "reference_latents": lambda: noise(1, 4, LATENTS, LATENTS, seed=30),
        "warped_latents": lambda: noise(3, 4, LATENTS, LATENTS, seed=30),
    }
    for name, make in inputs.items():
        other = predict(unet, 3, **{name: make()})
        assert float((other - predicted).abs().max()) > 1e-3, name


@each_variant
def test_each_layout_is_saved_and_loaded(variant: str, tmp_path: Path) -> None:
    unet = make_unet(**VARIANTS_SMALL[variant])
    unet.save_pretrained(tmp_path)
    torch.testing.assert_close(
        predict(load(tmp_path, torch.float32)), predict(unet), atol=0, rtol=0
    )


# --- same result, less work ------------------------------------------------------------------------


def test_batch_equals_single(unet: TalkFormerUNet) -> None:
    together = predict(unet, 3)
    frame = slice(1, 2)
    alone = unet(
        make_latents(3)[frame],
        500,
        make_condition(
            unet,
            1,
            target_landmarks=face(3, seed=2)[frame],
            warped_latents=noise(3, 4, LATENTS, LATENTS, seed=5)[frame],
        ),
    )
    torch.testing.assert_close(together[frame], alone, atol=1e-4, rtol=1e-4)


def test_a_reference_cached_once_equals_one_per_frame(unet: TalkFormerUNet) -> None:
    once = predict(unet, 3)
    reference = face(1, seed=1).repeat(3, 1, 1)
    per_frame = predict(
        unet,
        3,
        features=[x.repeat(3, 1, 1, 1) for x in make_features()],
        reference_landmarks=reference,
        masked_latents=noise(1, 4, LATENTS, LATENTS, seed=3).repeat(3, 1, 1, 1),
    )
    torch.testing.assert_close(once, per_frame, atol=1e-4, rtol=1e-4)


def test_a_condition_serves_every_step(unet: TalkFormerUNet) -> None:
    condition = make_condition(unet)
    with torch.no_grad():
        unet(make_latents(), 900, condition)
        again = unet(make_latents(), 500, condition)
    torch.testing.assert_close(again, predict(unet), atol=0, rtol=0)


def test_timestep_may_be_one_or_one_per_frame(unet: TalkFormerUNet) -> None:
    condition = make_condition(unet)
    with torch.no_grad():
        each = unet(make_latents(), torch.tensor([500, 20]), condition)
        torch.testing.assert_close(each[:1], predict(unet)[:1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(each[1:], predict(unet)[1:], atol=1e-3)


def test_backends_agree(unet: TalkFormerUNet) -> None:
    with use_backend("eager"):
        eager = predict(unet)
    with use_backend("sdpa"):
        torch.testing.assert_close(predict(unet), eager, atol=1e-4, rtol=1e-4)


def test_left_out_warped_latents_are_zeros(unet: TalkFormerUNet) -> None:
    zeros = torch.zeros(2, 4, LATENTS, LATENTS)
    torch.testing.assert_close(
        predict(unet, warped_latents=None), predict(unet, warped_latents=zeros), atol=0, rtol=0
    )
    assert not torch.allclose(predict(unet), predict(unet, warped_latents=None), atol=1e-3)


def test_constant_landmarks_and_shared_noise_give_constant_frames(unet: TalkFormerUNet) -> None:
    frames = 4
    condition = make_condition(
        unet,
        frames,
        target_landmarks=face(1, seed=2).expand(frames, -1, -1),
        warped_latents=noise(1, 4, LATENTS, LATENTS, seed=5).expand(frames, -1, -1, -1),
    )
    scheduler = build_scheduler()
    scheduler.set_timesteps(3)
    latents = make_latents(1).repeat(frames, 1, 1, 1)
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            predicted = unet(latents, timestep, condition)
            latents = scheduler.step(predicted, timestep, latents).prev_sample
    torch.testing.assert_close(latents, latents[:1].expand(frames, -1, -1, -1), atol=1e-4, rtol=0)


# --- switches --------------------------------------------------------------------------------------

OTHER_TARGET: Change = {"target_landmarks": lambda: face(2, seed=30)}
OTHER_FEATURES: Change = {"features": lambda: make_features(seed=30)}
OTHER_REFERENCE: Change = {"reference_latents": lambda: noise(1, 4, LATENTS, LATENTS, seed=30)}
OTHER_WARP: Change = {"warped_latents": lambda: noise(2, 4, LATENTS, LATENTS, seed=30)}


@pytest.mark.parametrize(
    ("options", "change", "acts"),
    [
        ({}, OTHER_TARGET, True),
        ({"m_align": False}, OTHER_TARGET, True),  # through the maps
        ({"maps": False}, OTHER_TARGET, True),  # through M-Align
        ({"m_align": False, "maps": False}, OTHER_TARGET, False),
        ({}, OTHER_FEATURES, True),
        ({"m_align": False}, OTHER_FEATURES, True),
        ({"r_align": False}, OTHER_FEATURES, False),
        ({"warped_latents": False}, OTHER_REFERENCE, True),
        ({"reference_latents": False}, OTHER_REFERENCE, False),
        ({"reference_latents": False}, OTHER_WARP, True),
        ({"warped_latents": False}, OTHER_WARP, False),
    ],
)
def test_a_switch_removes_an_input(options: dict[str, bool], change: Change, acts: bool) -> None:
    unet = make_unet(**options)
    changed = {name: make() for name, make in change.items()}
    difference = float((predict(unet) - predict(unet, **changed)).abs().max())
    assert difference > 1e-3 if acts else difference == 0


def test_switches_remove_parameters() -> None:
    def parts(**options: bool) -> set[str]:
        named = make_unet(trained=False, **options).named_parameters()
        return {
            name.split("_talk.")[-1].split(".", 1)[-1][:2] for name, _ in named if "talk" in name
        }

    assert {"m_", "r_", "ex"} <= parts()
    assert not {"r_", "ex"} & parts(r_align=False)
    assert not {"m_", "r_", "ex"} & parts(m_align=False, r_align=False)
    # maps are inputs: without them the shapes stay, so that weights can be carried over
    full, blind = make_unet(), make_unet(maps=False)
    assert [p.shape for p in full.parameters()] == [p.shape for p in blind.parameters()]
    assert not make_condition(blind).spatial[:, 5:13].any()
    assert bool(make_condition(full).spatial[:, 5:13].any())


# --- files and precision ---------------------------------------------------------------------------


def load(folder: Path, dtype: torch.dtype) -> TalkFormerUNet:
    loaded = TalkFormerUNet.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=False)
    assert isinstance(loaded, TalkFormerUNet)
    assert loaded.conv_in.weight.dtype == dtype
    return loaded


def test_save_and_load(tmp_path: Path) -> None:
    unet = make_unet(r_align=False, maps=False)
    unet.save_pretrained(tmp_path)
    loaded = load(tmp_path, torch.float32)
    assert loaded.window == unet.window
    assert not loaded.config["r_align"]
    assert not loaded.config["maps"]
    torch.testing.assert_close(predict(loaded), predict(unet), atol=0, rtol=0)


def test_save_and_load_in_half_precision(unet: TalkFormerUNet, tmp_path: Path) -> None:
    make_unet().half().save_pretrained(tmp_path)
    half = load(tmp_path, torch.float16)
    assert predict(half).dtype == torch.float16
    torch.testing.assert_close(predict(half), predict(make_unet().half()), atol=0, rtol=0)
    torch.testing.assert_close(
        predict(load(tmp_path, torch.float32)), predict(unet), atol=0.02, rtol=0.02
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.15), (torch.float16, 0.02)])
def test_half_precision_stays_near_full(
    unet: TalkFormerUNet, dtype: torch.dtype, tolerance: float
) -> None:
    predicted, wanted = predict(make_unet().to(dtype)), predict(unet)
    assert predicted.dtype == dtype
    error = (predicted.float() - wanted).std() / wanted.std()
    assert float(error) < tolerance
