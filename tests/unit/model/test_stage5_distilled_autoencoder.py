"""Distilling the autoencoder: it comes to give the teacher's latents, and is read back as what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from model.errors import ConfigError
from model.face.average_face import AVERAGE_FACE
from model.networks.autoencoder import (
    build_autoencoder,
    build_distilled_autoencoder,
    decode_latents,
    encode_pictures,
    load_autoencoder,
    pixels_per_cell,
)
from model.networks.pixels import to_tensor
from model.training.launch import launch
from model.training.stage5_distilled_autoencoder import DistillationConfig, Pictures, build

SIDE = 96


def pairs(folder: Path, held_out: tuple[bool, ...] = (False, False, True)) -> Path:
    """Smooth pictures of three subjects, the last one unseen, and each carried to the next."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2 * len(held_out), 3, 6, 6, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic").clamp(0, 255)
    pictures = smooth.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    images, warped = pictures[: len(held_out)], pictures[len(held_out) :]
    rows = np.arange(len(held_out), dtype=np.int32)
    np.savez(
        folder / "pairs.npz",
        images=images,
        warped=warped,
        landmarks=np.repeat(AVERAGE_FACE[None], len(rows), axis=0),
        target=rows,
        held_out=np.array(held_out, np.int32),
        kind=np.zeros(len(rows), np.int32),
    )
    return folder


def teacher(folder: Path) -> Path:
    torch.manual_seed(1)
    build_autoencoder().save_pretrained(folder / "teacher")
    return folder / "teacher"


def settings(folder: Path, **changed: object) -> DistillationConfig:
    values = {
        "prepared": folder,
        "output": folder / "run",
        "teacher": folder / "teacher",
        "max_steps": 12,
        "batch_size": 2,
        "learning_rate": 2e-3,
        "warmup_steps": 2,
        "window": 8,
        "ema_decay": 0.8,
        "num_threads": 1,
        "log_every": 5,
        "save_every": 12,
        "sample_every": 12,
        **changed,
    }
    return DistillationConfig(**values)  # type: ignore[arg-type]


def test_it_learns_the_teachers_latents(tmp_path: Path) -> None:
    teacher(pairs(tmp_path))
    assert launch(build, settings(tmp_path))
    trained = load_autoencoder(tmp_path / "run" / "export" / "autoencoder").eval()
    assert isinstance(trained, AutoencoderTiny)
    torch.manual_seed(0)
    untrained = build_distilled_autoencoder().eval()
    known = load_autoencoder(tmp_path / "teacher").eval()
    unseen = to_tensor(np.load(tmp_path / "pairs.npz")["images"][2:])
    with torch.no_grad():
        wanted = encode_pictures(known, unseen)
        error, before = (
            (encode_pictures(network, unseen) - wanted).square().mean()
            for network in (trained, untrained)
        )
    assert error < 0.8 * before
    assert (tmp_path / "run" / "samples" / "000012.png").is_file()


def test_both_kinds_have_the_same_sizes(tmp_path: Path) -> None:
    quick = build_distilled_autoencoder().eval()
    assert pixels_per_cell(quick) == pixels_per_cell(build_autoencoder()) == 4
    with torch.no_grad():
        latents = encode_pictures(quick, torch.zeros(2, 3, SIDE, SIDE))
        assert latents.shape == (2, 4, 24, 24)
        assert decode_latents(quick, latents[..., :14, :18]).shape == (2, 3, 56, 72)


def test_what_is_decoded_depends_on_its_surroundings_only() -> None:
    """There is no normalisation over a window, so that windows of another size change nothing far from their edges."""
    torch.manual_seed(0)
    quick = build_distilled_autoencoder().eval()
    latents = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        whole = decode_latents(quick, latents)
        part = decode_latents(quick, latents[..., 16:48, 16:48])
    torch.testing.assert_close(
        part[..., 60:68, 60:68], whole[..., 124:132, 124:132], atol=1e-5, rtol=0
    )


def test_a_folder_says_which_kind_it_holds(tmp_path: Path) -> None:
    build_autoencoder().save_pretrained(tmp_path / "first")
    build_distilled_autoencoder().save_pretrained(tmp_path / "quick")
    assert isinstance(load_autoencoder(tmp_path / "first"), AutoencoderKL)
    assert isinstance(load_autoencoder(tmp_path / "quick"), AutoencoderTiny)


def test_unseen_people_are_not_trained_on(tmp_path: Path) -> None:
    pictures = Pictures(pairs(tmp_path) / "pairs.npz")
    data = np.load(tmp_path / "pairs.npz")
    drawn, landmarks = pictures.draw(np.random.default_rng(0), 40, carried=0.5)
    assert drawn.shape == (40, SIDE, SIDE, 3) and landmarks.shape == (40, 68, 2)
    for hidden in (data["images"][2], data["warped"][2]):
        assert not (drawn == hidden).all(axis=(1, 2, 3)).any()
    for shown in (*data["images"][:2], *data["warped"][:2]):
        assert (drawn == shown).all(axis=(1, 2, 3)).any()


def test_pictures_that_are_not_there_are_told(tmp_path: Path) -> None:
    pictures = Pictures(pairs(tmp_path, held_out=(True, True, True)) / "pairs.npz")
    with pytest.raises(ConfigError, match="no such pictures"):
        pictures.draw(np.random.default_rng(0), 4, carried=0.5)
