"""Does a drawn face hold still where it should? Photographs and stills of clips, beside real video.

    one face, again and again        ─▶ largest change of any pixel             0 is wanted
    the same + 0.3 px of noise       ─▶ mean change in the mask                 / the real clip's
    a real mouth's motion            ─▶ change where a batch begins             / the same frames
                                                                                  within a batch
    the lips' motion, the jaw still  ─▶ change of the skin around the lips      / a still real face's

A change is the mean |difference| of consecutive frames in crops of 256 px, grey levels of 255. The
real clip's is measured in its calmed crops, so that the head's way does not count: over the whole
clip, and in the half second in which its lips move least.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip, ClipFrames
from model.evaluation.metrics.pictures import FINE_PX, FaceWindow
from model.evaluation.observation import mean_figures
from model.evaluation.protocols.motion import follow_clip, still_plan
from model.evaluation.protocols.video import REAL, System
from model.face.alignment import invert_affine, warp_points
from model.face.landmarks import LIPS, OUTER_LIPS, mouth_opening
from model.pipelines.outputs import RenderPlan

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]

PHOTOGRAPHS: Final = "photographs"
FIRST_FRAMES: Final = "first frames of clips"
"""What the rows of a system are called, behind its name."""
NOISE_PX: Final = 0.3
"""Standard deviation of each coordinate, pixels of `FINE_PX`."""
_STILL_CHANGES: Final = 12
"""Half a second of a real clip."""
_BATCHES: Final = 4
_LIP_MARGIN: Final = 0.05
"""Skin nearer to the lips moves with them, crop units."""


@dataclass
class Steadiness:
    """How much of what is drawn moves without a reason: figures by row and picture; the real clips are a row."""

    per_picture: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def add(
        self, row: str, name: str, image: Frames, clip: Clip, frames: ClipFrames, system: System
    ) -> None:
        """Measure one picture `(H, W, 3)`, uint8 RGB, with the mouth of a clip; it counts to the row `row`.

        The clip's own pictures, the real video, stand beside the drawn ones.

        Raises:
            InputError: The picture shows no face.
        """
        plan = follow_clip(still_plan(system, image), clip)
        real = self.per_picture.setdefault(REAL, {})
        if clip.name not in real:
            real[clip.name] = real_changes(clip, frames)
        beside = real[clip.name]
        noisy = _noise_change(system, plan, clip)
        swimming = _skin_change(system, plan)
        self.per_picture.setdefault(row, {})[name] = {
            "constant_change": _constant_change(system, plan),
            "noise_change": noisy,
            "noise_over_clip": noisy / beside["clip_change"],
            "noise_over_still": noisy / beside["still_change"],
            "skin_change": swimming,
            "skin_over_still": swimming / beside["skin_change"],
            **_border_figures(system, plan),
        }

    def figures(self) -> dict[str, dict[str, float]]:
        """Row to figures over all pictures: the greatest of what should be nothing, otherwise means."""
        table: dict[str, dict[str, float]] = {}
        for title in sorted(self.per_picture, key=lambda row: row != REAL):
            rows = list(self.per_picture[title].values())
            table[title] = {"pictures": float(len(rows)), **mean_figures(rows)}
            for key in {"constant_change", "batch_change"} & set(table[title]):
                table[title][key] = max(row[key] for row in rows if key in row)
        return table


def real_changes(clip: Clip, frames: ClipFrames) -> dict[str, float]:
    """What a real clip's lower face changes from frame to frame.

    Returns:
        `clip_change` over the whole clip, `still_change` where its lips move least, and
        `skin_change`, the same of the skin around them. Grey levels; at least a thousandth, for
        they are divided by.
    """
    faces = clip.crop_landmarks
    window = FaceWindow(clip.affines, clip.landmarks, FINE_PX)
    crops = window.crops(frames.frames)
    changes = mean_changes(crops, window.mask)
    still = stillest(faces, _STILL_CHANGES)
    found = {
        "clip_change": changes,
        "still_change": changes[still.start : still.stop - 1],
        "skin_change": mean_changes(crops[still], skin_around(window.mask, faces)),
    }
    return {key: max(float(values.mean()), 1e-3) for key, values in found.items()}


def mean_changes(crops: Sequence[Frames], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean |difference| of T consecutive pictures `(S, S, 3)` over `mask` `(S, S)`: `(T - 1,)`, grey levels."""
    inside = [crop[mask].astype(np.int16) for crop in crops]
    pairs = zip(inside[1:], inside[:-1], strict=True)
    return np.array([np.abs(after - before).mean() for after, before in pairs], np.float64)


