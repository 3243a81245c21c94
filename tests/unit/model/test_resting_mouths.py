from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.face.landmarks import CONTENT, mouth_opening
from model.networks.landmark_completion import LandmarkCompleter
from model.training.landmark_windows import WindowMix, Windows
from model.training.resting_mouths import resting_loss, teach_rest


def test_the_wanted_mouth_is_shut_and_the_given_one_is_not(prepared: Path) -> None:
    mouths = Windows(prepared, WindowMix(frames=32)).mouths
    faces, shut = mouths.draw(np.random.default_rng(0), 40)
    assert faces.shape == (40, 68, 2) and shut.shape == (40, 31, 2)
    at_rest = faces.clone()
    at_rest[:, list(CONTENT)] = shut
    assert float(mouth_opening(at_rest.numpy()).mean()) < 0.03
    assert float(mouth_opening(faces.numpy()).mean()) > 0.06


def test_teaching_moves_the_resting_mouth_and_nothing_else(prepared: Path) -> None:
    torch.manual_seed(0)
    mouths = Windows(prepared, WindowMix(frames=32)).mouths
    completer = LandmarkCompleter(width=32, layers=1, heads=2, rest_layers=2)
    before = {key: value.clone() for key, value in completer.state_dict().items()}
    faces = mouths.draw(np.random.default_rng(1), 64)
    fresh = resting_loss(completer, *faces).item()
    teach_rest(completer, mouths, steps=60, seed=0, batch=64)
    assert resting_loss(completer, *faces).item() < 0.8 * fresh
    for key, value in completer.state_dict().items():
        assert torch.equal(value, before[key]) != key.startswith("rest_head"), key
