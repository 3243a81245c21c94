"""Stages 0 to 3 train on shards alone: they begin, their loss has gradients, they show held-out films."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.data.shard_pictures import ShardPictures
from model.data.shards import read_tracks, write_shard
from model.errors import ConfigError
from model.face.landmarks import CONTENT, POSE, mouth_opening
from model.networks.autoencoder import build_autoencoder
from model.training import (
    stage0_autoencoder,
    stage1_landmarks,
    stage2_diffusion,
    stage3_end_to_end,
)
from model.training.landmark_windows import Pauses
from model.training.shard_windows import ShardWindows
from model.training.stage import Draw, Stage

Prepared = tuple[Path, dict[str, Any]]
LOOP = {"batch_size": 2, "device": "cpu", "mixed_precision": "no"}


@pytest.fixture
def shards(prepared_set: Prepared) -> Path:
    return prepared_set[0]


@pytest.fixture
def autoencoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    build_autoencoder("tiny").save_pretrained(tmp_path / "autoencoder")
    return tmp_path / "autoencoder"


def check_stage(build: Callable[[], Stage[Any]], folder: Path) -> dict[str, float]:
    """The loss is finite, the same for the same draw, and has a gradient; figures of a sample."""
    stage = build()
    loss, figures = stage.loss(stage.draw(Draw.at(0, 0)), 0)
    for value in figures.values():  # not read yet, and without a graph
        assert isinstance(value, torch.Tensor)
        assert not value.requires_grad
    assert math.isfinite(loss.item())
    loss.backward()
    parameters = [p for network in stage.modules.values() for p in network.parameters()]
    assert sum(float(p.grad.abs().sum()) for p in parameters if p.grad is not None) > 0

    def loss_at(step: int) -> float:
        torch.manual_seed(0)  # dropout, and latents drawn from the posterior
        return stage.loss(stage.draw(Draw.at(0, step)), step)[0].item()

    with torch.no_grad():
        assert loss_at(1) == loss_at(1)
        assert loss_at(1) != loss_at(2)
        measured = dict(stage.sample(folder, 1))
    assert any(path.name.startswith("000001") for path in folder.iterdir())
    return measured


def test_stage_0(shards: Path, tmp_path: Path) -> None:
    config = stage0_autoencoder.AutoencoderConfig(prepared=tmp_path, shards=shards, **LOOP)
    figures = check_stage(lambda: stage0_autoencoder.build(config, "cpu"), tmp_path)
    assert figures["psnr_db"] > 0


def test_stage_1(shards: Path, tmp_path: Path) -> None:
    config = stage1_landmarks.LandmarksConfig(
        prepared=tmp_path, shards=shards, frames=32, width=32, layers=1, **LOOP
    )
    figures = check_stage(lambda: stage1_landmarks.build(config, "cpu"), tmp_path)
    assert -1 <= figures["shards_r"] <= 1
    assert figures["shards_articulation"] >= 0


def test_stage_2(shards: Path, autoencoder: Path, tmp_path: Path) -> None:
    config = stage2_diffusion.DiffusionConfig(
        prepared=tmp_path, shards=shards, autoencoder=autoencoder, sample_steps=1, **LOOP
    )
    figures = check_stage(lambda: stage2_diffusion.build(config, "cpu"), tmp_path)
    assert figures["ceiling_clips_psnr_db"] > 0
    assert not any("portraits" in name for name in figures)


def test_stage_3(shards: Path, tmp_path: Path) -> None:
    config = stage3_end_to_end.EndToEndConfig(
        prepared=tmp_path, shards=shards, landmark_batch=2, sample_steps=1, **LOOP
    )
    figures = check_stage(lambda: stage3_end_to_end.build(config, "cpu"), tmp_path)
    assert figures["psnr_db"] > 0
    assert 0 < figures["error"] < 1


def test_stage_2_warps_the_reference_onto_the_target(shards: Path) -> None:
    pairs = ShardPictures(shards, 64).pairs(np.random.default_rng(0), 12)
    mask = np.zeros((64, 64), bool)
    mask[20:44, 16:48] = True  # eyes, nose and mouth
    target, reference, warped = (
        np.asarray(x, np.float32)[:, mask] for x in (pairs.target, pairs.reference, pairs.warped)
    )
    assert np.abs(warped - target).mean() < np.abs(reference - target).mean()


def test_only_what_is_not_held_out_is_drawn(shards: Path) -> None:
    pictures = ShardPictures(shards, 32)
    tracks = pictures.shards.tracks
    assert [tracks[i].held_out for i in pictures.seen] == [False, False]
    assert [tracks[i].held_out for i in pictures.unseen] == [True]
    windows = ShardWindows(shards, 32, Pauses(np.zeros((1, 300, 80), np.float32), 0.0))
    assert (windows.seen, windows.unseen) == (pictures.seen, pictures.unseen)


def test_windows_of_a_still_face_keep_its_motion(shards: Path) -> None:
    windows = ShardWindows(shards, 32, Pauses(np.zeros((1, 300, 80), np.float32), 0.0))
    rng = np.random.default_rng(0)
    still = moving = 0
    for _ in range(20):
        window = windows.draw(rng)
        assert window.mel.shape == (128, 80)
        assert window.mel.dtype == np.float32
        face = np.empty((32, 68, 2), np.float32)
        face[:, list(POSE)], face[:, list(CONTENT)] = window.pose, window.content
        if np.ptp(window.pose, axis=0).max() == 0:
            still += 1
            np.testing.assert_array_equal(window.pose[0], window.reference[list(POSE)])
        else:
            moving += 1
        assert np.ptp(mouth_opening(face)) > 0.01
        assert (face > -0.2).all() and (face < 1.2).all()
    assert still > 2
    assert moving > 2


def test_shards_without_anything_to_train_on_are_refused(shards: Path, tmp_path: Path) -> None:
    held_out = [
        data for path in shards.glob("shard-*") for data in read_tracks(path) if data.track.held_out
    ]
    write_shard(tmp_path / "shard-00000.safetensors", held_out, stored_px=80, made_from={})
    with pytest.raises(ConfigError, match="all of them held out"):
        ShardPictures(tmp_path, 32)
    with pytest.raises(ConfigError, match="none of 32 frames"):
        ShardWindows(tmp_path, 32, Pauses(np.zeros((1, 300, 80), np.float32), 0.0))
