"""Mouths as they stand in photographs, and the same mouths at rest.

What speech asks of a mouth must not depend on how the photograph shows it. The completer's resting
mouth is therefore taught by itself: the same face at many openings has one shut mouth.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.face.landmarks import CONTENT, flip_landmarks
from model.face.retargeting import retarget
from model.networks.landmark_completion import LandmarkCompleter

Points = NDArray[np.float32]

_NOISE: Final = 0.0025  # of the detector, crop units
_TURN: Final = 0.026  # radians
_ZOOM: Final = 0.03
_SHIFT: Final = 0.012  # crop units
_UNIT: Final = 0.02  # crop units that one unit of loss stands for
_PEAK: Final = 2e-3  # learning rate


def resting_loss(
    completer: LandmarkCompleter, reference: torch.Tensor, shut: torch.Tensor
) -> torch.Tensor:
    """Distance of the resting mouths of faces `(B, 68, 2)` to their shut lips and jaws `(B, 31, 2)`, crop units."""
    return (completer.resting(reference) - shut).abs().mean() / _UNIT


def teach_rest(
    completer: LandmarkCompleter, mouths: RestingMouths, steps: int, seed: int, batch: int = 256
) -> float:
    """Train the completer's resting mouth by itself; returns the loss at the end.

    Beside everything else it learns too slowly: the gradients' common bound is the speech's. Alone
    it is done within minutes, and what it leaves of an open mouth halves.
    """
    rng = np.random.default_rng(seed)
    parameters = list(completer.rest_head.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_PEAK)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK, total_steps=steps)
    losses = []
    for _ in tqdm(range(steps), desc="resting mouth", mininterval=10):
        faces, shut = (value.to(completer.device) for value in mouths.draw(rng, batch))
        loss = resting_loss(completer, faces, shut)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-50:]))


class RestingMouths:
    """Draws faces and their shut mouths, crop units.

    Args:
        clips: Filmed faces in one pose a clip `(N, T, 68, 2)`.
        closed: Their shut lips and jaws `(N, 31, 2)`.
        portraits: Photographs `(P, 68, 2)`.
        anchors: Faces at many openings `(A, 68, 2)` that a photograph is given; the last one is shut.
    """

    def __init__(self, clips: Points, closed: Points, portraits: Points, anchors: Points) -> None:
        self._clips, self._closed = clips, closed
        moved = np.stack([retarget(face, anchors) for face in portraits])
        self._portraits = np.concatenate([portraits[:, None], moved], axis=1)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Half filmed faces, half photographs, mirrored, jittered and with the detector's noise.

        Returns:
            Faces `(count, 68, 2)` and the lips and jaws of their shut mouths `(count, 31, 2)`.
        """
        filmed = count // 2
        clip = rng.integers(len(self._clips), size=filmed)
        faces = self._clips[clip, rng.integers(self._clips.shape[1], size=filmed)]
        shut = faces.copy()
        shut[:, list(CONTENT)] = self._closed[clip]
        row = rng.integers(len(self._portraits), size=count - filmed)
        opening = rng.integers(self._portraits.shape[1] - 1, size=count - filmed)
        faces = np.concatenate([faces, self._portraits[row, opening]])
        shut = np.concatenate([shut, self._portraits[row, -1]])

        both: NDArray[Any] = np.stack([faces, shut], axis=1).astype(np.float64)  # (count, 2, 68, 2)
        mirrored = rng.random((count, 1, 1, 1)) < 0.5
        both = np.where(mirrored, flip_landmarks(both), both) - 0.5
        zoom = np.exp(rng.normal(0, _ZOOM, (count, 1, 1)))
        turn = rng.normal(0, _TURN, (count, 1, 1))
        cosine, sine = zoom * np.cos(turn), zoom * np.sin(turn)
        x, y = both[..., 0], both[..., 1]
        both = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
        both += rng.normal(0.5, _SHIFT, (count, 1, 1, 2))
        seen = both[:, 0] + rng.normal(0, _NOISE, faces.shape)
        return (
            torch.from_numpy(seen.astype(np.float32)),
            torch.from_numpy(both[:, 1, list(CONTENT)].astype(np.float32)),
        )
