"""Stage 1 on made-up data: what a window asks for, and that a step works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.face.alignment import TEMPLATE
from model.face.landmarks import CONTENT, POSE, mouth_opening
from model.networks.landmark_completion import LandmarkCompleter
from model.training.loop import Draw
from model.training.phones import CLOSURES, SILENCE_PHONE
from model.training.stage1_landmarks import (
    LandmarksConfig,
    Windows,
    collate,
    completion_loss,
)

CONFIG = LandmarksConfig(frames=32, width=32, layers=1, batch_size=6)


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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    clips, frames, utterance = 24, 75, 400
    gaps = 0.06 * np.abs(np.sin(np.linspace(0, 20, clips * frames)))
    faces = np.stack([make_face(gap) for gap in gaps]).astype(np.float32)
    faces = faces.reshape(clips, frames, 68, 2)
    shut = make_face(0.0)
    np.savez(
        folder / "grid.npz",
        names=np.array([f"clip{i}.mkv" for i in range(clips)]),
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
        neutral=shut,
        speech_offsets=np.zeros((voices * utterance // 4, 31, 2), np.float32),
        speech_valid=np.ones(voices * utterance // 4, np.bool_),
        portraits=np.stack([make_face(gap) for gap in (0.0, 0.02, 0.05)]),
        portraits_held_out=np.array([False, False, True]),
        noise=rng.normal(0, 1, (4, 300, 80)).astype(np.float16),
    )
    return folder


def test_windows_fit_together(prepared: Path) -> None:
    windows = Windows(prepared, CONFIG)
    rng = np.random.default_rng(0)
    quiet = 0
    for _ in range(60):
        window = windows.draw(rng)
        assert window.mel.shape == (128, 80) and window.phones.shape == (128,)
        assert window.pose.shape == (32, 37, 2) and window.content.shape == (32, 31, 2)
        assert np.isfinite(window.content).all()
        if window.quiet:
            quiet += 1
            assert (window.phones == SILENCE_PHONE).all()
            face = np.repeat(window.reference[None], 32, axis=0)
            face[:, list(CONTENT)] = window.content
            assert float(mouth_opening(face).max()) < 0.03
    assert quiet > 0


def test_what_is_wanted_does_not_depend_on_the_references_mouth(prepared: Path) -> None:
    windows = Windows(prepared, CONFIG)
    motion = windows.still[0, :32]
    for face in windows.portraits:
        wanted, references = [], []
        for seed in range(6):
            reference, content, _ = windows._on_face(face, motion, np.random.default_rng(seed))
            wanted.append(content)
            references.append(float(mouth_opening(reference)))
        assert np.ptp(references) > 0.02
        np.testing.assert_allclose(wanted, np.repeat(wanted[:1], 6, axis=0))


def test_one_step_lowers_the_loss(prepared: Path) -> None:
    torch.manual_seed(0)
    windows = Windows(prepared, CONFIG)
    completer = LandmarkCompleter(width=32, layers=1, heads=2, dropout=0.0)
    draw = Draw.at(0, 0)
    batch = collate([windows.draw(draw.rng) for _ in range(6)], windows.noise, draw)
    assert batch.mel.shape == (6, 128, 80) and batch.reference.shape == (6, 1, 68, 2)
    assert bool(torch.isfinite(batch.mel).all())
    optimizer = torch.optim.AdamW(completer.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss, figures = completion_loss(completer, batch, CONFIG)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert set(figures) >= {"position", "gap", "width", "phones", "train_articulation"}


def test_closures_weigh_more(prepared: Path) -> None:
    torch.manual_seed(0)
    windows = Windows(prepared, CONFIG)
    completer = LandmarkCompleter(width=32, layers=1, heads=2, dropout=0.0)
    draw = Draw.at(0, 1)
    batch = collate([windows.draw(draw.rng) for _ in range(6)], windows.noise, draw)
    batch.phones[:] = 1
    batch.phones[:, 64:72] = CLOSURES[0]  # frames 16 and 17
    batch.content[:, 16:18] += 0.05  # what is wanted there is far off
    heavy, _ = completion_loss(completer, batch, CONFIG)
    batch.phones[:] = 1
    plain, _ = completion_loss(completer, batch, CONFIG)
    assert heavy.item() > plain.item()
