"""Unseen photographs moved by real mouths: what the pixels are worth, whatever the sound gave.

    photograph ─▶ its face ─────────────┐
    a held-out clip's landmarks ────────┴▶ retarget ─▶ target landmarks ─▶ drawn ─▶ face found again
                                                             └──── opening, r ────────────┘

No sound is heard, so nothing here depends on the landmark completer. Every n-th frame of a clip is
enough: frames are drawn one by one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip, ClipFrames, find_landmarks
from model.evaluation.metrics.landmarks import mouth_figures
from model.evaluation.metrics.pictures import FINE_PX, fine_sharpness
from model.evaluation.observation import sheet_tiles
from model.evaluation.protocols.still import Photographs
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


def still_plan(system: System, image: Frames) -> RenderPlan:
    """A plan of a photograph `(H, W, 3)`, uint8 RGB, that hears nothing and shows its own face once.

    Raises:
        InputError: The photograph shows no face.
    """
    plan = system.pipeline.prepare(image, _UNHEARD, system.options)
    return dataclasses.replace(plan, target_landmarks=plan.reference_landmarks[None])


def follow_clip(plan: RenderPlan, clip: Clip, stride: int = 1) -> RenderPlan:
    """`plan` of a photograph with the mouth of every `stride`-th frame of a real clip.

    The clip's whole length decides how its motion is carried over, whatever the stride.
    """
    motion = retarget(plan.reference_landmarks, clip.crop_landmarks)
    return dataclasses.replace(plan, target_landmarks=motion[::stride])


@dataclass
class RealMotion(Photographs):
    """Unseen photographs driven by the landmarks of unseen clips, one in `stride` of their frames.

    The row `REAL` are the clips themselves.
    """

    stride: int = 1

    def add(self, name: str, image: Frames, clip: Clip, frames: ClipFrames, system: System) -> None:
        """Measure one photograph `(H, W, 3)`, uint8 RGB, with the mouth of a clip.

        The clip's own pictures, the real video, stand beside the drawn ones.

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

        # 2. its figures; one short clip says nothing about a lag
        own = max(fine_sharpness(image, affine, plan.reference_landmarks), 1e-9)
        sharp = [fine_sharpness(x, affine, y) / own for x, y in zip(drawn, targets, strict=True)]
        seen = self.keep_openings(system.name, opening, meant)
        row = {key: value for key, value in seen.items() if "lag" not in key}
        self.keep(system.name, name, {**row, "sharpness": float(np.mean(sharp))})

        # 3. the clip as a system of its own, its first frame as the photograph
        self.keep(REAL, name, {"sharpness": _real_sharpness(clip, frames, self.stride)})
        crops = np.stack([crop_image(frame, affine, FINE_PX) for frame in drawn])
        photograph = crop_image(image, affine, FINE_PX)
        self.sheets[f"{system.name}: {name}"] = sheet_tiles(crops, meant, photograph)

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
            if name not in self.drawn:
                continue
            row["faces_found"] = float(np.isfinite(np.concatenate(self.drawn[name])).mean())
            row.update(mouth_figures(self.drawn[name], self.meant[name]))
            if "best_lag" in row:
                row["best_lag"] *= self.stride
            each = [f["opening_r"] for f in pictures.values() if "opening_r" in f]
            if each:
                row["r_median"] = float(np.median(each))
                row["r_least"] = float(np.min(each))
        return table


def _real_sharpness(clip: Clip, frames: ClipFrames, stride: int) -> float:
    """Mean sharpness of the clip's own mouth over that of its first frame with a face."""
    affines, faces = clip.affines, clip.crop_landmarks

    def sharpness(index: int) -> float:
        return fine_sharpness(frames.frames[index], affines[index], faces[index])

    first = max(sharpness(clip.reference), 1e-9)
    return float(np.mean([sharpness(i) / first for i in range(0, clip.num_frames, stride)]))
