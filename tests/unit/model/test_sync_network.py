"""The sync network: its vectors and scores, and what the shipped weights can tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.checkpoints import SHIPPED as SHIPPED_PARTS
from model.data.sound import read_sound
from model.errors import CheckpointError, ShapeError
from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import POSE
from model.media.audio import log_mel
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.sync_network import (
    MARGIN,
    SHIPPED,
    SyncNetwork,
    lip_features,
    load_sync_network,
)

SPEECH = Path(__file__).parents[3] / "examples" / "speech.wav"
FRAMES = 40


@pytest.fixture
def network() -> SyncNetwork:
    torch.manual_seed(0)
    return SyncNetwork(width=16, embedding=8).eval()


def make_inputs(
    frames: int = FRAMES, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Any sound, and the average face with a mouth that wanders."""
    rng = np.random.default_rng(seed)
    face = np.repeat(AVERAGE_FACE[None], frames, axis=0)
    face[:, 48:] += rng.normal(0, 0.01, (frames, 20, 2))
    return rng.normal(0, 1, (4 * frames, 80)).astype(np.float32), face


@pytest.fixture(scope="module")
def shipped() -> SyncNetwork:
    return load_sync_network()


@pytest.fixture(scope="module")
def spoken() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The example's log-mel `(4T, 80)` and the shipped completer's face for it `(T, 68, 2)`."""
    completer = LandmarkCompleter.from_pretrained(SHIPPED_PARTS / "landmark_completer")
    mel = log_mel(read_sound(SPEECH))
    face = torch.from_numpy(AVERAGE_FACE)[None, None]
    pose = face[:, :, list(POSE)].expand(1, len(mel) // 4, -1, -1)
    return mel, completer.float().complete(torch.from_numpy(mel)[None], pose, face)[0].numpy()


# the network --------------------------------------------------------------------------------------


def test_vectors_are_of_unit_length_one_a_frame(network: SyncNetwork) -> None:
    audio, lips = network.embed(*make_inputs())
    assert audio.shape == lips.shape == (FRAMES - 2 * MARGIN, 8)
    for vectors in (audio, lips):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=1e-5)


def test_a_vector_sees_fifteen_frames_and_no_more(network: SyncNetwork) -> None:
    mel, _ = make_inputs()
    sound = torch.from_numpy(mel)[None]
    features = torch.randn(1, FRAMES, 43, generator=torch.Generator().manual_seed(0))
    later = slice(20, 40)
    with torch.no_grad():
        whole = network.embed_audio(sound)[:, 20 : 40 - 2 * MARGIN]
        cut = network.embed_audio(sound[:, 80:160])
        torch.testing.assert_close(cut[:, 1:-1], whole[:, 1:-1])
        whole = network.embed_features(features)[:, 20 : 40 - 2 * MARGIN]
        torch.testing.assert_close(network.embed_features(features[:, later]), whole)


def test_place_size_turn_and_identity_do_not_matter() -> None:
    face = torch.from_numpy(make_inputs()[1])[None]
    turn = 300.0 * torch.tensor([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]).float()
    features = lip_features(face)
    torch.testing.assert_close(lip_features(face @ turn.T + 50.0), features, atol=2e-3, rtol=1e-3)
    other = face.clone()  # another mouth: every outer lip point elsewhere, always
    other[:, :, 49:54] -= torch.tensor([0.004, 0.01])
    torch.testing.assert_close(lip_features(other), features, atol=2e-3, rtol=1e-3)


def test_features_stay_exact_within_autocast() -> None:
    face = torch.from_numpy(make_inputs()[1])[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = lip_features(face)
    torch.testing.assert_close(within, lip_features(face))


def test_gradients_reach_every_parameter_the_sound_and_the_lips(network: SyncNetwork) -> None:
    mel, face = (torch.from_numpy(x)[None].requires_grad_() for x in make_inputs())
    audio, lips = network(mel, face)
    (audio * lips).sum().backward()
    for name, parameter in [*network.named_parameters(), ("mel", mel), ("face", face)]:
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_saved_and_loaded_it_is_the_same(network: SyncNetwork, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    loaded = load_sync_network(tmp_path)
    for got, expected in zip(
        loaded.embed(*make_inputs()), network.embed(*make_inputs()), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_what_does_not_fit_is_refused(network: SyncNetwork, tmp_path: Path) -> None:
    mel, face = make_inputs()
    with pytest.raises(ShapeError, match="log_mel"):
        network.embed(mel[:-1], face)
    with pytest.raises(ShapeError, match="landmarks"):
        network.embed(mel[:56], face[:14])
    with pytest.raises(ShapeError, match="lower max_offset"):
        network.sync_scores(mel[:120], face[:30], max_offset=15)
    face[3, 60] = np.nan
    with pytest.raises(ShapeError, match="1 of 40 frames"):
        network.matching(mel, face)
    with pytest.raises(CheckpointError, match="no sync network"):
        load_sync_network(tmp_path)


@pytest.mark.parametrize("late", [-4, 0, 6])
def test_scores_follow_their_definition(network: SyncNetwork, late: int) -> None:
    mel, face = make_inputs(60)
    audio, lips = network.embed(mel, face)
    scores = network.sync_scores(mel, face, max_offset=8)
    assert scores.distances.shape == (17,)
    if late > 0:
        audio, lips = audio[:-late], lips[late:]
    elif late < 0:
        audio, lips = audio[-late:], lips[:late]
    distance = np.linalg.norm(audio - lips, axis=-1).mean()
    assert scores.distances[8 + late] == pytest.approx(distance, abs=1e-4)
    assert scores.distance == scores.distances.min() == scores.distances[8 + scores.offset_frames]
    spread = np.median(scores.distances) - scores.distance
    assert scores.confidence == pytest.approx(float(spread), abs=1e-6)


# the shipped weights ------------------------------------------------------------------------------


def test_the_weights_are_small_and_have_a_card() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 5e6
    assert "CC BY 4.0" in (SHIPPED / "README.md").read_text()


def test_speech_and_the_lips_made_for_it_are_in_step(
    shipped: SyncNetwork, spoken: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    mel, face = spoken
    scores = shipped.sync_scores(mel, face)
    assert scores.offset_frames == 0
    assert scores.distances[15] < scores.distances[[10, 20]].min() - 0.1


@pytest.mark.parametrize("late", [-5, 3])
def test_lips_that_are_late_are_found_late(
    shipped: SyncNetwork, spoken: tuple[NDArray[np.float32], NDArray[np.float32]], late: int
) -> None:
    mel, face = spoken
    rng = np.random.default_rng(0)
    drawn = face + rng.normal(0, 0.5 / 128, face.shape).astype(np.float32)  # as a detector sees it
    scores = shipped.sync_scores(mel, np.roll(drawn, late, axis=0))
    assert scores.offset_frames == late


def test_a_frozen_or_a_foreign_mouth_loses(
    shipped: SyncNetwork, spoken: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    mel, face = spoken
    own = shipped.matching(mel, face)
    half = len(face) // 2
    assert own > shipped.matching(mel, np.roll(face, half, axis=0)) + 0.2
    frozen = np.repeat(face[half : half + 1], len(face), axis=0)
    assert own > shipped.matching(mel, frozen) + 0.2
    confidence = shipped.sync_scores(mel, frozen).confidence
    assert confidence < 0.3 * shipped.sync_scores(mel, face).confidence
