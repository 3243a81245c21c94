from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model.errors import CheckpointError
from model.evaluation.downloaded_networks import (
    IdentityEmbedder,
    PerceptualDistance,
    PictureFeatures,
    SyncNet,
    frechet_distance,
    mfcc,
)
from model.face.average_face import AVERAGE_FACE
from model.media.audio import SAMPLE_RATE

Save = Callable[[nn.Module], Path]


class Means(nn.Module):
    """Channel means of uint8 pictures, or of nine patches of them on request."""

    def forward(self, pictures: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert pictures.dtype == torch.uint8
        size = 3 if return_features else 1
        return torch.nn.functional.adaptive_avg_pool2d(pictures.float(), size).flatten(1)


class Lpips(nn.Module):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean(dim=(1, 2, 3), keepdim=True)


class LpipsEmbedding(nn.Module):
    def forward(self, pictures: torch.Tensor, return_lpips: bool = False) -> torch.Tensor:
        assert return_lpips
        return pictures.float().mean(dim=(2, 3))


class Colours(nn.Module):
    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        assert faces.shape[1:] == (3, 112, 112)
        return torch.nn.functional.adaptive_avg_pool2d(faces, 4).flatten(1)


class Sync(nn.Module):
    """Loudness against the brightness of the middle frame."""

    def forward(
        self, sound: torch.Tensor, mouths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert sound.shape[1:] == (1, 13, 20) and mouths.shape[1:] == (3, 5, 224, 224)
        loud = sound[:, 0, 0, 8:12].mean(dim=1, keepdim=True)
        return loud, mouths[:, :, 2].mean(dim=(1, 2, 3)).unsqueeze(1) / 10


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(module: nn.Module) -> Path:
        path = tmp_path / f"{type(module).__name__}.pt"
        torch.jit.save(torch.jit.script(module), str(path))
        return path

    return write


# torch.jit.script tells users of newer Pythons to move on; these files are what others publish.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def pictures(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 24, 24, 3)).astype(np.uint8)


def test_features_are_asked_for_by_name(save: Save) -> None:
    features = PictureFeatures(save(Means()))(pictures(20))
    assert features.shape == (20, 27)


def test_both_kinds_of_lpips(save: Save) -> None:
    first, second = pictures(3), pictures(3, seed=1)
    distance = PerceptualDistance(save(Lpips()))
    assert distance(first, first).tolist() == [0, 0, 0]
    expected = np.abs(first.astype(float) - second).mean(axis=(1, 2, 3)) / 127.5
    np.testing.assert_allclose(distance(first, second), expected, rtol=1e-5)
    embedding = PerceptualDistance(save(LpipsEmbedding()))
    gaps = (first.mean(axis=(1, 2)) - second.mean(axis=(1, 2))) ** 2
    np.testing.assert_allclose(embedding(first, second), gaps.sum(axis=1), rtol=1e-3)


def test_identity_looks_at_the_face_wherever_it_is(save: Save) -> None:
    embed = IdentityEmbedder(save(Colours()))
    face = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[40:200, 30:190] = np.kron(face, np.ones((20, 20, 1), np.uint8))
    moved = np.roll(picture, (50, 60), axis=(0, 1))
    landmarks = AVERAGE_FACE * np.float32(160) + np.float32([30, 40])
    found = embed([picture, moved], np.stack([landmarks, landmarks + np.float32([60, 50])]))
    assert float(found[0] @ found[1]) == pytest.approx(1, abs=1e-3)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)


def test_syncnet_prefers_the_sound_that_fits(save: Save) -> None:
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.random(12) > 0.5, 4)[:45]
    frames = np.zeros((45, 64, 64, 3), np.uint8)
    frames[loud] = 120
    noise = rng.normal(0, 0.1, 45 * 640).astype(np.float32)
    waveform = noise * np.repeat(np.where(loud, 1.0, 0.01), 640).astype(np.float32)
    landmarks = np.repeat(AVERAGE_FACE[None] * np.float32(50), 45, axis=0)
    network = SyncNet(save(Sync()))
    fits = network.scores(frames, landmarks, waveform, max_offset=6)
    frozen = network.scores(np.full_like(frames, 60), landmarks, waveform, max_offset=6)
    assert fits[0] > 1.0 > frozen[0] + 0.5
    assert fits[1] < frozen[1]


def test_a_network_of_another_kind_is_refused(save: Save, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"docs/evaluation\.md"):
        PerceptualDistance(save(Colours()))(pictures(2), pictures(2))
    with pytest.raises(CheckpointError, match="not a TorchScript file"):
        PictureFeatures(tmp_path / "absent.pt")


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (4000, 6)).astype(np.float32)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(first, first + 2) == pytest.approx(24, rel=1e-3)
    wider = frechet_distance(first, 3 * first)  # sum over dimensions of (3 - 1) ** 2
    assert wider == pytest.approx(24, rel=0.05)


def test_loudness_moves_the_first_coefficient_only() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    rows, quieter = mfcc(noise), mfcc(noise / 10)
    assert rows.shape == (98, 13)
    np.testing.assert_allclose(rows[:, 0] - quieter[:, 0], np.log(100), atol=1e-3)
    np.testing.assert_allclose(rows[:, 1:], quieter[:, 1:], atol=1e-2)
