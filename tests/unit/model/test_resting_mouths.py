from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.face.landmarks import CONTENT, mouth_opening
from model.networks.landmark_completion import LandmarkCompleter
from model.training.landmark_windows import Windows
from model.training.stage1_landmarks import LandmarksConfig, resting_loss

CONFIG = LandmarksConfig(frames=32, width=32, layers=1)


def test_the_wanted_mouth_is_shut_and_the_given_one_is_not(prepared: Path) -> None:
    mouths = Windows(prepared, CONFIG).mouths
    faces, shut = mouths.draw(np.random.default_rng(0), 40)
    assert faces.shape == (40, 68, 2) and shut.shape == (40, 31, 2)
    at_rest = faces.clone()
    at_rest[:, list(CONTENT)] = shut
    assert float(mouth_opening(at_rest.numpy()).mean()) < 0.03
    assert float(mouth_opening(faces.numpy()).mean()) > 0.06


def test_a_few_steps_teach_the_resting_mouth(prepared: Path) -> None:
    torch.manual_seed(0)
    mouths = Windows(prepared, CONFIG).mouths
    completer = LandmarkCompleter(width=32, layers=1, heads=2)
    optimizer = torch.optim.AdamW(completer.rest_head.parameters(), lr=3e-3)
    rng, losses = np.random.default_rng(0), []
    for _ in range(60):
        loss = resting_loss(completer, *mouths.draw(rng, 64))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
