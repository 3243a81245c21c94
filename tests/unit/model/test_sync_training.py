"""Training and measuring of the sync network on made-up data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.split import clip_held_out, voice_held_out
from model.errors import CheckpointError
from model.evaluation.sync_figures import (
    Track,
    load_tracks,
    measure,
    offset_histogram,
    with_noise,
)
from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import LIPS
from model.networks.sync_network import SyncNetwork, load_sync_network
from model.training.stage import Draw
from model.training.sync import SyncConfig, build, disturb, sync_loss

TINY = {"frames": 32, "batch_size": 6, "width": 16, "embedding": 8}


def make_vectors(seed: int = 0) -> torch.Tensor:
    vectors = torch.randn(3, 10, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_the_loss_wants_partners_in_step() -> None:
    audio, frozen, valid = make_vectors(), make_vectors(1), torch.ones(3, 10)
    right, figures = sync_loss(audio, audio, frozen, valid, 0.07)
    late, late_figures = sync_loss(audio, audio.roll(3, dims=1), frozen, valid, 0.07)
    swapped, _ = sync_loss(audio, audio.roll(1, dims=0), frozen, valid, 0.07)
    assert right < late - 1 and right < swapped - 1
    assert figures["first_of_all"] == figures["first_of_window"] == pytest.approx(1.0)
    assert late_figures["first_of_window"] == 0.0
    still, _ = sync_loss(audio, audio, audio, valid, 0.07)  # a frozen mouth that fits as well
    assert still > right + 0.2


def test_unknown_labels_do_not_matter() -> None:
    audio, frozen, valid = make_vectors(), make_vectors(1), torch.ones(3, 10)
    valid[1, 4:] = 0.0
    lips = audio.clone()
    expected, _ = sync_loss(audio, lips, frozen, valid, 0.07)
    lips[1, 4:] = make_vectors(2)[1, 4:]
    got, _ = sync_loss(audio, lips, frozen, valid, 0.07)
    torch.testing.assert_close(got, expected)


def test_disturbed_lips_differ_a_little_and_by_the_generator_alone() -> None:
    faces = torch.from_numpy(AVERAGE_FACE).expand(4, 40, 68, 2)
    moved = disturb(faces, SyncConfig(), torch.Generator().manual_seed(0))
    assert moved.shape == faces.shape
    away = (moved - faces).abs()
    assert 0.001 < away[:, :, LIPS].mean() < 0.02
    assert away[:, :, :48].std() < SyncConfig().noise
    again = disturb(faces, SyncConfig(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, moved)


def test_steps_lower_the_loss(prepared: Path) -> None:
    stage = build(SyncConfig(prepared=prepared, **TINY), "cpu")
    network = stage.modules["sync_network"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.eval()
    losses = []
    for _ in range(8):
        loss, figures = stage.loss(stage.draw(Draw.at(0, 0)), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert 0.0 <= figures["first_of_all"] <= 1.0


def test_samples_are_figures_of_what_was_held_out(prepared: Path, tmp_path: Path) -> None:
    tracks = load_tracks(prepared)
    names = np.load(prepared / "grid.npz")["names"]
    assert len(tracks["clips"]) == sum(clip_held_out(str(name)) for name in names) > 1
    voices = np.load(prepared / "speech.npz")["names"]
    assert len(tracks["voices"]) == sum(voice_held_out(str(name)) for name in voices) > 1
    stage = build(SyncConfig(prepared=prepared, **TINY), "cpu")
    figures = stage.sample(tmp_path, 3)
    assert {"clips_shifted", "voices_swapped"} <= set(figures)
    assert (tmp_path / "000003.json").is_file()


class Oracle(SyncNetwork):
    """Hears one number, and reads it from the lips: a network that cannot err."""

    def embed(self, log_mel: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angles = (3.0 * log_mel[::4, 0], 3.0 * landmarks[:, 62, 1])
        audio, lips = (np.stack([np.cos(a), np.sin(a)], 1).astype(np.float32) for a in angles)
        return audio, lips


def test_the_figures_of_a_network_that_cannot_err() -> None:
    rng = np.random.default_rng(0)
    tracks = []
    for _ in range(4):
        said = rng.random(60).astype(np.float32)
        face = np.repeat(AVERAGE_FACE[None], 60, axis=0)
        face[:, 62, 1] = said
        tracks.append(Track(np.repeat(said[:, None], 4, axis=0).repeat(80, axis=1), face))
    oracle = Oracle(width=8, embedding=2)
    figures = measure(oracle, tracks)
    for name in ("shifted", "second", "swapped", "frozen", "offset_0", "offset_1", "cosine"):
        assert figures[name] == pytest.approx(1.0, abs=1e-5), name
    assert figures["distance"] == pytest.approx(0.0, abs=1e-2)
    late = [Track(t.log_mel, np.roll(t.landmarks, 2, axis=0)) for t in tracks]
    assert offset_histogram(oracle, late) == {2: 4}


def test_noise_is_as_large_as_it_says() -> None:
    track = Track(np.zeros((160, 80), np.float32), np.repeat(AVERAGE_FACE[None], 40, axis=0) * 500)
    noisy = with_noise([track], 0.5)[0].landmarks - track.landmarks
    assert noisy.std() == pytest.approx(0.5 / 128 * 500, rel=0.05)


def test_exported_weights_are_fp16_and_load(prepared: Path, tmp_path: Path) -> None:
    stage = build(SyncConfig(prepared=prepared, **TINY), "cpu")
    stage.network.save_pretrained(tmp_path / "sync_network")
    before = (tmp_path / "sync_network" / "diffusion_pytorch_model.safetensors").stat().st_size
    stage.finish(tmp_path)
    after = (tmp_path / "sync_network" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert after < 0.6 * before
    loaded = load_sync_network(tmp_path / "sync_network")
    for name, value in stage.network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), msg=name)
    assert loaded.dtype == torch.float32
    with pytest.raises(CheckpointError, match="no sync network"):
        load_sync_network(tmp_path / "nowhere")