def stillest(faces: Points, changes: int) -> slice:
    """The frames between which the lips `(T, 68, 2)` move least for so many changes in a row."""
    steps = np.abs(np.diff(faces[:, list(LIPS)], axis=0)).mean(axis=(1, 2))
    count = min(changes, len(steps))
    sums = np.convolve(steps, np.ones(count), mode="valid")
    first = int(sums.argmin())
    return slice(first, first + count + 1)


def skin_around(mask: NDArray[np.bool_], faces: Points) -> NDArray[np.bool_]:
    """`mask` `(S, S)` without the lips of all `faces` `(T, 68, 2)`, crop units, and what is near them."""
    size = len(mask)
    lips = faces[:, list(OUTER_LIPS)].reshape(-1, 2).astype(np.float32) * size
    away = np.ones((size, size), np.uint8)
    cv2.fillConvexPoly(away, np.round(cv2.convexHull(lips)[:, 0]).astype(np.int32), 0)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, 5)
    return np.asarray(mask & (distance > _LIP_MARGIN * size), np.bool_)


def _draw(system: System, plan: RenderPlan, targets: Points) -> list[Frames]:
    return list(system.draw(dataclasses.replace(plan, target_landmarks=targets)))


def _window(plan: RenderPlan, targets: Points) -> FaceWindow:
    """Where frames of a still picture that show `targets` `(T, 68, 2)` are compared."""
    affine = plan.affine(0)
    places = np.repeat(affine[None], len(targets), axis=0)
    return FaceWindow(places, warp_points(invert_affine(affine), targets), FINE_PX)


def _constant_change(system: System, plan: RenderPlan) -> float:
    """Largest difference of any pixel between frames of one face; two batches and a part of a third."""
    widest = plan.target_landmarks[mouth_opening(plan.target_landmarks).argmax()]
    first, *others = _draw(system, plan, np.repeat(widest[None], 2 * plan.batch_size + 2, axis=0))
    return float(max(np.abs(frame.astype(np.int16) - first).max() for frame in others))


def _noise_change(system: System, plan: RenderPlan, clip: Clip) -> float:
    """Mean change in the mask under noise, of a mouth at rest and of a wide one."""
    targets = plan.target_landmarks
    rest = stillest(clip.crop_landmarks, _STILL_CHANGES).start
    rng = np.random.default_rng(0)
    found = []
    for face in (targets[rest], targets[mouth_opening(targets).argmax()]):
        noise = rng.normal(0, NOISE_PX / FINE_PX, (_STILL_CHANGES + 1, *face.shape))
        noisy = (face + noise).astype(np.float32)
        window = _window(plan, noisy)
        found.append(mean_changes(window.crops(_draw(system, plan, noisy)), window.mask).mean())
    return float(np.mean(found))


def _skin_change(system: System, plan: RenderPlan) -> float:
    """Mean change of the skin around the lips while they alone follow the clip, where they move most."""
    steps = np.abs(np.diff(mouth_opening(plan.target_landmarks)))
    count = min(2 * _STILL_CHANGES, len(steps))
    first = int(np.convolve(steps, np.ones(count), mode="valid").argmax())
    moving = plan.target_landmarks[first : first + count + 1]
    targets = np.repeat(plan.reference_landmarks[None], len(moving), axis=0)
    targets[:, list(LIPS)] = moving[:, list(LIPS)]
    window = _window(plan, targets)
    crops = window.crops(_draw(system, plan, targets))
    return float(mean_changes(crops, skin_around(window.mask, targets)).mean())


def _border_figures(system: System, plan: RenderPlan) -> dict[str, float]:
    """A moving mouth in batches of two sizes.

    Returns:
        `border_ratio`: the change where a batch begins, over that of the same frames where none
        does. `batch_change`: the largest difference of any pixel between the two drawings. Nothing
        where the clip fills no two batches.
    """
    size = plan.batch_size
    targets = plan.target_landmarks[: _BATCHES * size + 1]
    borders = [t for t in range(size, len(targets), size) if t % (size + 1)]
    if not borders:
        return {}
    other = dataclasses.replace(plan, batch_size=size + 1)
    window = _window(plan, targets)
    ours, theirs = _draw(system, plan, targets), _draw(system, other, targets)
    jumps, usual = (
        mean_changes(window.crops(frames), window.mask)[np.array(borders) - 1].mean()
        for frames in (ours, theirs)
    )
    apart = max(
        float(np.abs(first.astype(np.int16) - second).max())
        for first, second in zip(ours, theirs, strict=True)
    )
    return {"border_ratio": float(jumps / max(usual, 1e-3)), "batch_change": apart}
