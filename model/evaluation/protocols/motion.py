"""Unseen photographs moved by real mouths: what the pixels are worth, whatever the sound gave.

    photograph ─▶ its face ─────────────┐
    a held-out clip's landmarks ────────┴▶ retarget ─▶ target landmarks ─▶ drawn ─▶ face found again
                                                             └──── opening, r ────────────┘

No sound is heard, so nothing here depends on the landmark completer. Every n-th frame of a clip is
enough: frames are drawn one by one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip, ClipFrames, find_landmarks
from model.evaluation.metrics.mouth_motion import mouth_figures
from model.evaluation.metrics.pictures import FINE_PX, fine_sharpness
from model.evaluation.observation import Judges, sheet_tiles
from model.evaluation.protocols.video import REAL, System
from model.face.alignment import crop_image, invert_affine, warp_points
from model.face.landmarks import mouth_opening
from model.face.retargeting import retarget
from model.media.audio import FPS, SAMPLES_PER_FRAME
from model.pipelines.outputs import RenderPlan

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]

SHARP_ENOUGH: Final = 0.6
"""Share of the photograph's own sharpness that a drawn mouth should keep."""
_UNHEARD: Final = np.zeros(FPS * SAMPLES_PER_FRAME, np.float32)


def still_plan(system: System, image: Frames, targets: Points | None = None) -> RenderPlan:
    """A plan of a photograph that follows given landmarks and no sound.

    Args:
        system: Will draw it.
        image: `(H, W, 3)`, uint8 RGB.
        targets: Faces to draw `(T, 68, 2)`, crop units; None = the photograph's own, once.
    Raises:
        InputError: The photograph shows no face.
    """
    plan = system.pipeline.prepare(image, _UNHEARD, system.options)
    own = plan.reference_landmarks[None] if targets is None else targets
    return dataclasses.replace(plan, target_landmarks=np.asarray(own, np.float32))


def follow_clip(plan: RenderPlan, clip: Clip, stride: int = 1) -> RenderPlan:
    """`plan` of a photograph with the mouth of every `stride`-th frame of a real clip.

    The clip's whole length decides how its motion is carried over, whatever the stride.
    """
    motion = retarget(plan.reference_landmarks, clip.crop_landmarks)
    return dataclasses.replace(plan, target_landmarks=motion[::stride])


@dataclass
class RealMotion:
    """Unseen photographs driven by the landmarks of unseen clips.

    Attributes:
        judges: Who judges.
        stride: Every so many frames of a clip are drawn.
        per_picture: System, or `REAL` for the clips themselves, to picture to figures.
        sheets: Mouth and chin of the photograph and of five drawn frames, by system and picture.
    """

    judges: Judges
    stride: int = 1
    per_picture: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    sheets: dict[str, Frames] = field(default_factory=dict)
    _drawn: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    _meant: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    def add(self, name: str, image: Frames, clip: Clip, frames: ClipFrames, system: System) -> None:
        """Measure one photograph.

        Args:
            name: What it is called.
            image: `(H, W, 3)`, uint8 RGB.
            clip: Whose mouth it gets.
            frames: That clip's pictures; the real video stands beside the drawn ones.
            system: Draws.
        Raises:
            InputError: The photograph shows no face.
        """
        # 1. what is to be seen, drawn, and found again
        plan = follow_clip(still_plan(system, image), clip, self.stride)
        affine, targets = plan.affine(0), plan.target_landmarks
        drawn = list(system.draw(plan))
        near = warp_points(invert_affine(affine), targets)
        opening = mouth_opening(find_landmarks(self.judges.detector, drawn, near))
        meant = mouth_opening(targets)

        # 2. its figures
        own = max(fine_sharpness(image, affine, plan.reference_landmarks), 1e-9)
        sharp = [fine_sharpness(x, affine, y) / own for x, y in zip(drawn, targets, strict=True)]
        self.per_picture.setdefault(system.name, {})[name] = {
            "faces_found": float(np.isfinite(opening).mean()),
            **_without_lag(mouth_figures([opening], [meant])),
            "sharpness": float(np.mean(sharp)),
        }
        self._drawn.setdefault(system.name, []).append(opening)
        self._meant.setdefault(system.name, []).append(meant)

        # 3. the clip as a system of its own, its first frame as the photograph
        self.per_picture.setdefault(REAL, {})[name] = {
            "sharpness": _real_sharpness(clip, frames, self.stride)
        }
        crops = np.stack([crop_image(frame, affine, FINE_PX) for frame in drawn])
        tiles = sheet_tiles(crops, meant)
        tiles[0] = sheet_tiles(crop_image(image, affine, FINE_PX)[None], meant[:1])[0]
        self.sheets[f"{system.name}: {name}"] = tiles

    def figures(self) -> dict[str, dict[str, float]]:
        """System to figures: of all frames together, and how the photographs spread."""
        table: dict[str, dict[str, float]] = {}
        for name in sorted(self.per_picture, key=lambda title: title != REAL):
            pictures = self.per_picture[name]
            row = table[name] = {"pictures": float(len(pictures))}
            sharp = np.array([figures["sharpness"] for figures in pictures.values()])
            row["sharpness_mean"] = float(np.nanmean(sharp))
            row["sharpness_median"] = float(np.nanmedian(sharp))
            row["sharp_share"] = float(np.mean(sharp >= SHARP_ENOUGH))
            if name not in self._drawn:
                continue
            row["faces_found"] = float(np.isfinite(np.concatenate(self._drawn[name])).mean())
            row.update(mouth_figures(self._drawn[name], self._meant[name]))
            if "best_lag" in row:
                row["best_lag"] *= self.stride
            each = [f["opening_r"] for f in pictures.values() if "opening_r" in f]
            if each:
                row["r_median"] = float(np.median(each))
                row["r_least"] = float(np.min(each))
        return table


def _without_lag(figures: dict[str, float]) -> dict[str, float]:
    """One short clip says nothing about a lag."""
    return {key: value for key, value in figures.items() if "lag" not in key}


def _real_sharpness(clip: Clip, frames: ClipFrames, stride: int) -> float:
    """Mean sharpness of the clip's own mouth over that of its first frame with a face."""
    affines, faces = clip.affines, clip.crop_landmarks

    def sharpness(index: int) -> float:
        return fine_sharpness(frames.frames[index], affines[index], faces[index])

    first = max(sharpness(clip.reference), 1e-9)
    return float(np.mean([sharpness(i) / first for i in range(0, clip.num_frames, stride)]))
