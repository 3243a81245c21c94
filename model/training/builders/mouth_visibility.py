"""The weights that tell a mouth from what covers one: `model/face/mouth_visibility.npz`.

    python -m model.training.builders.mouth_visibility source=DATA prepared=PREPARED

Photographs as they are, in other lights, turned a little and shrunk are mouths; the same with covered mouths, and
turned until half of it is hidden, are none. The detector looks at every edited picture again, so its mistakes are
learnt from, too. Half of the people are left to `held_out`, whom nothing here sees. The fit is a logistic regression;
its threshold lies `margin` below the even one, since a refused portrait is worse than a smear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.crops import name_seed
from model.data.split import is_held_out
from model.data.subjects import read_photographs
from model.evaluation import awkward_pictures as edits
from model.face.detection import FaceDetector, MediaPipeFaceDetector
from model.face.mouth_visibility import WEIGHTS, mouth_patch, patch_features
from model.training.config import run_program

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]
Labelled = tuple[Points, bool]
"""A patch `(64, 64)`, and whether a mouth is seen in it."""

_SMALL_PX: Final = 80.0
_LITTLE: Final = (15.0, 40.0)
_FAR: Final = (60.0, 80.0)
"""Turns, in degrees, at which a mouth is still seen, and at which half of it is not."""
_PENALTY: Final = 1.7
_STEPS: Final = 60


@dataclass(frozen=True)
class MouthVisibilityConfig:
    """The fit.

    Attributes:
        source: Folder of data that was prepared into `prepared`.
        prepared: `portraits.npz` is there.
        edited_every: Of so many photographs one is edited; all are used as they are.
        margin: Subtracted from the even threshold.
        out: The file that is written.
    """

    source: Path
    prepared: Path
    edited_every: int = 2
    margin: float = 1.0
    out: Path = WEIGHTS


def held_out(person: str) -> bool:
    """Whether the weights have never seen this person: half of all."""
    return is_held_out(f"mouth-visibility-{person}", 0.5)


def edited(
    detector: FaceDetector, image: Picture, face: Points, rng: np.random.Generator
) -> Iterator[Labelled]:
    """Patches of a photograph's edits, where the detector finds a face in them."""
    lights = rng.choice(list(edits.LIGHTS), 3, replace=False)
    pictures = [(edits.LIGHTS[name](image, face, rng), True) for name in lights]
    pictures += [(edit(image, face, rng), False) for edit in edits.COVERS.values()]
    side = float(rng.choice((-1, 1)))
    pictures += [(edits.turned(image, face, side * rng.uniform(*_LITTLE)), True)]
    pictures += [(edits.turned(image, face, side * rng.uniform(*_FAR)), False)]
    scale = _SMALL_PX / float(np.ptp(face, axis=0).max())
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    pictures += [(np.asarray(small, np.uint8), True)]
    for picture, is_seen in pictures:
        picture = np.ascontiguousarray(picture)
        for found in detector(picture)[:1]:
            yield mouth_patch(picture, found.landmarks), is_seen


def varied(patch: Points, rng: np.random.Generator) -> list[Points]:
    """A patch, its mirror image, a blurred one, and one that is turned, shifted, darker and noisy."""
    middle = (len(patch) - 1) / 2
    move = cv2.getRotationMatrix2D((middle, middle), rng.normal(0, 5), np.exp(rng.normal(0, 0.06)))
    move[:, 2] += rng.normal(0, 1.5, 2)
    moved = cv2.warpAffine(patch, move, patch.shape, borderMode=cv2.BORDER_REPLICATE)
    noisy = moved * rng.uniform(0.3, 1.0) + rng.normal(0, rng.uniform(0, 6), patch.shape)
    blurred = cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.5, 1.6))
    return [patch, patch[:, ::-1], blurred, np.clip(noisy, 0, 255).astype(np.float32)]


def fit(features: Points, is_mouth: NDArray[np.bool_]) -> tuple[Points, float]:
    """Logistic regression with an L2 penalty, both classes of equal weight: weights `(D,)` and bias."""
    x, y = torch.from_numpy(features), torch.from_numpy(is_mouth.astype(np.float32))
    share = y.mean()
    weight = torch.where(y > 0, 0.5 / share, 0.5 / (1 - share))
    line = torch.zeros(features.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        score = x @ line[:-1] + line[-1]
        cost = torch.nn.functional.binary_cross_entropy_with_logits(
            score, y, weight=weight, reduction="sum"
        )
        total: torch.Tensor = cost + _PENALTY * (line[:-1] ** 2).sum()
        total.backward()
        return total

    optimizer.step(loss)
    solved = line.detach().numpy()
    return solved[:-1].astype(np.float32), float(solved[-1])


def build(config: MouthVisibilityConfig) -> None:
    """Write the weights."""
    detector = MediaPipeFaceDetector()
    photographs = read_photographs(config.source, config.prepared)
    features, labels = [], []
    rows = [row for row, person in enumerate(photographs.people) if not held_out(person)]
    for number, row in enumerate(tqdm(rows)):
        path, face = photographs.paths[row], photographs.landmarks[row]
        rng = np.random.default_rng(name_seed(path))
        picture = cv2.imread(str(path))
        assert picture is not None, path
        image = np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8)
        patches: list[Labelled] = [(mouth_patch(image, face), True)]
        if number % config.edited_every == 0:
            patches += edited(detector, image, face, rng)
        for patch, is_seen in patches:
            features += [patch_features(one) for one in varied(patch, rng)]
            labels += [is_seen] * 4
    weights, bias = fit(np.stack(features), np.array(labels))
    np.savez(config.out, weights=weights.astype(np.float16), bias=np.float32(bias + config.margin))


if __name__ == "__main__":
    run_program(MouthVisibilityConfig, build, __doc__)
