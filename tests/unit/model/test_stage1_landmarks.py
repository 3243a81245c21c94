"""Stage 1 on made-up data: what a window asks for, and that a step works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.data.phones import CLOSURES, SILENCE_PHONE
from model.face.landmarks import CONTENT, mouth_opening
from model.networks.landmark_completion import LandmarkCompleter
from model.training.landmark_windows import Windows, collate
from model.training.stage import Draw
from model.training.stage1_landmarks import (
    LandmarksConfig,
    completion_loss,
)

CONFIG = LandmarksConfig(frames=32, width=32, layers=1, batch_size=6)


def test_windows_fit_together(prepared: Path) -> None:
    windows = Windows(prepared, CONFIG.mix)
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
    windows = Windows(prepared, CONFIG.mix)
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
    windows = Windows(prepared, CONFIG.mix)
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
    windows = Windows(prepared, CONFIG.mix)
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
